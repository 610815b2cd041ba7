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


def reason(error: Exception) -> str:
    """*error* in words, without the number of an OSError."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def one_line(text: str) -> str:
    """*text* on one line, with nothing in it that a terminal would do more with than show it."""
    return "".join([letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text])


def complain(program: str, text: str) -> None:
    """Print *text*, whoever it is of, to stderr behind the program's name, as one line.

    That nobody can be told is no reason to end otherwise.
    """
    if sys.stderr is None:  # it was closed when the program started
        return
    try:
        sys.stderr.write(f"{program}: {one_line(text)}\n")
        sys.stderr.flush()
    except OSError:
        sys.stderr = None  # else Python tries again at its end, and makes that the exit status
