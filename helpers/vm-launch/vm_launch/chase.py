"""Follow a path for somebody who has more rights than those who may change what is on the way.

A desktop user can put a link to any file of the host where a disk of theirs is to be. So, as systemd's CHASE_SAFE
does: from a directory or link of a user other than root the way leads only to what belongs to the same user.

Where a directory is to be found, whose files may be anybody's, links alone can lead astray: no directory has a second
name, as a file may. So from one directory to the next it goes whosever they are, until there is a user's link.
"""

import errno
import os
import stat

from vm_launch import files
from vmsilo.failure import EX_NOPERM, Failure

_LINKS_MAX = 40  # MAXSYMLINKS of the kernel
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeError(Exception):
    """The way leads from what belongs to one user to what belongs to another."""

    def __init__(self, place: str, owner: int, target_owner: int) -> None:
        super().__init__(place)
        self.place = place  # what of the path leads there, as far as it was followed
        self.owner = owner  # user ids
        self.target_owner = target_owner


def chase(path: str, *, directory: bool = False) -> int:
    """An O_PATH descriptor of what the absolute *path* leads to; *directory*: of that alone.

    Raises OSError or UnsafeError.
    """
    current = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    left = path.split("/")[::-1]
    owner, links, place = os.fstat(current).st_uid, 0, ""
    owners_count = not directory
    try:
        while left:
            part = left.pop()
            if part in ("", "."):
                continue
            found = os.open(part, _OPEN, dir_fd=current)
            try:
                status = os.fstat(found)
                is_link = stat.S_ISLNK(status.st_mode)
                owners_count = owners_count or (is_link and (owner, status.st_uid) != (0, 0))
                if owners_count and owner not in (0, status.st_uid):
                    raise UnsafeError(place or "/", owner, status.st_uid)
                owner, place = status.st_uid, f"{place}/{part}"
                if not is_link:
                    if directory and not stat.S_ISDIR(status.st_mode):
                        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                    current, found = found, current
                    continue
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.readlink("", dir_fd=found)
            finally:
                os.close(found)
            left += target.split("/")[::-1]
            if target.startswith("/"):
                root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                current, root = root, current
                os.close(root)
                if owner not in (0, os.fstat(current).st_uid):
                    raise UnsafeError(place, owner, os.fstat(current).st_uid)
    except BaseException:
        os.close(current)
        raise
    return current


def reach(path: str, what: str, purpose: str, *, directory: bool = False) -> int:
    """As chase(), for *purpose* with the *what* at *path*. Raises Failure."""
    try:
        return chase(path, directory=directory)
    except OSError as error:
        raise files.cannot_open(path, what, purpose, error) from None
    except UnsafeError as error:
        owner, other = files.user_name(error.owner), files.user_name(error.target_owner)
        raise Failure(
            f"the {what} {path} is not used: {error.place} belongs to {owner}, what it leads to belongs to {other}",
            f"{owner} could make it lead anywhere on the host",
            EX_NOPERM,
        ) from None
