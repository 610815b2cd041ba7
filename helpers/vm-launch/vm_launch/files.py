"""Small deeds with files."""

import os
import stat

from vmsilo.failure import EX_NOINPUT, EX_NOPERM, Failure


def remove(path: str) -> None:
    """Remove *path* if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def write(path: str, text: str) -> None:
    """Write *text* to a file that only this user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def inheritable(descriptor: int) -> int:
    """*descriptor*, which the program that this one becomes will have."""
    os.set_inheritable(descriptor, True)  # noqa: FBT003
    return descriptor


def cannot_open(path: str, what: str, purpose: str, error: OSError) -> Failure:
    """The failure to open *path*, with its owner and mode if that is what keeps us out."""
    message = f"cannot open the {what} {path} for {purpose}: {error.strerror}"
    if not isinstance(error, PermissionError):
        return Failure(message, code=EX_NOINPUT)
    try:
        found = os.stat(path)
    except OSError:
        return Failure(message, f"this VM runs as {user_name(os.geteuid())}", EX_NOPERM)
    owner = f"{user_name(found.st_uid)}, group {group_name(found.st_gid)}, mode {stat.S_IMODE(found.st_mode):04o}"
    return Failure(message, f"owner {owner}; this VM runs as {user_name(os.geteuid())}", EX_NOPERM)


def user_name(uid: int) -> str:
    import pwd  # only messages of failures need names

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
