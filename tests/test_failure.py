"""What is said of failures: one line that does nothing to a terminal, whoever it is of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsilo import failure


@given(st.text(st.characters(exclude_categories=())))
def test_one_line_is_printable_and_as_long(text: str) -> None:
    assert failure.one_line(text).isprintable()
    assert len(failure.one_line(text)) == len(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer ✓", "größer ✓"),
        ("a\tb\r\nc", "a b  c"),
        ("\x1b]0;title\x07", "?]0;title?"),
        ("\x9b6n", "?6n"),  # C1
        ("safe\u202egnp.exe", "safe?gnp.exe"),  # right to left from here on
        ("\udcff", "?"),
    ],
)
def test_one_line(text: str, shown: str) -> None:
    assert failure.one_line(text) == shown


def test_complain_is_one_harmless_line(capfd: pytest.CaptureFixture[str]) -> None:
    failure.complain("vm-x", "bad \x1b[31m\nroot@host# ")
    assert capfd.readouterr().err == "vm-x: bad ?[31m root@host# \n"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(1, "Operation not permitted"), "Operation not permitted"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (TimeoutError("timed out"), "timed out"),
        (ValueError("no"), "no"),
    ],
)
def test_reason_has_no_number(error: Exception, text: str) -> None:
    assert failure.reason(error) == text
