"""Foreseen failures, and how a program of ours ends on one."""

import sys

# sysexits.h; systemd knows the names (systemd.exec(5)).
EX_USAGE = 64
EX_DATAERR = 65
EX_NOINPUT = 66
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_OSERR = 71
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78


class Failure(Exception):
    """A failure that was foreseen: one line for the user, and what would help."""

    def __init__(self, message: str, hint: str = "", code: int = EX_UNAVAILABLE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def complain(program: str, text: str) -> None:
    """Print *text* to stderr behind the program's name."""
    sys.stderr.write(f"{program}: {text}\n")
    sys.stderr.flush()
