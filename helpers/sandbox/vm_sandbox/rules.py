"""From a policy to rules for the kernel. Pure.

Rules about arguments are those that systemd makes of RestrictAddressFamilies=, RestrictNamespaces= and
MemoryDenyWriteExecute= (its seccomp-util.c), except that clone3 is let pass: its flags are in memory, where a filter
can't see them, and no C library gets on without either clone or clone3.
"""

import mmap
import socket
from collections.abc import Iterator
from typing import NamedTuple

from vmsilo.failure import EX_CONFIG, Failure
from vmsilo.policy import Policy

# clone(2)
NAMESPACES = {
    "mnt": 0x0002_0000,
    "cgroup": 0x0200_0000,
    "uts": 0x0400_0000,
    "ipc": 0x0800_0000,
    "user": 0x1000_0000,
    "pid": 0x2000_0000,
    "net": 0x4000_0000,
}
SHM_EXEC = 0o100000  # shmat(2)


class Masked(NamedTuple):
    """A condition: the bits *mask* of the argument number *argument*, from 0, are *value*."""

    argument: int
    mask: int
    value: int


class Rule(NamedTuple):
    """A call that is allowed, on one condition if there is one."""

    call: str
    condition: Masked | None = None


WHOLE = 0xFFFF_FFFF  # of an argument that is an int


def rules(policy: Policy) -> Iterator[Rule]:
    """What *policy* allows, in the order of the calls' names."""
    for call in sorted(policy.calls):
        conditions = _conditions(call, policy)
        if conditions is None:
            yield Rule(call)
        else:
            yield from [Rule(call, condition) for condition in conditions]


def _conditions(call: str, policy: Policy) -> list[Masked] | None:
    """On which conditions *call* is allowed, any of which will do; None: on none."""
    match call:
        case "socket":
            return [Masked(0, WHOLE, number) for number in sorted(map(family, policy.families))]
        case "clone" | "unshare":
            forbidden = sum(flag for name, flag in NAMESPACES.items() if name not in policy.namespaces)
            return [Masked(0, forbidden, 0)] if forbidden else None
        case _ if policy.writes_code:
            return None
        case "mmap":
            both = mmap.PROT_WRITE | mmap.PROT_EXEC
            return [Masked(2, both, allowed) for allowed in (0, mmap.PROT_WRITE, mmap.PROT_EXEC)]
        case "mprotect" | "pkey_mprotect":
            return [Masked(2, mmap.PROT_EXEC, 0)]
        case "shmat":
            return [Masked(2, SHM_EXEC, 0)]
    return None


def family(name: str) -> int:
    """The number of the address family *name*. Raises Failure."""
    try:
        return int(socket.AddressFamily[name])
    except KeyError:
        raise Failure(f"there is no address family {name}", code=EX_CONFIG) from None
