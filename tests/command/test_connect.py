"""The connector and the hybrid vsock, against a device that answers in every way."""

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from acceptor import Acceptor

from vmsilo import vsock
from vsock_cmd import agent, credentials, handover

from .conftest import HELPERS, PYTHON, Rig
from .test_run import until

OK = b"OK 1073741824\n"


class Device:
    """Serves a hybrid socket; each connection is answered with the next of *answers*, the last one again and again.

    None: the connection stays open without an answer.
    """

    def __init__(self, path: Path, answers: list[bytes | None]) -> None:
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._answers = answers
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self._acceptor = Acceptor(listener, self._serve)

    def _serve(self, connection: socket.socket) -> None:
        self.requests.append(connection.recv(100))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            connection.sendall(answer)
        if answer is None or answer.startswith(b"OK "):
            self.connections.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        self._acceptor.close()
        for connection in self.connections:
            connection.close()


Serve = Callable[..., Device]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guest.socket"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    devices: list[Device] = []

    def make(*answers: bytes | None) -> Device:
        devices.append(Device(path, list(answers)))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


def test_handshake_reads_nothing_of_the_guest(serve: Serve, path: Path) -> None:
    device = serve(OK + b"hello")
    connection = vsock.connect_hybrid(str(path), 5000, 5)
    assert device.requests == [b"CONNECT 5000\n"]
    assert connection.gettimeout() is None
    assert connection.recv(100) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [b"", b"OK", b"OK \n", b"OK x\n", b"ok 5\n", b"NO 5\n", b"OK 1" + b"0" * 50 + b"\n", b"\n", b"\xff" * 40],
)
def test_any_other_answer_is_none(serve: Serve, path: Path, answer: bytes) -> None:
    serve(answer)
    with pytest.raises(vsock.NotThere):
        vsock.connect_hybrid(str(path), 5000, 5)


def test_guest_that_listens_late_is_asked_again(serve: Serve, path: Path) -> None:
    device = serve(b"", b"", OK)
    vsock.connect(3, 5000, str(path), patience=5, timeout=5)
    assert len(device.requests) == 3


def test_patience_ends(serve: Serve, path: Path) -> None:
    serve(b"")
    start = time.monotonic()
    with pytest.raises(vsock.NotThere, match="does not listen at vsock port 5000"):
        vsock.connect(3, 5000, str(path), patience=0.2, timeout=5)
    assert time.monotonic() - start < 2


def test_full_queue_is_waited_for(path: Path) -> None:
    """As hundreds of clients at once make it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(path))
    with pytest.raises(vsock.NotThere, match="at once"):
        vsock.connect(3, 5000, str(path), patience=0, timeout=5)

    def serve() -> None:
        listener.accept()[0].close()
        second, _ = listener.accept()
        second.recv(100)
        second.sendall(OK)
        second.close()

    timer = threading.Timer(0.1, serve)
    timer.start()
    vsock.connect(3, 5000, str(path), patience=5, timeout=5).close()
    timer.join()
    first.close()
    listener.close()


def test_silence_ends(serve: Serve, path: Path) -> None:
    serve(None)
    with pytest.raises(TimeoutError):
        vsock.connect(3, 5000, str(path), patience=5, timeout=0.1)


# The program


def start(client: socket.socket, *arguments: str) -> "subprocess.Popen[bytes]":
    argv = [PYTHON, "-IS", f"{HELPERS}/vsock-cmd", *arguments]
    return subprocess.Popen(argv, stdin=client.fileno(), stderr=subprocess.PIPE)


def ask(*arguments: str) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """The client's end, and the connector that serves the other one."""
    ours, theirs = socket.socketpair()
    process = start(theirs, *arguments)
    theirs.close()
    return ours, process


