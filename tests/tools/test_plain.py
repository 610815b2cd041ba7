"""Text of a guest does nothing to the terminal that shows it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsock_cmd import plain


@given(st.text())
def test_log_has_no_controls(text: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain.log(text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07ok\r\n", "^[]0;title^Gok\n"),
        ("a\tb\n", "a\tb\n"),
        ("\r", "^M"),
        ("\x7f\x9b", "^?\\x9b"),
        ("größer", "größer"),
    ],
)
def test_log(text: str, shown: str) -> None:
    assert plain.log(text) == shown


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"\x1b[1;31mred\x1b[0m\r\n", b"\x1b[1;31mred\x1b[0m\r\n"),
        (b"\x1b[m", b"\x1b[m"),
        (b"\x1b[6n", b""),  # where is the cursor?
        (b"a\x1b[cb", b"ab"),  # what are you?
        (b"\x1b[>4;2m", b""),  # ends like a colour, but makes the terminal answer differently
        (b"\x1b[2J\x1b[H\x1b[?1049hx", b"x"),
        (b"\x1b]0;title\x07x\x1b]52;c;aGk=\x1b\\y", b"xy"),
        (b"\x1bP$qm\x1b\\z", b"z"),
        (b"\x1b(B\x1bc\x1b7", b""),
        (b"\x05\x0ea\bc", b"a\bc"),  # ENQ is a question, too
        (b"cut \x1b[3", b"cut "),
        (b"cut \x1b]0;tit", b"cut "),
        (b"\x1b[1\x1b[6nx", b"1x"),
        (b"\x1b\x1b[6nx", b"x"),
        ("\x9b6n\x85x".encode(), b"6nx"),  # C1 in UTF-8
        ("größer ✓".encode(), "größer ✓".encode()),
    ],
)
def test_colours_only(content: bytes, kept: bytes) -> None:
    assert plain.colours_only(content) == kept


@given(
    st.lists(st.one_of(st.sampled_from([b"\x1b", b"[", b"m", b"6n", b"]", b"\x07", b"\\", b";1"]), st.binary())).map(
        b"".join
    )
)
def test_colours_only_leaves_no_other_sequence(content: bytes) -> None:
    without_colours = re.sub(rb"\x1b\[[0-9;:]*m", b"", plain.colours_only(content))
    assert not re.search(rb"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f]", without_colours)
