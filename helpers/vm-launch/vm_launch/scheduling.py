"""Core scheduling: who may run on a core's other hyperthread while a VM runs on one of them.

Threads with the same cookie may run beside each other, others may not; a thread without one runs beside its like
alone. A new thread or process has its maker's cookie, and execve(2) keeps it (the kernel's
Documentation/admin-guide/hw-vuln/core-scheduling.rst).
"""

import _socket
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from vmsilo.failure import EX_OSERR, complain

# linux/prctl.h
_SCHED_CORE = 62
_GET, _CREATE = 0, 1
_THREAD, _PROCESS = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether the kernel knows of cookies. It says so only where hyperthreads are in use."""
    return _ask(_GET, 0, _THREAD) != errno.EINVAL


def cookie(thread: int) -> int:
    """The cookie of *thread*; 0: none. Raises OSError."""
    value = ctypes.c_ulong()
    _check(_ask(_GET, thread, _THREAD, value))
    return value.value


def isolate() -> None:
    """Give this process, and all that comes of it, a cookie of its own. Raises OSError."""
    _check(_ask(_CREATE, 0, _PROCESS))


def isolate_thread(thread: int) -> None:
    """Give *thread* a cookie of its own. Raises OSError."""
    _check(_ask(_CREATE, thread, _THREAD))


def _ask(command: int, thread: int, scope: int, value: ctypes.c_ulong | None = None) -> int:
    """prctl(PR_SCHED_CORE): 0, or the error's number."""
    if command == _GET and value is None:
        value = ctypes.c_ulong()
    address = ctypes.addressof(value) if value is not None else 0
    arguments = [ctypes.c_ulong(number) for number in (command, thread, scope, address)]
    return 0 if _libc.prctl(_SCHED_CORE, *arguments) == 0 else ctypes.get_errno()


def _check(number: int) -> None:
    if number and number != errno.ENODEV:  # which is said where no core has a second hyperthread any more
        raise OSError(number, os.strerror(number))


def isolate_later(control: str, threads: Callable[[_socket.socket, float], list[int]], deadline: float) -> None:
    """Give each of the hypervisor's *threads* a cookie of its own, once this process has become it.

    A child does that, because only a process in the same user namespace may. It is the first to be connected to the
    control socket, so whoever lets the guest run, over the same socket, is heard only after it. Should it fail, it
    ends the hypervisor. Raises OSError.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.connect(control)
    hypervisor = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        if os.fork() == 0:  # nobody's child: the hypervisor would not bury it
            _isolate_threads(connection, hypervisor, threads, deadline)
        os._exit(os.EX_OK)
    os.waitpid(child, 0)
    os.close(hypervisor)
    connection.close()


def _isolate_threads(
    connection: _socket.socket,
    hypervisor: int,
    threads: Callable[[_socket.socket, float], list[int]],
    deadline: float,
) -> NoReturn:
    try:
        # The hypervisor's descriptors are not held open here, least of all the socket that it listens on.
        low, high = sorted((connection.fileno(), hypervisor))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        for thread in threads(connection, deadline):
            isolate_thread(thread)
    except BaseException as error:
        try:
            signal.pidfd_send_signal(hypervisor, signal.SIGTERM)
            complain("vm-launch", f"cannot keep the virtual processors apart (schedulerIsolation): {error}")
        except ProcessLookupError:
            pass  # it has ended by itself, and said why
        sys.stderr.flush()
        os._exit(EX_OSERR)
    os._exit(os.EX_OK)
