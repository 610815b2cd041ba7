"""The directory that a virtiofsd serves as root: that it is the one that was configured.

systemd puts it into the unit's room, and follows links on the way to it, whoever made them. A user who may change a
directory on the way could have a guest given any directory of the host, and root's rights in it.

So root looks first, from outside of the room and following no such link, and notes what was found. Inside, what is in
the room is compared with that before virtiofsd gets to see it.
"""

import os
from typing import NoReturn

from vm_launch import files
from vm_launch.chase import reach
from vmsilo.failure import EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, Failure

_WHAT = "shared directory"


def find(path: str, note: str) -> int:
    """Of the socket, as root: write into the file *note* which directory *path* is. Raises Failure."""
    found = reach(path, _WHAT, "sharing", directory=True)
    its = os.fstat(found)
    os.close(found)
    try:
        files.write(note, identity(its))
    except OSError as error:
        raise Failure(f"cannot write {note}: {error.strerror}", code=EX_OSERR) from None
    return os.EX_OK


def serve(path: str, note: str, line: list[str]) -> NoReturn:
    """Become the program of *line* if *path*, in this room, is what *note* says. Raises Failure."""
    try:
        with open(note, encoding="ascii") as file:
            same = file.read() == identity(os.stat(path))
    except OSError as error:
        raise Failure(f"cannot look at {error.filename}: {error.strerror}", code=EX_OSERR) from None
    if not same:
        raise Failure(f"{path} is not the {_WHAT} that was found: it was replaced since", "start again", EX_NOPERM)
    try:
        os.execvp(line[0], line)
    except OSError as error:
        raise Failure(f"cannot execute {line[0]}: {error.strerror}", code=EX_UNAVAILABLE) from None


def identity(its: os.stat_result) -> str:
    return f"{its.st_dev}:{its.st_ino}\n"
