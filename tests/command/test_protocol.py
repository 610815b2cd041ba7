"""Each end against a peer that does not keep to vmsilo-cmd(7)."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmsilo import frames
from vsock_cmd import cbor, stream, wire

from .conftest import HELPERS, PYTHON, Rig
from .test_run import gone, reported_pid, until

MIB = 1 << 20


class Peer:
    """One end of a connection, held by the test."""

    def __init__(self, connection: socket.socket, limits: dict[int, int]) -> None:
        self.connection = connection
        connection.settimeout(10)
        size = frames.HEADER.size + wire.REQUEST_MAX
        self._reader = frames.Reader(connection.recv_into, limits, wire.DATA, size)
        self._frames: list[tuple[int, int, bytes]] = []

    def send(self, kind: int, channel: int = 0, payload: bytes = b"") -> None:
        self.connection.sendall(frames.pack(kind, channel, payload))

    def control(self, **message: "cbor.Value") -> None:
        self.send(wire.CONTROL, 0, cbor.encode(dict(message)))

    def credit(self, channel: int, size: int) -> None:
        self.send(wire.CREDIT, channel, struct.pack("!I", size))

    def next(self) -> tuple[int, int, bytes] | None:
        """The next frame, or piece of a data frame; None at the end of the connection."""
        while not self._frames:
            try:
                if not self._reader.fill():
                    return None
            except ConnectionResetError:
                return None
            self._frames += [(kind, channel, bytes(payload)) for kind, channel, payload in self._reader.frames()]
        return self._frames.pop(0)

    def expect_control(self) -> dict[str, "cbor.Value"]:
        """The next control message; other frames are passed over."""
        while (frame := self.next()) is not None:
            if frame[0] == wire.CONTROL:
                message = cbor.decode(frame[2])
                assert isinstance(message, dict)
                return message
        raise AssertionError("the connection has ended")


# A wrong client


class Agent(Peer):
    """An agent process, and a client of it that is not bound to anything."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        argv = [PYTHON, "-IS", f"{HELPERS}/agent", "--user", "root"]
        self.process = subprocess.Popen(argv, stdin=theirs.fileno(), stderr=subprocess.PIPE)
        theirs.close()
        super().__init__(ours, wire.TO_CLIENT)

    def start(self, command: str) -> None:
        self.control(version=1, command=command.encode())
        assert self.expect_control()["type"] == "started"

    def close(self) -> tuple[int, str]:
        """Exit status and what was written to the journal."""
        self.connection.close()
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.decode()


@pytest.fixture
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.connection.close()
    made.process.kill()
    made.process.communicate()


def test_version_is_answered_before_all_else(agent: Agent) -> None:
    agent.control(version=2, whatever=[1, 2])
    message = agent.expect_control()
    assert (message["type"], message["version"]) == ("failed", 1)
    assert "the host asked for 2" in str(message["text"])
    assert agent.close()[0] == 1


