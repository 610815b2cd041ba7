"""Other processes of the host."""

import errno
import os
import signal
from collections.abc import Iterator
from functools import partial

from lab.attack import calls
from lab.attack.trial import Attempt, Refused, Scene

# PID 1 of the host. An attacker who is PID 1 himself, in a namespace of his own, tries some other number.
INIT = 1 if os.getpid() != 1 else 2

_PTRACE_TRACEME, _PTRACE_SEIZE = 0, 0x4206


def attempts(scene: Scene) -> Iterator[Attempt]:
    yield Attempt("processes", "see processes of others", others)
    yield Attempt("processes", "be traced", partial(calls.call, calls.PTRACE, _PTRACE_TRACEME, 0, None, None))
    for what, pid in (("PID 1", INIT), ("another VM's hypervisor", scene.victim_pid)):
        yield Attempt("processes", f"signal {what}", partial(os.kill, pid, 0))
        yield Attempt("processes", f"hold {what}", partial(hold, pid))
        yield Attempt("processes", f"take a descriptor of {what}", partial(take, pid))
        yield Attempt("processes", f"trace {what}", partial(calls.call, calls.PTRACE, _PTRACE_SEIZE, pid, 0, 0))
        yield Attempt("processes", f"read the memory of {what}", partial(vectors, calls.PROCESS_VM_READV, pid))
        yield Attempt("processes", f"write the memory of {what}", partial(vectors, calls.PROCESS_VM_WRITEV, pid))
        yield Attempt("processes", f"open the memory of {what}", partial(opened, f"/proc/{pid}/mem"))
        yield Attempt("processes", f"read the environment of {what}", partial(opened, f"/proc/{pid}/environ"))
        yield Attempt("processes", f"read the command line of {what}", partial(opened, f"/proc/{pid}/cmdline"))
        yield Attempt("processes", f"go through the root of {what}", partial(os.listdir, f"/proc/{pid}/root/"))
        yield Attempt("processes", f"slow down {what}", partial(os.setpriority, os.PRIO_PROCESS, pid, 1))
        yield Attempt("processes", f"bind {what} to a processor", partial(bind, pid))
        yield Attempt("processes", f"move the memory of {what}", partial(move, pid))
        yield Attempt("processes", f"compare with {what}", partial(calls.call, calls.KCMP, os.getpid(), pid, 0, 0, 0))


def others() -> list[str]:
    """Processes that are not of our user, or not of our service."""
    own, above = os.getuid(), str(os.getppid())
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and (os.stat(f"/proc/{entry}").st_uid != own or "1" == entry != above):
                found.append(entry)
        except OSError:
            pass
    if not found:
        raise Refused("none")
    return found


def hold(pid: int) -> None:
    """A descriptor of the process alone gives nothing; to signal through it is as good as kill(2)."""
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, 0)


def take(pid: int) -> None:
    calls.call(calls.PIDFD_GETFD, os.pidfd_open(pid), 0, 0)


def vectors(number: int, pid: int) -> None:
    """At an address where nothing is: who may, learns that."""
    import ctypes

    memory = ctypes.create_string_buffer(8)
    own = ctypes.addressof(memory).to_bytes(8, "little") + (8).to_bytes(8, "little")
    remote = (0x1000).to_bytes(8, "little") + (8).to_bytes(8, "little")
    calls.call(number, pid, own, 1, remote, 1, 0, past=(errno.EFAULT,))


def opened(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def bind(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))


def move(pid: int) -> None:
    """To the memory node where it is."""
    node = (1).to_bytes(8, "little")
    calls.call(calls.MIGRATE_PAGES, pid, 64, node, node)
