"""Keeps descriptors for a later process of the same unit, while this one becomes the hypervisor.

The service manager gives what it stores to ExecStart= alone. A hypervisor that takes descriptors over its control
socket needs somebody who has them when it is there: ExecStartPost=, which fetches them here.
"""

import os
import select
import socket
import time
from collections.abc import Sequence
from typing import NoReturn

from vm_launch import files
from vmsilo.failure import EX_OSERR, EX_TEMPFAIL, Failure


def keep(path: str, descriptors: Sequence[int], deadline: float) -> None:
    """Give *descriptors* to the first who connects to *path*, which is for this user alone, and let go of them here.

    A child does that until *deadline*, of time.monotonic(), or the end of what this process becomes. Raises OSError.
    """
    files.remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(1)
    hypervisor = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        if os.fork() == 0:  # nobody's child: the hypervisor would not bury it
            _hand_over(listener, hypervisor, descriptors, deadline)
        os._exit(os.EX_OK)
    os.waitpid(child, 0)
    os.close(hypervisor)
    listener.close()
    for descriptor in descriptors:
        os.close(descriptor)


def _hand_over(listener: socket.socket, hypervisor: int, descriptors: Sequence[int], deadline: float) -> NoReturn:
    try:
        _close_all_but({listener.fileno(), hypervisor, *descriptors})
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(hypervisor, select.POLLIN)
        came = [number for number, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
        if listener.fileno() in came:
            connection, _ = listener.accept()
            socket.send_fds(connection, [b"\0"], descriptors)
    finally:
        os._exit(os.EX_OK)


def _close_all_but(kept: set[int]) -> None:
    """Least of all may the socket that the hypervisor listens on be held open here."""
    low = 3
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(low, descriptor)
        low = descriptor + 1


def fetch(path: str, count: int, deadline: float) -> list[int]:
    """The *count* descriptors that are kept at *path*. Raises Failure."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(path)
            _, found, _, _ = socket.recv_fds(connection, 1, count)
        except OSError as error:
            raise Failure(f"cannot get the TAPs from {path}: {error.strerror or error}", code=EX_OSERR) from None
    files.remove(path)
    if len(found) != count:
        for descriptor in found:
            os.close(descriptor)
        raise Failure(f"{count} TAPs were to be at {path}, and there are {len(found)}", "start again", EX_TEMPFAIL)
    return found