@pytest.mark.parametrize(
    "first",
    [
        frames.pack(wire.CONTROL, 0, b"\xff"),
        frames.pack(wire.CONTROL, 0, b"\x81" * 1000),
        frames.pack(wire.CONTROL, 0, b"\xbb" + b"\xff" * 8),
        frames.HEADER.pack(wire.CONTROL, 0, 0, wire.REQUEST_MAX + 1),
        frames.HEADER.pack(wire.CONTROL, 0, 0, 0xFFFF_FFFF),
        frames.pack(wire.DATA, 0, b"x"),
        frames.pack(wire.CREDIT, 1, bytes(4)),
        frames.pack(9, 0),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_first_frame_that_is_no_request(agent: Agent, first: bytes) -> None:
    agent.connection.sendall(first)
    assert agent.expect_control()["type"] == "failed"
    status, errors = agent.close()
    assert status == 1
    assert errors.startswith("vmsilo-agent: ")
    assert errors.count("\n") == 1


def test_connection_without_a_request(agent: Agent) -> None:
    agent.connection.sendall(b"\0\0")
    assert agent.close() == (0, "")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (frames.pack(wire.DATA, wire.STDOUT, b"x"), "does not lead here"),
        (frames.pack(wire.DATA, 77, b"x"), "does not lead here"),
        (frames.pack(wire.DATA, wire.STDIN, b"x" * 1000) * 1200, "more data"),
        (frames.pack(wire.DATA, wire.STDIN) * 2, "ends twice"),
        (frames.pack(wire.DATA, wire.STDIN) + frames.pack(wire.DATA, wire.STDIN, b"x"), "after the end"),
        (frames.pack(wire.CREDIT, wire.STDIN, bytes(4)), "does not come from here"),
        (frames.pack(wire.CREDIT, wire.STDOUT, b"\xff\xff\xff\xff"), "too much credit"),
        (frames.pack(wire.CREDIT, wire.STDOUT, b"\0"), "credit of 1 bytes"),
        (frames.pack(wire.CLOSED, 5), "does not come from here"),
        (frames.pack(wire.CONTROL, 0, cbor.encode({"type": "signal", "signal": 65})), "'signal' is 65"),
        (frames.pack(wire.CONTROL, 0, cbor.encode({"type": "reboot"})), "unknown type 'reboot'"),
        (frames.pack(wire.CONTROL, 1, cbor.encode({"type": "signal", "signal": 1})), "control message on channel 1"),
    ],
)
def test_wrong_frame_ends_the_command(agent: Agent, tmp_path: Path, wrong: bytes, text: str) -> None:
    agent.start(f"echo $$ >{tmp_path}/pid; exec sleep 1000")
    pid = reported_pid(tmp_path / "pid")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        agent.connection.sendall(wrong)
    until(lambda: gone(pid))
    status, errors = agent.close()
    assert status == 0
    assert text in errors


def test_nothing_is_sent_without_credit(agent: Agent) -> None:
    agent.start("echo hello; echo world >&2; sleep 1000")
    agent.credit(wire.STDERR, 3)
    received: dict[int, bytes] = {}
    agent.connection.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while frame := agent.next():
            if frame[0] == wire.DATA:
                received[frame[1]] = received.get(frame[1], b"") + frame[2]
    assert received == {wire.STDERR: b"wor"}
    agent.connection.settimeout(10)
    agent.credit(wire.STDOUT, 100)
    assert agent.next() == (wire.DATA, wire.STDOUT, b"hello\n")


def test_end_of_stream_is_in_band(agent: Agent) -> None:
    agent.start("exec >&-; cat >&2")
    for channel in (wire.STDOUT, wire.STDERR):
        agent.credit(channel, 100)
    assert agent.next() == (wire.CREDIT, wire.STDIN, struct.pack("!I", wire.WINDOW))
    assert agent.next() == (wire.DATA, wire.STDOUT, b"")
    agent.send(wire.DATA, wire.STDIN, b"abc")
    assert agent.next() == (wire.DATA, wire.STDERR, b"abc")
    agent.send(wire.DATA, wire.STDIN)
    assert agent.next() == (wire.DATA, wire.STDERR, b"")
    assert agent.expect_control() == {"type": "exited", "status": 0}


def test_memory_of_the_agent_is_bounded(agent: Agent) -> None:
    """A client that fills the window of a command that reads nothing, in the smallest of frames."""
    agent.start("sleep 1000")
    granted = agent.next()
    assert granted == (wire.CREDIT, wire.STDIN, struct.pack("!I", wire.WINDOW))
    before = resident(agent.process.pid)
    agent.connection.sendall(frames.pack(wire.DATA, wire.STDIN, b"x") * wire.WINDOW)
    agent.control(type="signal", signal=int(signal.SIGUSR1))
    for channel in (wire.STDOUT, wire.STDERR):
        agent.credit(channel, 1)
    assert agent.expect_control() == {"type": "killed", "signal": int(signal.SIGUSR1)}
    assert peak(agent.process.pid) - before < 4 * MIB


def resident(pid: int) -> int:
    return status_field(pid, "VmRSS")


