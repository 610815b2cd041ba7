"""The empty room that every service of a VM is in, in pieces that a unit is put together from:

- ``identity(vm)``: slice and user. Every service of a VM has it.
- ``NO_CAPABILITY``: the empty set, and no other users. A service that must keep a capability of the host says
  CapabilityBoundingSet= itself, and has no PrivateUsers=, in which a capability is worth nothing.
- ``NO_NETWORK``: nobody to talk to but by Unix sockets that stand in files.
- ``HELPER``: all that a program can do without which starts for a moment and does nothing out of the ordinary.
- ``BACKEND``: the same for a device of the VM that runs as long as it does.
- ``KERNEL``: what of HELPER even a hypervisor can do without.
- ``Policy``: which system calls there are, by files of units/seccomp. ``lines()`` go into the unit, and ``command()``
  is its ExecStart=.
- ``view(...)``: which paths there are.

vmsilo-security(7) has a figure for each unit made of these; tests/lab/test_exposure.py holds both together.

DynamicUser= brings along: a user that owns nothing, a read-only file system, a private /tmp, no new privileges, no
set-user-ID files, and no shared memory left behind.
"""

from typing import NamedTuple

from vmsilo import names, paths
from vmsilo_generator import policies
from vmsilo_generator.model import Facts
from vmsilo_generator.unitfile import command, words

Assignments = tuple[tuple[str, str], ...]

NOTIFY_SOCKET = "/run/systemd/notify"


def identity(vm: str) -> Assignments:
    """The slice and the user that all services of the VM share."""
    return (
        ("Slice", names.slice_unit(vm)),
        ("User", names.user(vm)),
        ("DynamicUser", "yes"),
        ("UMask", "0077"),
        # The guest's memory, or what it is told, would be in there.
        ("LimitCORE", "0"),
    )


# The services of one VM share one network without interfaces: making a new one for each command would be half of
# what the command costs.
NO_NETWORK: Assignments = (
    ("PrivateNetwork", "yes"),
    ("PrivateIPC", "yes"),
    # For a socket that was made elsewhere and passed in.
    ("IPAddressDeny", "any"),
)

# Empty, and so that a disk of the VM's can be bound into them. Said twice, as the first line alone makes systemd 252
# leave them writable for everybody.
HOMES: Assignments = (
    ("ProtectHome", "tmpfs"),
    ("TemporaryFileSystem", "/home:ro /root:ro /run/user:ro"),
)

# What no service of a VM needs, nor any program that it could be made to run.
KERNEL: Assignments = (
    ("DevicePolicy", "closed"),
    ("KeyringMode", "private"),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectControlGroups", "yes"),
    *HOMES,
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectProc", "invisible"),
)

NO_CAPABILITY: Assignments = (
    ("CapabilityBoundingSet", ""),
    ("PrivateUsers", "yes"),
)


# Emptied for each service, so that it finds there only what it is given by name. Whoever can't see a socket can't
# talk to it: the journal's and D-Bus' are in /run, those of many a daemon in /var. Disks of other VMs, and files of
# users that anybody may read, are as likely in the others.
EMPTY = "/run:ro /var:ro /media:ro /mnt:ro /srv:ro"

# The host's shared memory, where two services could meet, and what other VMs there are.
HIDDEN = ("/dev/shm", *("-" + directory for directory in paths.CONFIG_DIRECTORIES))


def view(*readable: str, writable: tuple[str, ...] = ()) -> Assignments:
    """What there is where data is kept: these paths alone, those of them that exist."""
    lines = [("TemporaryFileSystem", EMPTY), ("InaccessiblePaths", words(*HIDDEN))]
    if readable:
        lines.append(("BindReadOnlyPaths", words(*["-" + path for path in readable])))
    if writable:
        lines.append(("BindPaths", words(*["-" + path for path in writable])))
    return tuple(lines)


# For devices of the VM, each a program of its own. What they may take of the host's memory is the slice's affair:
# what they touch of the guest's memory first is counted as theirs.
BACKEND: Assignments = (
    *KERNEL,
    ("ProcSubset", "pid"),
)

# For helpers, which start for a moment and do nothing out of the ordinary.
HELPER: Assignments = (
    *BACKEND,
    ("LimitNOFILE", "256"),
    ("MemoryMax", "128M"),
    ("TasksMax", "16"),
)

# No call at all, but for the last one of each program; policies add to that. Refused calls are told so, and not
# killed for: a new C library that asks for something new must not cost a guest its disk, and one that was taken over
# learns from neither.
CLOSED: Assignments = (
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("RestrictAddressFamilies", "none"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
    ("SystemCallFilter", "exit_group"),
)


def note(*, off: bool, log: bool) -> str:
    """What a unit's description says of walls that the configuration has taken down."""
    return ", ".join(["sandbox off"] * off + ["system calls logged, not refused"] * log)


class Policy(NamedTuple):
    """The system calls of a unit: the files of units/seccomp that allow them, each of which adds to the others.

    A drop-in of the user's comes after the unit's own lines, and so can add to them or take them back.
    """

    names: tuple[str, ...]
    log: bool = False  # calls that aren't allowed, instead of refusing them

    def lines(self, facts: Facts) -> Assignments:
        """What the unit says of it. Raises Failure for a policy that the host does not have."""
        return () if self.log else (*CLOSED, *facts.policies.lines(self.names))

    def command(self, program: str, *arguments: str) -> str:
        """The command line of *program*. What isn't allowed is logged by a filter of our own: systemd can't do it."""
        if not self.log:
            return command(program, *arguments)
        files = [policies.file(name) for name in self.names]
        return command(paths.LIBEXEC + "/sandbox", *files, "--", program, *arguments)
