"""Directories by path, reached without being led astray.

Those on the way belong to a user, and may be shared with guests: whoever writes there can put a link in place of a
directory at any moment. So every step is taken from an open directory, and a link is followed only where nobody but
root can have made it.
"""

import errno
import os
import stat

from vmsilo.failure import EX_CONFIG, EX_NOINPUT, Failure

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX = 40  # as the kernel has it (path_resolution(7))
_PARENT_MODE = 0o755


def directory(path: str, hint: str) -> int:
    """The directory *path*, open for reading; *hint* is what to do if it is not there.

    Raises Failure, and PermissionError.
    """
    here = os.open("/", _STEP)
    links = 0
    try:
        steps = path.split("/")[::-1]
        while steps:
            name = steps.pop()
            if name in ("", "."):
                continue
            try:
                there = os.open(name, _STEP, dir_fd=here)
            except FileNotFoundError:
                raise Failure(f"there is no directory {path}", hint, EX_NOINPUT) from None
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                target = _link_of_root(here, name, path)
                links += 1
                if links > _LINKS_MAX:
                    raise Failure(f"{path} leads round in a circle of links", code=EX_CONFIG) from None
                steps += target.split("/")[::-1]
                there = os.open("/" if target.startswith("/") else ".", _STEP, dir_fd=here)
            os.close(here)
            here = there
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def _link_of_root(directory: int, name: str, path: str) -> str:
    """Where the link *name* leads, if root alone can have made it: root's own, where only root writes."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        raise Failure(f"{name} in {path} is no directory", code=EX_CONFIG)
    if found.st_uid != 0 or not _only_root_writes(os.fstat(directory)):
        message = f"{name} in {path} is a symbolic link that others than root can have made"
        raise Failure(message, "it is not followed", EX_CONFIG)
    return os.readlink(name, dir_fd=directory)


def _only_root_writes(directory: os.stat_result) -> bool:
    return directory.st_uid == 0 and not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def parent(path: str, like: os.stat_result) -> int:
    """The directory that *path* is in, open for reading, made where it is missing with the owner of *like*.

    Raises Failure, and PermissionError.
    """
    own = os.path.dirname(path)
    name = os.path.basename(own)
    above = directory(os.path.dirname(own), "journalctl -u vmsilo-shared.service tells why it was not made")
    try:
        if not is_there(above, name):
            _make(above, name, like)
    finally:
        os.close(above)
    return directory(own, "make it")


def _make(above: int, name: str, like: os.stat_result) -> None:
    if os.geteuid() == 0 and not _only_root_writes(os.fstat(above)):
        # Before it is given away its owner could have put something else in its place.
        raise Failure(f"{name} has to be made by the owner of the directory that it is to be in", code=EX_CONFIG)
    try:
        os.mkdir(name, _PARENT_MODE, dir_fd=above)
    except FileExistsError:
        return  # another one made it meanwhile
    os.chown(name, like.st_uid, like.st_gid, dir_fd=above, follow_symlinks=False)


def is_there(directory: int, name: str) -> bool:
    """Whether *directory* has the directory *name*. Raises Failure if that is something else."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "in the way"
        raise Failure(f"{name} is {kind}: expected a directory, or nothing", "remove it", EX_CONFIG)
    return True
