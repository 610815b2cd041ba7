"""Positions in TOML: of generated documents whose positions are known, and of the odd forms by hand."""

from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmsilo_generator import where
from vmsilo_generator.options import Scope

BY_HAND = r"""
top = 1 # comment with key = "x" and [brackets]
"quoted key".'literal.key' . bare = true
many = [ # comment ]
  "a", # "b"
  [1, 2], { x = 1, y.z = "}" },
]
text = QQQ
fake = 1
\QQQ [no] ""QQQ
literal = '''
fake = 2
''''
date = 1979-05-27 07:32:00
[table . "sub"]
key = "# no comment"
[[list]]
a = 1
[[list]]
a = 2
[list.inner]
b = 3
[[list.deep]]
c = 4
"""[1:].replace("QQQ", 3 * '"')

PLACES = [
    (("top",), 1, 1, 1, 7),
    (("quoted key",), 2, 1, None, None),
    (("quoted key", "literal.key"), 2, 14, None, None),
    (("quoted key", "literal.key", "bare"), 2, 30, 2, 37),
    (("many",), 3, 1, 3, 8),
    (("many", 0), None, None, 4, 3),
    (("many", 1, 1), None, None, 5, 7),
    (("many", 2), None, None, 5, 11),
    (("many", 2, "x"), 5, 13, 5, 17),
    (("many", 2, "y", "z"), 5, 22, 5, 26),
    (("text",), 7, 1, 7, 8),
    (("literal",), 10, 1, 10, 11),
    (("date",), 13, 1, 13, 8),
    (("table",), 14, 2, 14, 2),
    (("table", "sub"), 14, 10, 14, 1),
    (("table", "sub", "key"), 15, 1, 15, 7),
    (("list",), 16, 3, 16, 1),
    (("list", 0), 16, 3, 16, 1),
    (("list", 1), 18, 3, 18, 1),
    (("list", 1, "a"), 19, 1, 19, 5),
    (("list", 1, "inner"), 20, 7, 20, 1),
    (("list", 1, "inner", "b"), 21, 1, 21, 5),
    (("list", 1, "deep", 0, "c"), 23, 1, 23, 5),
]


@pytest.mark.parametrize("row", PLACES, ids=lambda row: repr(row[0]))
def test_by_hand(row: tuple[where.Key, int, int, int, int]) -> None:
    key, line, column, value_line, value_column = row
    places = where.scan(BY_HAND)
    if line is not None:
        assert places.of(key, of_key=True) == (line, column)
    if value_line is not None:
        assert places.of(key) == (value_line, value_column)


def test_what_is_not_there_is_looked_for_in_what_it_would_be_in() -> None:
    places = where.scan(BY_HAND)
    assert places.of(("list", 1, "missing", "more"), of_key=True) == (18, 3)
    assert places.of(("missing",)) == (1, 1)
    assert places.of(()) == (1, 1)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends(end: str) -> None:
    text = f"a = 1{end}b = '''{end}x'''{end}c = 2"
    assert where.scan(text).of(("c",)) == (4, 5)
    assert where.line(text, 1) == "a = 1"
    assert where.line(text, 4) == "c = 2"
    assert where.line(text, 5) == ""


# Documents are written piece by piece, and where each piece lands is noted.


class Written(NamedTuple):
    text: str
    keys: dict[where.Key, int]
    values: dict[where.Key, int]


BARE = st.text("abcXYZ019-_", min_size=1, max_size=6)
ANY = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)


def quoted(text: str) -> str:
    """A basic string, everything odd escaped."""
    plain = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in text)
    return f'"{plain}"'


@st.composite
def words(draw: Any) -> tuple[str, str]:
    """A key and one way to write it."""
    if draw(st.booleans()):
        bare = draw(BARE)
        return bare, bare
    key = draw(ANY)
    if key.isprintable() and "'" not in key and draw(st.booleans()):
        return key, f"'{key}'"
    return key, quoted(key)


SPACE = st.sampled_from(["", " ", "\t", "  "])
GAP = st.sampled_from(["", " ", "\n", "\r\n", " # ]},\"'\n", "\n\n\t"])
SCALARS = st.one_of(
    st.sampled_from(["1", "-2.5e3", "true", "inf", "1979-05-27", "1979-05-27T07:32:00Z", "0xFF", "1_000"]),
    ANY.map(quoted),
    st.sampled_from(["''", "'#[{'", '"""\nx = 1\n[y]\n"""', "'''\n'' x = \"\n'''"]),
    st.sampled_from([r'"""a\""""""', '"""""a"""""', "''''a'''''"]),
)


