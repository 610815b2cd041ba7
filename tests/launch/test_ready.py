"""Waiting for a guest that may say anything, in any pieces, on any number of connections."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_launch import ready
from vm_launch.ready import Message, Outcome
from vmsilo import ports


class Guest:
    """Somebody who connects, in a thread, while the main one waits."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "guest.socket")
        self.listener = ready.listen_hybrid(self.path)
        self.reached: list[str] = []

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self.path}_{ports.READY}")
        connection.settimeout(10)
        return connection

    def wait(self, seconds: float = 5, process: int = -1) -> Outcome:
        deadline = time.monotonic() + seconds
        return ready.wait(self.listener, cid=None, process=process, deadline=deadline, progress=self.reached.append)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path)
    yield made
    made.listener.close()


def in_background(guest: Guest) -> tuple[threading.Thread, list[Outcome]]:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(guest.wait()))
    thread.start()
    return thread, outcomes


def test_each_connection_is_closed_when_its_message_is_there(guest: Guest) -> None:
    """Else the guest's PID 1, which waits for that, and a reader that waits for the end hang each other."""
    thread, outcomes = in_background(guest)
    began = time.monotonic()
    for unit in (b"sysinit.target", b"basic.target", b"multi-user.target"):
        with guest.connect() as connection:
            connection.sendall(b"X_SYSTEMD_UNIT_ACTIVE=" + unit)
            assert connection.recv(1) == b""
    with guest.connect() as connection:
        connection.sendall(b"READY=1\nSTATUS=Startup finished in 1.234s.")
        assert connection.recv(1) == b""
    assert time.monotonic() - began < ready.MESSAGE_SECONDS
    thread.join()
    assert outcomes == [Outcome.READY]
    assert guest.reached == ["sysinit.target", "basic.target", "multi-user.target"]


def test_message_in_pieces(guest: Guest) -> None:
    thread, outcomes = in_background(guest)
    with guest.connect() as connection:
        for byte in b"READY=1":
            connection.send(bytes([byte]))
        assert connection.recv(1) == b""
    thread.join()
    assert outcomes == [Outcome.READY]


def test_silent_connections_are_closed(guest: Guest) -> None:
    """One that never says anything keeps nobody waiting, nor do a thousand."""
    thread, outcomes = in_background(guest)
    began = time.monotonic()
    silent = [guest.connect() for _ in range(100)]
    assert silent[0].recv(1) == b""
    assert time.monotonic() - began < ready.MESSAGE_SECONDS  # pushed out by the others before its time was over
    with guest.connect() as connection:
        connection.sendall(b"READY=1")
        assert connection.recv(1) == b""
    thread.join()
    assert outcomes == [Outcome.READY]
    for connection in silent:
        connection.close()


def test_silent_connection_runs_out_of_time(guest: Guest) -> None:
    thread, _ = in_background(guest)
    with guest.connect() as connection:
        began = time.monotonic()
        connection.sendall(b"READ")
        assert connection.recv(1) == b""
        assert 0.9 < time.monotonic() - began < 4
    with guest.connect() as connection:
        connection.sendall(b"READY=1")
        connection.recv(1)
    thread.join()


def test_endless_message_is_cut(guest: Guest) -> None:
    thread, outcomes = in_background(guest)
    with guest.connect() as connection, pytest.raises(OSError, match=r"Broken pipe|reset"):
        connection.sendall(b"x" * 10_000_000)
    with guest.connect() as connection:
        connection.sendall(b"READY=1")
        assert connection.recv(1) == b""
    thread.join()
    assert outcomes == [Outcome.READY]


def test_progress_has_an_end(guest: Guest) -> None:
    """The service manager is told no more than a start has to tell."""
    thread, _ = in_background(guest)
    for number in range(200):
        with guest.connect() as connection:
            connection.sendall(b"X_SYSTEMD_UNIT_ACTIVE=unit-%d.target" % number)
            assert connection.recv(1) == b""
    with guest.connect() as connection:
        connection.sendall(b"READY=1")
        connection.recv(1)
    thread.join()
    assert len(guest.reached) == ready.PROGRESS_MAX


def test_late(guest: Guest) -> None:
    began = time.monotonic()
    assert guest.wait(0.2) is Outcome.LATE
    assert 0.2 <= time.monotonic() - began < 2


