"""Make text of others harmless for a terminal."""

import re

# C0 without tab and newline, DEL, and C1, which some terminals obey even in UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Escape sequences (ECMA-48): control sequences, strings up to their terminator, the short ones. A sequence that the
# end of the text cuts off is one, too.
_SEQUENCE = re.compile(
    rb"\x1b(?:\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~]|\Z)"
    rb"|[]P^_X][^\x07\x1b]*(?:\x07|\x1b\\|\Z)"
    rb"|[ -/]*(?:[0-~]|\Z))"
)
_COLOUR = re.compile(rb"[0-9;:]*")
_OTHER_CONTROL = re.compile(rb"[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]|\x1b(?!\[[0-9;:]*m)")


def log(text: str) -> str:
    """*text* with its line ends, and with every other control character made visible: ESC becomes ``^[``."""
    return _CONTROL.sub(_caret, text.replace("\r\n", "\n"))


def _caret(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"^{chr(code ^ 0x40)}" if code < 0x80 else f"\\x{code:02x}"


def colours_only(content: bytes) -> bytes:
    """*content* with no escape sequence but colours, and no control character but backspace, tab, CR and LF.

    For output that is shown again: a question to the terminal, such as for its size, was answered when it was new.
    Asked again, the answer would reach the guest as if it was typed.
    """
    return _OTHER_CONTROL.sub(b"", _SEQUENCE.sub(_colour, content))


def _colour(match: re.Match[bytes]) -> bytes:
    colour = match["final"] == b"m" and _COLOUR.fullmatch(match["parameters"])
    return match[0] if colour else b""
