"""Text that isn't TOML: what tomllib says about it, in words that tell a user what to write instead."""

import re

from vmsilo_generator import where
from vmsilo_generator.model import Problem
from vmsilo_generator.problems import dotted
from vmsilo_generator.reader import shown

_CONTROL = "a control character can't stand here: remove it"
_NO_DATE = "there is no such date or time; text needs quotes"

# tomllib's messages by their beginning; {found} is what stands at the place.
_ADVICE = (
    ("Invalid statement", "expected a key, a [table] or a # comment, found {found}"),
    ("Expected newline or end of document", "expected the end of the line, found {found}{text}"),
    ("Invalid value", "expected a value, found {found}{text}"),
    ("Unterminated string", "this text has no closing quote"),
    ("Illegal character '\\n'", 'expected a closing quote on this line; text of several lines stands in """'),
    ("Found invalid character '\\n'", "expected a closing quote on this line; text of several lines stands in '''"),
    ("Illegal character", "a control character can't stand here: write it as an escape, like \\u001b"),
    ("Found invalid character", _CONTROL),
    ("Expected '\"'", "this text has no closing quote"),
    ("Expected \"'", "this text has no closing quote"),
    ("Unescaped '\\'", "a backslash begins an escape: write \\\\, or put the text in single quotes"),
    ("Invalid hex value", "expected hexadecimal digits: four behind \\u, eight behind \\U"),
    ("Escaped character is not", "this escape is no character of Unicode"),
    ("Invalid initial character for a key", "expected a key, found {found}; other characters need quotes"),
    ("Expected '=' after a key", 'expected "=" behind the key, found {found}'),
    ("Unclosed array", 'expected "," or "]" in this list, found {found}'),
    ("Unclosed inline table", 'expected "," or "}}" in this one-line table, found {found}'),
    ("Expected ']' at the end", 'expected "]" behind the table\'s name, found {found}'),
    ("Expected ']]' at the end", 'expected "]]" behind the table\'s name, found {found}'),
    ("Invalid date", _NO_DATE),
)
_TEXT = ": text needs quotes, and numbers have no unit"

# Dates and numbers.
_OF_VALUES = frozenset("0123456789_-+:.TZtz")
_DATE = re.compile(r"\d{4}-|\d\d:")
_LEADING_ZEROS = re.compile(r"([+-]?)0[0_]*([1-9][\d_]*)")

# The messages of a key that is already taken.
_TWICE = ("Cannot overwrite", "Cannot declare", "Cannot mutate", "Cannot redefine", "Duplicate inline table key")


def problem(file: str, text: str, error: Exception) -> Problem:
    """The problem behind an exception of tomllib.loads(text)."""
    if isinstance(error, RecursionError):
        return Problem(file, (), "lists or tables stand in each other too deeply", line=1, column=1)
    words, _at, coordinates = str(error).removesuffix(")").rpartition(" (at ")
    offset = _offset(text, coordinates)
    if not words:  # int() refuses before tomllib can
        at = where.place(text, where.longest_number(text))
        return Problem(file, (), "this number has too many digits", line=at.line, column=at.column)
    if words.startswith(_TWICE):
        return _taken(file, text, offset)
    advice = _advice(words, text, offset)
    if words.startswith(("Expected newline", "Unclosed")):
        start, whole = _cut_short(text, offset)
        if whole:
            offset, advice = start, whole
    at = where.place(text, _caret(text, offset))
    return Problem(file, (), advice, line=at.line, column=at.column)


def _cut_short(text: str, offset: int) -> tuple[int, str]:
    """Where the value before *offset* begins and what is wrong with all of it, if it was to be a date or a number."""
    start = end = offset
    while start and text[start - 1] in _OF_VALUES:
        start -= 1
    while end < len(text) and text[end] in _OF_VALUES:
        end += 1
    word = text[start:end]
    if _DATE.match(word):
        return start, _NO_DATE
    if number := _LEADING_ZEROS.fullmatch(word):
        return start, f"a number can't begin with a zero: write {number[1]}{number[2]}"
    return offset, ""


def _caret(text: str, offset: int) -> int:
    """Where to point: for a text without an end at its opening quote, else at most behind the last character."""
    if offset < len(text):
        return offset
    quote = where.scan(text).open_quote
    return quote if quote >= 0 else len(text.rstrip())


def _offset(text: str, coordinates: str) -> int:
    """The offset of ``line 1, column 2`` or ``end of document``."""
    fields = coordinates.split()
    if len(fields) != 4 or fields[0] != "line":
        return len(text)
    return where.offset_of(text, where.Place(int(fields[1].rstrip(",")), int(fields[3])))


def _advice(words: str, text: str, offset: int) -> str:
    if offset == 0 and text.startswith("\ufeff"):
        return "the file begins with a byte order mark: save it without"
    if not words.startswith("Illegal") and "" < text[offset : offset + 1] < " " and text[offset] not in "\t\n":
        return _CONTROL
    if words.startswith("Invalid initial character") and _found(text, offset) == '"}"':
        return "a one-line table has no comma behind its last value: remove it"
    for beginning, advice in _ADVICE:
        if words.startswith(beginning):
            return advice.format(found=_found(text, offset), text=_hint(text, offset))
    return words[0].lower() + words[1:]


def _found(text: str, offset: int) -> str:
    """The word at *offset*."""
    if offset >= len(text):
        return "the end of the file"
    rest = text[offset:].split("\n", 1)[0].strip()
    if not rest:
        return "the end of the line"
    word = rest.split()[0]
    return shown(word.split("=")[0].split(",")[0].rstrip("]}") or word[0])


def _hint(text: str, offset: int) -> str:
    """What to do about a value that is none."""
    word = text[offset:].split("\n", 1)[0].split("#")[0].strip().rstrip(",")
    start = text.rfind("\n", 0, offset) + 1
    if not word:
        return ""
    if text[start:].lstrip().startswith("["):
        return ": a table's name stands alone on its line"
    if "=" in text[start:offset] and not text[offset - 1].isalnum() and "=" in word:
        return ": each key stands on a line of its own"
    if word.lower() in ("true", "yes", "on"):
        return ": write true"
    if word.lower() in ("false", "no", "off"):
        return ": write false"
    if word.lower() in ("null", "none", "nil"):
        return ": for no value leave the option out"
    return _TEXT


def _taken(file: str, text: str, offset: int) -> Problem:
    """The problem of a key that can't be set any more where it stands."""
    start = text.rfind("\n", 0, offset) + 1
    if text[start:].lstrip().startswith("["):  # a header ends behind the place, a value at it
        end = text.find("\n", offset)
        offset = end if end >= 0 else len(text)
    places = where.scan(text[:offset])
    key, begin = places.latest
    at = where.place(text, begin)
    first = next((k for k in (key[:n] for n in range(len(key), 0, -1)) if places.keys.get(k, begin) < begin), key)
    before = where.place(text, places.keys.get(first, begin)).line
    if first == key:
        message = f"stands here a second time, first in line {before}: put all of it in one place"
    else:
        message = f"{dotted(first)} was completed in line {before} and can't be added to: put all of it there"
    return Problem(file, key, message, line=at.line, column=at.column)
