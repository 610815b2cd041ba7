"""Where attackers of two VMs could meet: one leaves a mark in every place, the other one looks for it."""

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial

from lab.attack import calls
from lab.attack.trial import Attempt, Refused, Scene

# Directories that all or several services of a host may know by the same path.
_DIRECTORIES = (
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/run",
    "/run/lock",
    "/run/user",
    "/run/vmsilo",
    "/run/credentials",
    "/var/lib",
    "/var/lib/private",
    "/var/lib/vmsilo",
    "/var/lib/private/vmsilo",
    "/var/lib/vmsilo/images",
    "/var/cache",
    "/var/log",
    "/var/crash",
    "/dev",
    "/proc/self",
)
_KEY = 0x76_6D_73_6C  # of System V IPC
_CREATE = 0o1000 | 0o666  # IPC_CREAT, for all
_WORD = b"met"


def places(scene: Scene) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """What the place is, how to leave a mark there, and how to find it."""
    name = scene.mark
    for directory in _DIRECTORIES:
        path = f"{directory}/{name}"
        yield f"a file in {directory}", partial(leave_file, path), partial(find_file, path)
        yield f"a socket in {directory}", partial(listen, path + ".socket"), partial(connect, path + ".socket")
    yield "an abstract socket", partial(listen, "\0" + name), partial(connect, "\0" + name)
    yield "System V shared memory", leave_memory, partial(calls.call, calls.SHMGET, _KEY, 4096, 0)
    yield (
        "System V semaphores",
        partial(calls.call, calls.SEMGET, _KEY, 1, _CREATE),
        partial(calls.call, calls.SEMGET, _KEY, 1, 0),
    )
    yield (
        "System V messages",
        partial(calls.call, calls.MSGGET, _KEY, _CREATE),
        partial(calls.call, calls.MSGGET, _KEY, 0),
    )
    queue = name.encode()
    yield (
        "a POSIX message queue",
        partial(calls.call, calls.MQ_OPEN, queue, os.O_RDWR | os.O_CREAT, 0o666, None),
        partial(calls.call, calls.MQ_OPEN, queue, os.O_RDWR, 0, None),
    )
    yield "IPv4", partial(listen_ip, "127.0.0.1"), partial(connect_ip, "127.0.0.1")
    yield "IPv6", partial(listen_ip, "::1"), partial(connect_ip, "::1")
    yield "vsock", listen_vsock, connect_vsock


def leave(scene: Scene) -> list[str]:
    """Leave a mark wherever it can be done; these places. What listens does so as long as this process lives."""
    os.umask(0)
    left = []
    for what, act, _ in places(scene):
        try:
            _kept.append(act())
            left.append(what)
        except OSError:
            pass
    return left


_kept: list[object] = []


def seek(scene: Scene) -> Iterator[Attempt]:
    for what, _, act in places(scene):
        yield Attempt("meeting", what, act)


def leave_file(path: str) -> None:
    with open(path, "wb") as file:
        file.write(_WORD)
    os.chmod(path, 0o666)


def find_file(path: str) -> None:
    with open(path, "rb") as file:
        if file.read() != _WORD:
            raise Refused("another file")


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    if not address.startswith("\0"):
        os.chmod(address, 0o666)
    listener.listen(16)
    return listener


def connect(address: str) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect(address)


def leave_memory() -> int:
    memory = calls.call(calls.SHMGET, _KEY, 4096, _CREATE)
    # Attached, since what nobody has attached may be removed with its user's last process.
    calls.call(calls.SHMAT, memory, 0, 0)
    return memory


_PORT = 47_001


def listen_ip(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((address, _PORT))
    listener.listen()
    return listener


def connect_ip(address: str) -> None:
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(0.5)
    connection.connect((address, _PORT))


def listen_vsock() -> socket.socket:
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, _PORT))
    listener.listen()
    return listener


def connect_vsock() -> None:
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connection.settimeout(0.5)
    connection.connect((1, _PORT))


def notify() -> None:
    """What the service manager takes from a hypervisor, if it takes it (sd_notify(3))."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.connect("/run/systemd/notify")
    null = os.open(os.devnull, os.O_RDONLY)
    for lie in (b"MAINPID=1", b"FDSTORE=1\nFDNAME=stolen", b"STATUS=\x1b]0;forged\x07\x1b[2J", b"READY=1"):
        socket.send_fds(manager, [lie], [null] if lie.startswith(b"FDSTORE") else [])
