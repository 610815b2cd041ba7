"""The empty room that every service of a VM is in.

DynamicUser= brings along: a user that owns nothing, a read-only file system, a private /tmp, no new privileges, no
set-user-ID files, and no shared memory left behind.
"""

from vmsilo import names
from vmsilo_generator.unitfile import words

Assignments = tuple[tuple[str, str], ...]


def identity(vm: str) -> Assignments:
    """The slice and the user that all services of the VM share."""
    return (
        ("Slice", names.slice_unit(vm)),
        ("User", names.user(vm)),
        ("DynamicUser", "yes"),
        ("UMask", "0077"),
    )


# The services of one VM share one network without interfaces: making a new one for each command would be half of
# what the command costs.
NO_NETWORK: Assignments = (
    ("PrivateNetwork", "yes"),
    ("PrivateIPC", "yes"),
)

# What no service of a VM needs, nor any program that it could be made to run.
KERNEL: Assignments = (
    ("LockPersonality", "yes"),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHome", "tmpfs"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
    ("RestrictRealtime", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
)

NO_CAPABILITY: Assignments = (("CapabilityBoundingSet", ""),)


def view(*readable: str, writable: tuple[str, ...] = ()) -> Assignments:
    """What of /run, /home and /dev there is: these paths alone, those of them that exist.

    The journal's and D-Bus' sockets are in /run; who can't see them can't talk to them.
    """
    lines = [("TemporaryFileSystem", "/run:ro")]
    if readable:
        lines.append(("BindReadOnlyPaths", words(*["-" + path for path in readable])))
    if writable:
        lines.append(("BindPaths", words(*["-" + path for path in writable])))
    return tuple(lines)


# For helpers, which start for a moment and do nothing out of the ordinary.
HELPER: Assignments = (
    *KERNEL,
    ("MemoryDenyWriteExecute", "yes"),
    ("ProcSubset", "pid"),
    ("RestrictNamespaces", "yes"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
)
