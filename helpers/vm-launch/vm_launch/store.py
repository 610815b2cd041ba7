"""The service manager's store of descriptors: one process of a unit fills it, the next one is started with them.

sd_pid_notify_with_fds(3) and sd_listen_fds(3), without the library.
"""

import os
import select
import socket

from vmsilo.failure import EX_TEMPFAIL, EX_USAGE, Failure
from vmsilo.notify import address, notify

_FIRST = 3  # SD_LISTEN_FDS_START
_ANSWER_SECONDS = 10.0


def keep(name: str, descriptor: int) -> None:
    """Give the manager a copy of *descriptor* under *name*. Raises Failure if there is none to take it."""
    _send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", descriptor)


def forget(name: str) -> None:
    """Have the manager drop what it keeps under *name*."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def settle() -> None:
    """Return when the manager has done all that it was asked for until now."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        _send("BARRIER=1", writer)
    finally:
        os.close(writer)
    poll = select.poll()
    poll.register(reader, 0)  # POLLHUP, once the manager has closed its copy
    answered = poll.poll(_ANSWER_SECONDS * 1000)
    os.close(reader)
    if not answered:
        raise Failure("the service manager does not answer", code=EX_TEMPFAIL)


def take() -> dict[str, int]:
    """The descriptors that this process was started with, by name; the manager keeps no copies.

    So each lives exactly as long as the hypervisor.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    listed = os.environ.get("LISTEN_FDNAMES", "").split(":")[: int(os.environ.get("LISTEN_FDS", "0"))]
    for name in listed:
        forget(name)
    return {name: _FIRST + index for index, name in enumerate(listed)}


def _send(text: str, descriptor: int) -> None:
    manager = address()
    if not manager:
        raise Failure("there is no service manager to give descriptors to", "this is for a unit", EX_USAGE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(manager)
        socket.send_fds(sender, [text.encode()], [descriptor])