def peak(pid: int) -> int:
    return status_field(pid, "VmHWM")


def status_field(pid: int, name: str) -> int:
    """In bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


# A wrong guest


class Guest:
    """A vm-run whose guest is the test."""

    def __init__(self, rig: Rig, *arguments: str, stdout: int = subprocess.PIPE) -> None:
        self.peers: list[Peer] = []
        rig.serve_guest = self._accept
        self.process = subprocess.Popen(
            rig.argv(*(arguments or (rig.vm, "true"))),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        until(lambda: self.peers)
        self.peer = self.peers[0]
        self.request = self.peer.expect_control()

    def _accept(self, connection: socket.socket) -> None:
        self.peers.append(Peer(connection.dup(), wire.TO_AGENT))

    def start(self) -> None:
        self.peer.control(type="started", version=1, pid=1)

    def end(self) -> tuple[int, bytes, str]:
        out, errors = self.process.communicate(timeout=10)
        return self.process.returncode, out, errors.decode()


STARTED = frames.pack(wire.CONTROL, 0, wire.encode_reply(wire.Started(1)))


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "frame of unknown kind 83"),
        (frames.HEADER.pack(wire.CONTROL, 0, 0, wire.REPLY_MAX + 1), "at most 4096 allowed"),
        (frames.pack(wire.CONTROL, 0, b"\x9f" * 100), "a type that is not used here"),
        (frames.pack(wire.CONTROL, 0, cbor.encode({"type": "exited", "status": 0})), "ends before it starts"),
        (frames.pack(wire.CONTROL, 0, cbor.encode({"type": "started", "version": 2, "pid": 1})), "version 2"),
        (frames.pack(wire.DATA, wire.STDOUT, b"x"), "does not lead here"),
        (STARTED + STARTED, "starts twice"),
        (frames.pack(wire.CONTROL, 2, wire.encode_reply(wire.Started(1))), "control message on channel 2"),
        (STARTED + frames.pack(wire.DATA, 3, b"x"), "channel 3, which does not lead here"),
        (STARTED + frames.pack(wire.DATA, wire.STDIN, b"x"), "channel 0, which does not lead here"),
        (STARTED + frames.pack(wire.DATA, wire.STDOUT, bytes(1000)) * 1200, "more data on channel 1"),
        (STARTED + frames.pack(wire.CREDIT, wire.STDOUT, bytes(4)), "credit for channel 1"),
        (STARTED + frames.pack(wire.CONTROL, 0, cbor.encode({"type": "exited", "status": 256})), "'status' is 256"),
    ],
)
def test_guest_that_breaks_the_protocol(rig: Rig, sent: bytes, text: str) -> None:
    guest = Guest(rig)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        guest.peer.connection.sendall(sent)
    status, _, errors = guest.end()
    assert status == 255
    assert errors.startswith("vm-run: demo: the guest broke the protocol: ")
    assert text in errors
    assert errors.count("\n") == 1


def test_data_goes_where_it_says(rig: Rig) -> None:
    guest = Guest(rig)
    guest.start()
    assert {(guest.peer.next() or ())[:2] for _ in range(2)} == {(wire.CREDIT, 1), (wire.CREDIT, 2)}
    guest.peer.send(wire.DATA, wire.STDERR, b"err")
    guest.peer.send(wire.DATA, wire.STDOUT, b"out")
    guest.peer.control(type="exited", status=9)
    assert guest.end() == (9, b"out", "err")


def test_no_stderr_beside_a_terminal(rig: Rig) -> None:
    guest = Guest(rig, "-t", rig.vm, "true")
    assert guest.request["pty"] == {"term": os.environb.get(b"TERM", b"dumb"), "rows": 24, "columns": 80}
    guest.start()
    guest.peer.send(wire.DATA, wire.STDERR, b"x")
    assert "channel 2, which does not lead here" in guest.end()[2]


def test_message_of_a_guest_is_harmless(rig: Rig) -> None:
    guest = Guest(rig)
    guest.peer.control(type="failed", version=1, text="\x1b[2Jno\nvm-run: fine", status=7)
    assert guest.end() == (7, b"", "vm-run: demo: ?[2Jno vm-run: fine\n")


def test_memory_of_vm_run_is_bounded(rig: Rig) -> None:
    """A guest that sends all it has credit for, in the smallest of frames, to an output that nobody reads."""
    reading, writing = os.pipe()
    guest = Guest(rig, stdout=writing)
    os.close(writing)
    guest.start()
    first = guest.peer.next()
    assert first == (wire.CREDIT, wire.STDOUT, struct.pack("!I", wire.WINDOW))
    before = resident(guest.process.pid)
    guest.peer.connection.sendall(frames.pack(wire.DATA, wire.STDOUT, b"x") * wire.WINDOW)
    time.sleep(0.2)
    assert peak(guest.process.pid) - before < 4 * MIB
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        guest.peer.connection.sendall(frames.pack(wire.DATA, wire.STDOUT, bytes(wire.DATA_MAX)) * 5)
    status, _, errors = guest.end()
    assert (status, "more data on channel 1" in errors) == (255, True)
    os.close(reading)


@pytest.mark.parametrize("started", [False, True])
def test_death_of_the_guest_is_noticed_at_once(rig: Rig, *, started: bool) -> None:
    guest = Guest(rig)
    if started:
        guest.start()
    start = time.monotonic()
    guest.peer.connection.close()
    assert guest.end() == (255, b"", "vm-run: demo: the connection to the guest was lost\n")
    assert time.monotonic() - start < 1


def test_guest_that_reads_nothing_can_be_left(rig: Rig) -> None:
    guest = Guest(rig)
    guest.start()
    for _ in range(4):
        guest.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert guest.end()[0] == 130


# Both ends' common part against anything


class Collector(stream.Link):
    """A link with one sink and one source."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, wire.TO_CLIENT, wire.REPLY_MAX)
        self.written = bytearray()
        self.room = True
        reading, self.writing = os.pipe()
        os.set_blocking(reading, False)
        self.add_sink(stream.Sink(1, os.open("/dev/null", os.O_WRONLY), self._write))
        self.add_source(stream.Source(0, reading))

    def _write(self, fd: int, piece: memoryview) -> int:
        if not self.room:
            raise BlockingIOError
        self.written += piece[: 1 + len(piece) // 2]
        return 1 + len(piece) // 2 if piece else 0

    def on_control(self, payload: bytes) -> None:
        wire.decode_reply(payload)

    def close(self) -> None:
        os.close(self.writing)
        for fd in [sink.fd for sink in self.sinks] + [source.fd for source in self.sources]:
            if fd >= 0:
                os.close(fd)


frame_bytes = st.one_of(
    st.builds(frames.pack, st.integers(0, 4), st.integers(0, 3), st.binary(max_size=40)),
    st.builds(lambda size: frames.pack(wire.CREDIT, 0, struct.pack("!I", size)), st.integers(0, 1 << 32 - 1)),
    st.builds(lambda size: frames.pack(wire.DATA, 1, bytes(size)), st.integers(0, wire.DATA_MAX)),
    st.binary(max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(frame_bytes, max_size=8), st.booleans())
def test_any_frames(sent: list[bytes], room: bool) -> None:  # noqa: FBT001
    """Nothing but the two errors that are declared comes out, and no more than the window is kept."""
    ours, theirs = socket.socketpair()
    link = Collector(ours)
    link.room = room
    feeder = threading.Thread(target=feed, args=(theirs, sent))
    feeder.start()
    with contextlib.suppress(wire.WireError, stream.Closed):
        while True:
            link.run(0.0)
            assert len(link.sinks[0].waiting) <= wire.WINDOW
            assert link.writer.backlog <= 2 * stream.BACKLOG_MAX
    ours.close()
    feeder.join(10)
    link.close()


def feed(connection: socket.socket, sent: list[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"".join(sent))
    connection.close()
