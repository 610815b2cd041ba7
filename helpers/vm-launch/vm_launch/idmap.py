"""A user namespace in which ids stand for others, and a program in it.

Writing any map but that of one's own id takes CAP_SETUID and CAP_SETGID (user_namespaces(7)), which this program has
as root. The one it becomes has neither: it is in the namespace, with the ids of the map and no others, and with
capabilities over files of those ids alone.
"""

import ctypes
import os
from typing import NamedTuple, NoReturn

from vmsilo.failure import EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure

_CLONE_NEWUSER = 0x1000_0000  # linux/sched.h

# linux/prctl.h and linux/capability.h
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x2008_0522
# Over files, and over what virtiofsd takes from itself afterwards: chown, dac_override, fowner, fsetid, setgid,
# setuid, setpcap, setfcap.
_KEPT = (0, 1, 3, 4, 6, 7, 8, 31)


class Map(NamedTuple):
    """*length* ids from *outside* on, which are those from *inside* on within the namespace."""

    inside: int
    outside: int
    length: int


def become(uids: str, gids: str, line: list[str]) -> NoReturn:
    """Execute *line* where the maps *uids* and *gids* hold, as the lowest id of each. Raises Failure."""
    users, groups = parse(uids), parse(gids)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        enter(libc, users, groups)
        os.setgroups([])
        os.setresgid(groups.inside, groups.inside, groups.inside)
        os.setresuid(users.inside, users.inside, users.inside)
        if users.inside:
            keep_capabilities(libc)
    except OSError as error:
        raise Failure(f"cannot map ids to {uids} and {gids}: {error.strerror}", code=EX_OSERR) from None
    try:
        os.execvp(line[0], line)
    except OSError as error:
        raise Failure(f"cannot execute {line[0]}: {error.strerror}", code=EX_UNAVAILABLE) from None


def parse(text: str) -> Map:
    """The map written as virtiofsd takes it, ``:<inside>:<outside>:<count>:``. Raises Failure."""
    try:
        _, inside, outside, count, _ = text.split(":")
        return Map(int(inside), int(outside), int(count))
    except ValueError:
        raise Failure(f"{text!r} is no map of ids", code=EX_USAGE) from None


def enter(libc: ctypes.CDLL, users: Map, groups: Map) -> None:
    """Enter a new user namespace with these maps. Raises OSError.

    The maps are written from outside, by a child that is gone afterwards: inside nobody may map more than itself.
    """
    entered, tell = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if not child:
        os.close(tell)
        os._exit(write_maps(parent, entered, users, groups))
    os.close(entered)
    try:
        check(libc.unshare(_CLONE_NEWUSER))
        os.write(tell, b"\n")
    finally:
        os.close(tell)
        failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if failed:
        raise OSError(failed, os.strerror(failed))


def write_maps(process: int, entered: int, users: Map, groups: Map) -> int:
    """Write the maps of *process* once that has *entered* its namespace; 0, or the number of the error."""
    try:
        if not os.read(entered, 1):
            return 0  # it did not, and says why
        for name, ids in (("uid_map", users), ("gid_map", groups)):
            with open(f"/proc/{process}/{name}", "wb", buffering=0) as file:
                file.write("{} {} {}\n".format(*ids).encode())
    except OSError as error:
        return error.errno or 1
    return 0


def keep_capabilities(libc: ctypes.CDLL) -> None:
    """Keep the namespace's capabilities over files across exec, where none of its ids is root. Raises OSError."""
    bits = sum(1 << number for number in _KEPT)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable ones; the second half is for those from number 32 on.
    sets = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    check(libc.capset(header, sets))
    for number in _KEPT:
        check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