def finish(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    _, errors = process.communicate(timeout=20)
    return process.returncode, errors.decode()


def test_connection_is_handed_over(serve: Serve, path: Path) -> None:
    device = serve(OK)
    client, process = ask("connect", "--cid", "3", "--socket", str(path))
    (descriptor,) = handover.take(client, 1)
    assert finish(process) == (0, "")
    guest = socket.socket(fileno=descriptor)
    until(lambda: device.connections)
    assert not os.get_inheritable(descriptor)
    guest.sendall(b"ping")
    assert device.connections[0].recv(10) == b"ping"
    guest.close()
    client.close()


def test_refusal_is_told_to_both_sides(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(b"")
    client, process = ask("connect", "--cid", "3", "--socket", str(path))
    text = "can't reach the guest's agent: the guest does not listen at vsock port 5000"
    with pytest.raises(handover.Refused) as caught:
        handover.take(client, 1)
    assert str(caught.value) == text
    assert finish(process) == (69, f"vsock-cmd: {text}\n")


def test_vm_that_is_gone(path: Path) -> None:
    """Its socket file remains; nobody listens."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()
    client, process = ask("connect", "--cid", "3", "--socket", str(path))
    with pytest.raises(handover.Refused, match="Connection refused"):
        handover.take(client, 1)
    assert finish(process)[0] == 69


def test_client_that_is_gone(serve: Serve, path: Path) -> None:
    serve(OK)
    client, process = ask("connect", "--cid", "3", "--socket", str(path))
    client.close()
    assert finish(process) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["connect"],
        ["connect", "--cid", "2"],
        ["connect", "--cid", "-3"],
        ["connect", "--cid", "4294967295"],
        ["connect", "--cid", "3", "--socket"],
        ["connect", "--cid", "3", "x"],
    ],
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    client, process = ask(*arguments)
    status, errors = finish(process)
    assert status == 64
    assert errors.startswith("vsock-cmd: usage: vsock-cmd connect --cid N [--socket PATH]")
    client.close()


# The client's side of the hand-over


def test_helper_that_never_ran() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(handover.NeverRan):
        handover.take(ours, 1)


@pytest.mark.parametrize("answer", [b"F", b"X", b"E"])
def test_answers_without_a_descriptor(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(answer)
    theirs.close()
    with pytest.raises(handover.Refused):
        handover.take(ours, 1)


def same_as(descriptor: int) -> int:
    """How many descriptors of this process are open on the file of *descriptor*."""
    file = os.fstat(descriptor)
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.path.samestat(os.fstat(int(name)), file)
    return found


def test_another_number_of_descriptors_is_refused_and_closed() -> None:
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryFile() as given:
        for count in (1, 2, 3):
            handover.give(theirs, *[given.fileno()] * count)
            if count == 2:
                for descriptor in handover.take(ours, 2):
                    os.close(descriptor)
            else:
                with pytest.raises(handover.Refused):
                    handover.take(ours, 2)
        assert same_as(given.fileno()) == 1
    ours.close()
    theirs.close()


def test_endless_text_is_cut() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"E" + b"x" * 100_000)
    with pytest.raises(handover.Refused) as caught:
        handover.take(ours, 1)
    assert len(str(caught.value)) == handover.ERROR_MAX


# What the connector hands over, which a guest may have taken over


KINDS: dict[str, Callable[[], socket.socket | TextIO]] = {
    "datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "packets": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "network": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "file": lambda: open("/dev/null"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_vm_run_writes_to_nothing_but_a_connection(rig: Rig, kind: str) -> None:
    with KINDS[kind]() as wrong:
        rig.serve_client = lambda client: handover.give(client, wrong.fileno())
        result = rig.command("true")
    assert result.returncode == 255
    assert result.stderr == b"vm-run: VM demo: what the connector handed over is no connection to a guest\n"


def test_vm_run_survives_a_socket_that_is_not_connected(rig: Rig) -> None:
    unconnected = socket.socket(socket.AF_UNIX)
    rig.serve_client = lambda client: handover.give(client, unconnected.fileno())
    result = rig.command("true")
    unconnected.close()
    assert (result.returncode, result.stderr) == (255, b"vm-run: demo: the connection to the guest was lost\n")


def test_more_descriptors_than_asked_for_are_refused(rig: Rig) -> None:
    def serve(client: socket.socket) -> None:
        handover.give(client, client.fileno(), client.fileno())

    rig.serve_client = serve
    result = rig.command("true")
    assert (result.returncode, result.stderr) == (255, b"vm-run: VM demo: the helper's answer makes no sense\n")


def test_refusal_of_the_connector_is_harmless(rig: Rig) -> None:
    rig.serve_client = lambda client: handover.refuse(client, "\x1b]0;owned\x07\nvm-run: fine")
    result = rig.command("true")
    assert (result.returncode, result.stderr) == (255, b"vm-run: VM demo: ?]0;owned? vm-run: fine\n")


# Who is served


def test_only_the_host_is_served() -> None:
    assert agent.refusal_of((2, 70_000), reserved=False) == ""
    assert agent.refusal_of((2, 1023), reserved=True) == ""
    assert "unprivileged vsock port 1024" in agent.refusal_of((2, 1024), reserved=True)
    for cid in (0, 1, 3, 0xFFFFFFFF):
        assert f"context {cid}" in agent.refusal_of((cid, 5), reserved=False)


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.b").write_text("yes\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials.read("a.b") == "yes"
    assert credentials.read("a.c") is None
    assert credentials.notify_ready() is False


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("vsock-stream:2:5003", (2, 5003)),
        ("vsock:2:5003", (2, 5003)),
        ("vsock-stream:2", None),
        ("vsock-stream:x:1", None),
        ("/run/x", None),
        ("", None),
    ],
)
def test_address_of_the_ready_message(text: str, address: tuple[int, int] | None) -> None:
    assert credentials.parse_address(text) == address