def test_process_ends(guest: Guest) -> None:
    child = os.posix_spawn("/bin/sleep", ["sleep", "0.2"], os.environ)
    process = os.pidfd_open(child)
    began = time.monotonic()
    assert guest.wait(process=process) is Outcome.DIED
    assert time.monotonic() - began < 3
    os.waitpid(child, 0)
    os.close(process)


def test_kernel_vsock() -> None:
    """Only the VM's own context id is heard. Needs vsock_loopback and vhost_vsock."""
    try:
        listener = ready.listen_kernel(70000)
        client = socket.socket(socket.AF_VSOCK)
        client.connect((1, 70000))
    except Exception as error:
        pytest.skip(f"no vsock to the host itself: {error}")
    client.sendall(b"READY=1")
    deadline = time.monotonic() + 0.5
    outcome = ready.wait(listener, cid=70000, process=-1, deadline=deadline, progress=lambda _: None)
    assert outcome is Outcome.LATE


@pytest.mark.parametrize(
    ("received", "is_complete"),
    [
        (b"", False),
        (b"R", False),
        (b"READY", False),
        (b"READY=", False),
        (b"READY=1", True),
        (b"READY=1\n", True),
        (b"READY=1\nSTATUS", False),
        (b"READY=1\nSTATUS=x", True),
        (b"\n", True),
    ],
)
def test_complete(received: bytes, is_complete: bool) -> None:  # noqa: FBT001
    assert ready.complete(received) is is_complete


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (b"READY=1", Message(ready=True, unit="")),
        (b"STATUS=a\nREADY=1\n", Message(ready=True, unit="")),
        (b"READY=0", Message(ready=False, unit="")),
        (b"READY=11", Message(ready=False, unit="")),
        (b"XREADY=1", Message(ready=False, unit="")),
        (b"READY=1\0", Message(ready=False, unit="")),
        (b"READY=1\nREADY=0", Message(ready=True, unit="")),
        (b"X_SYSTEMD_UNIT_ACTIVE=a@b\\x2d.service", Message(ready=False, unit="a@b\\x2d.service")),
        (b"X_SYSTEMD_UNIT_ACTIVE=\x1b[2J", Message(ready=False, unit="")),
        (b"X_SYSTEMD_UNIT_ACTIVE=" + "ü".encode(), Message(ready=False, unit="")),
        (b"X_SYSTEMD_UNIT_ACTIVE=" + b"a" * 1000, Message(ready=False, unit="a" * 64)),
    ],
)
def test_parse(received: bytes, message: Message) -> None:
    assert ready.parse(received) == message


@given(st.binary(max_size=500))
def test_any_message(received: bytes) -> None:
    ready.complete(received)
    message = ready.parse(received)
    assert message.unit.isascii()
    assert message.unit.isprintable()
    assert message.ready == (b"READY=1" in received.split(b"\n"))


def test_kernel_ports_need_no_privilege() -> None:
    used = [ports.kernel_ready(cid) for cid in (ports.CID_FIRST, 70000, ports.CID_END - 1)]
    assert len(set(used)) == len(used)
    assert all(ports.LAST_RESERVED < port <= 0xFFFFFFFE for port in used)


class KernelListener:
    """Stands for a listening vsock socket, which few machines have: somebody with the context id *cid* connects."""

    def __init__(self, cid: int) -> None:
        self._cid = cid
        self.peer, self._ours = socket.socketpair()
        self._pending, self._wake = socket.socketpair()
        self._wake.send(b"x")
        self.peer.send(b"READY=1")

    def fileno(self) -> int:
        return self._pending.fileno()

    def settimeout(self, _seconds: float) -> None:
        pass

    def _accept(self) -> tuple[int, tuple[int, int]]:
        self._pending.recv(1)
        return self._ours.detach(), (self._cid, 1024)


@pytest.mark.parametrize(("cid", "outcome"), [(70000, Outcome.READY), (70001, Outcome.LATE), (1, Outcome.LATE)])
def test_other_guests_are_not_heard(cid: int, outcome: Outcome) -> None:
    """All guests of a host, and all its users, can connect to any vsock port of the host."""
    listener = KernelListener(cid)
    deadline = time.monotonic() + 0.3
    found = ready.wait(
        listener,  # type: ignore[arg-type]
        cid=70000,
        process=-1,
        deadline=deadline,
        progress=lambda _: None,
    )
    assert found is outcome
    with pytest.raises(BrokenPipeError):
        listener.peer.send(b"x")
