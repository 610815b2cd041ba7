"""Where a key or value stands in a TOML text, and which word may have been meant.

Loaded only when something is wrong.
tomllib keeps no positions, so the text is scanned again. The scan relies on the text being valid, which tomllib has
already found; of a text that isn't, the part before the fault is scanned (TOML v1.0.0).
"""

import difflib
import tomllib
from collections.abc import Iterable
from typing import NamedTuple

from vmsilo_generator.options import OPTIONS, Scope

Key = tuple[str | int, ...]

_SPACE = " \t\r"
_SPACE_AND_NEWLINE = " \t\r\n"
_VALUE_END = ",]}#\n"


class Place(NamedTuple):
    """A character of a text; line and column count from 1."""

    line: int
    column: int


class Places:
    """The places of all keys and values of a text."""

    __slots__ = ("_text", "keys", "latest", "open_quote", "values")

    def __init__(self, text: str) -> None:
        self._text = text
        # Offsets of the first character. Of a table that is opened several times, the first time counts.
        self.keys: dict[Key, int] = {}
        self.values: dict[Key, int] = {}
        self.latest: tuple[Key, int] = (), 0  # the key of the last line begun, and where it begins
        self.open_quote = -1  # where a text begins that has no end

    def of(self, key: Key, *, of_key: bool = False) -> Place:
        """The place of a key's value, or of the key itself; of what it is in, where it isn't in the text."""
        first, second = (self.keys, self.values) if of_key else (self.values, self.keys)
        while key:
            offset = first.get(key, second.get(key))
            if offset is not None:
                return place(self._text, offset)
            key = key[:-1]
        return Place(1, 1)


def place(text: str, offset: int) -> Place:
    """Line and column of an offset."""
    return Place(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def offset_of(text: str, at: Place) -> int:
    """The offset of line and column."""
    offset = 0
    for _ in range(at.line - 1):
        offset = text.find("\n", offset) + 1
    return min(offset + at.column - 1, len(text))


def line(text: str, number: int) -> str:
    """The line of that number, from 1, without its end."""
    lines = text.split("\n", number)
    return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""


def longest_number(text: str) -> int:
    """The offset of the longest run of digits."""
    runs = "".join(c if c in "0123456789_" else " " for c in text).split(" ")
    return text.find(max(runs, key=len))


def scan(text: str) -> Places:
    """The places of a valid text, or of as much of it as is valid."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except (IndexError, RecursionError):
        pass  # ends within a value, or deeper than any option
    return scanner.places


class _Scanner:
    """Goes through the text once."""

    __slots__ = ("at", "lists", "places", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.places = Places(text)
        self.lists: dict[Key, int] = {}  # the arrays of tables, with the index of the last table

    def document(self) -> None:
        header: Key = ()
        while True:
            self.skip(_SPACE_AND_NEWLINE)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "#":
                self.comment()
            elif self.text[self.at] == "[":
                header = self.header()
            else:
                self.pair(header)

    def header(self) -> Key:
        """``[a.b]`` or ``[[a.b]]``: the key of the table it opens."""
        start = self.at
        is_list = self.text.startswith("[[", start)
        self.at += 2 if is_list else 1
        key: Key = ()
        parts = self.key()
        for number, (part, offset) in enumerate(parts):
            key = (*key, part)
            last = number == len(parts) - 1
            self.note(key, offset, start if last else offset)
            if is_list and last:
                self.lists[key] = self.lists.get(key, -1) + 1
            if key in self.lists:
                key = (*key, self.lists[key])
                self.note(key, offset, start if last else offset)
        self.places.latest = key, parts[0][1]
        self.skip(_SPACE)
        self.at += 2 if is_list else 1
        return key

    def pair(self, table: Key) -> None:
        """``a.b = value``"""
        key = table
        parts = self.key()
        for part, offset in parts:
            key = (*key, part)
            self.note(key, offset)
        self.places.latest = key, parts[0][1]
        self.skip(_SPACE)
        self.at += 1  # =
        self.skip(_SPACE)
        self.value(key)

    def note(self, key: Key, of_key: int, of_value: int | None = None) -> None:
        self.places.keys.setdefault(key, of_key)
        if of_value is not None:
            self.places.values.setdefault(key, of_value)

    def key(self) -> list[tuple[str, int]]:
        """The parts of a dotted key, each with its offset."""
        parts: list[tuple[str, int]] = []
        while True:
            self.skip(_SPACE)
            start = self.at
            if self.text[start] in "\"'":
                self.string()
                parts.append((_unquoted(self.text[start : self.at]), start))
            else:
                while self.text[self.at].isalnum() or self.text[self.at] in "-_":
                    self.at += 1
                if self.at == start:
                    raise IndexError(start)  # no key: the text isn't valid from here on
                parts.append((self.text[start : self.at], start))
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def value(self, key: Key) -> None:
        self.places.values.setdefault(key, self.at)
        first = self.text[self.at]
        if first in "\"'":
            self.string()
        elif first == "[":
            self.array(key)
        elif first == "{":
            self.inline_table(key)
        else:
            while self.at < len(self.text) and self.text[self.at] not in _VALUE_END:
                self.at += 1

    def array(self, key: Key) -> None:
        self.at += 1
        index = 0
        while True:
            self.blank()
            if self.text[self.at] == "]":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            before = self.at
            self.value((*key, index))
            if self.at == before:
                raise IndexError(before)
            index += 1
        self.at += 1

    def inline_table(self, key: Key) -> None:
        self.at += 1
        while True:
            self.blank()
            if self.text[self.at] == "}":
                break
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.pair(key)
        self.at += 1

    def string(self) -> None:
        """Any of the four kinds of string."""
        quote = self.text[self.at]
        self.places.open_quote = self.at
        end = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(end)
        while not self.text.startswith(end, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            if self.at >= len(self.text):
                raise IndexError(self.at)
        self.at += len(end)
        self.places.open_quote = -1
        # Up to two more quotes belong to the text: """"a""""".
        for _ in range(2):
            if len(end) == 3 and self.text.startswith(quote, self.at):
                self.at += 1

    def blank(self) -> None:
        """White space, newlines and comments, as between the items of an array."""
        self.skip(_SPACE_AND_NEWLINE)
        while self.text[self.at] == "#":
            self.comment()
            self.skip(_SPACE_AND_NEWLINE)

    def comment(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def skip(self, characters: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1


def _unquoted(word: str) -> str:
    """The text that a quoted key stands for."""
    try:
        return str(tomllib.loads(f"k={word}")["k"])
    except tomllib.TOMLDecodeError:
        return word


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that *word* is most likely a slip of, None where no one comes close."""
    plain = {_plain(candidate): candidate for candidate in words}
    match = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.7)
    return plain[match[0]] if match else None


def paths_like(path: str, scope: Scope) -> tuple[str, ...]:
    """The options that end like *path* but stand in another table, or else the one that is written close to it."""
    paths = [option.path for option in OPTIONS if option.scope is scope]
    paths = [candidate for candidate in paths if "<" not in candidate and "[" not in candidate]
    last = _plain(path.rpartition(".")[2])
    same = tuple(candidate for candidate in paths if _plain(candidate.rpartition(".")[2]) == last)
    near = None if same else nearest(path, paths)
    return (near,) if near is not None else same


def _plain(word: str) -> str:
    """A word without what is easily taken for one another: case, dashes, underscores."""
    return word.lower().replace("-", "").replace("_", "")
