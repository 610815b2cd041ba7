"""What stands for a VM that can't be: its command socket, which refuses to start and says why.

So the message is where the user looks: in the status of the unit that did not start.
"""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Refusal
from vmsilo_generator.roles import sandbox
from vmsilo_generator.unitfile import Link, Unit, about, command, text

# Groups of systemd's instead of policies: that a policy is missing must be told by a unit that needs none. What it
# runs is given all it handles by its unit.
CALLS = (
    *sandbox.CLOSED,
    ("RestrictAddressFamilies", "AF_UNIX"),
    ("SystemCallFilter", "@basic-io @file-system @io-event @network-io @signal ioctl uname"),
)

LINES_MAX = 60
LINE_MAX = 400  # characters


def units(refusal: Refusal) -> Iterator[Unit | Link]:
    vm = refusal.vm
    lines = printable(refusal.lines)
    refuse = command(paths.LIBEXEC + "/vm-launch", "refuse", *lines)
    description = names.broken_description(vm, " ".join(lines[0].split()))
    runs_as = (
        ("User", names.user(vm)),
        ("DynamicUser", "yes"),
        *sandbox.NO_CAPABILITY,
        *sandbox.NO_NETWORK,
        *sandbox.HELPER,
        *CALLS,
    )
    yield Unit(
        names.command_socket_unit(vm),
        (
            about(description, refusal.file),
            (
                "Socket",
                (
                    # Runs first, so that this socket never exists.
                    ("ExecStartPre", refuse),
                    ("ListenStream", text(paths.command_socket(vm))),
                    ("SocketMode", "0600"),
                    ("Accept", "yes"),
                    *runs_as,
                ),
            ),
        ),
    )
    yield unitfile.wants("sockets.target", names.command_socket_unit(vm))
    # Never started either; systemd wants a socket to have it.
    yield Unit(
        names.command_service_unit(vm),
        (
            about(description, refusal.file, ("CollectMode", "inactive-or-failed")),
            ("Service", (("ExecStart", refuse), *runs_as)),
        ),
    )


def printable(lines: tuple[str, ...]) -> list[str]:
    """*lines* without what a terminal or a unit file takes for a command, and of a size that can be printed."""
    kept = [
        "".join([char if char.isprintable() else " " for char in line[:LINE_MAX]]).rstrip(" \\") or " "
        for line in lines[:LINES_MAX]
    ]
    return kept or ["no reason known"]