class Writer:
    """Writes one document."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.keys: dict[where.Key, int] = {}
        self.values: dict[where.Key, int] = {}

    def add(self, text: str) -> None:
        self.text += text

    def name(self, parent: where.Key, taken: set[str]) -> where.Key | None:
        """Write a key of one or two parts; None if it is taken already."""
        parts = self.draw(st.lists(words(), min_size=1, max_size=2))
        if parts[0][0] in taken:
            return None
        taken.add(parts[0][0])
        key = parent
        for number, (part, written) in enumerate(parts):
            if number:
                self.add(self.draw(SPACE) + "." + self.draw(SPACE))
            key = (*key, part)
            self.keys[key] = len(self.text)
            self.add(written)
        return key

    def value(self, key: where.Key, depth: int = 0) -> None:
        self.values[key] = len(self.text)
        kind = self.draw(st.sampled_from(["scalar", "list", "table"] if depth < 3 else ["scalar"]))
        if kind == "list":
            self.add("[")
            for index in range(self.draw(st.integers(0, 3))):
                self.add(self.draw(GAP))
                self.value((*key, index), depth + 1)
                self.add(self.draw(GAP) + ",")
            self.add(self.draw(GAP) + "]")
        elif kind == "table":
            self.add("{" + self.draw(SPACE))
            taken: set[str] = set()
            for _ in range(self.draw(st.integers(0, 3))):
                before = self.text
                if taken:
                    self.add("," + self.draw(SPACE))
                name = self.name(key, taken)
                if name is None:
                    self.text = before
                    continue
                self.add(self.draw(SPACE) + "=" + self.draw(SPACE))
                self.value(name, depth + 1)
                self.add(self.draw(SPACE))
            self.add("}")
        else:
            self.add(self.draw(SCALARS))

    def pairs(self, parent: where.Key) -> None:
        taken: set[str] = set()
        for _ in range(self.draw(st.integers(0, 3))):
            self.add(self.draw(st.sampled_from(["", "# a = 1\n", "\n", "  ", "\t"])))
            name = self.name(parent, taken)
            if name is None:
                continue
            self.add(self.draw(SPACE) + "=" + self.draw(SPACE))
            self.value(name)
            self.add(self.draw(st.sampled_from(["\n", "\r\n", " # '\"\n"])))

    def document(self) -> Written:
        self.pairs(())
        for number in range(self.draw(st.integers(0, 3))):
            key: where.Key = (f"T{number}",)
            if self.draw(st.booleans()):
                for index in range(self.draw(st.integers(1, 3))):
                    item: where.Key = (*key, index)
                    self.values[item] = len(self.text)
                    self.add("[[")
                    self.keys[item] = len(self.text)
                    self.add(f"T{number}]]\n")
                    self.pairs(item)
            else:
                self.values[key] = len(self.text)
                self.add("[ ")
                self.keys[key] = len(self.text)
                self.add(f"T{number} ] # x\n")
                self.pairs(key)
        return Written(self.text, self.keys, self.values)


@st.composite
def documents(draw: Any) -> Written:
    return Writer(draw).document()


@given(documents())
def test_generated(written: Written) -> None:
    import tomllib

    try:
        tomllib.loads(written.text)
    except tomllib.TOMLDecodeError:
        return  # a dotted key ran into one that was there before
    places = where.scan(written.text)
    for key, offset in written.keys.items():
        assert places.keys[key] == offset
        assert places.of(key, of_key=True) == where.place(written.text, offset)
    for key, offset in written.values.items():
        assert places.values[key] == offset


@given(st.text(max_size=40))
@example('"')
@example("[a")
@example("a = [")
@example("a = {b")
@example('a = """')
def test_any_text_is_scanned_to_an_end(text: str) -> None:
    places = where.scan(text)
    for offset in [*places.keys.values(), *places.values.values()]:
        assert 0 <= offset <= len(text)


@given(st.text("ab\n", max_size=30), st.integers(0, 30))
def test_place_and_offset_are_each_others_inverse(text: str, offset: int) -> None:
    offset = min(offset, len(text))
    assert where.offset_of(text, where.place(text, offset)) == offset


def test_nearest() -> None:
    assert where.nearest("memroy", ["memory", "cpus"]) == "memory"
    assert where.nearest("AUTO-START", ["autoStart", "autoShutdown"]) == "autoStart"
    assert where.nearest("zzz", ["memory"]) is None
    assert where.paths_like("netvm", Scope.VM) == ("network.netvm",)
    assert where.paths_like("wyland", Scope.VM) == ("gpu.wayland",)
    assert where.paths_like("zzz", Scope.VM) == ()
    assert "qemu.logLevel" in where.paths_like("logLevel", Scope.VM)
    assert where.paths_like("network.netvn", Scope.VM) == ("network.netvm",)
