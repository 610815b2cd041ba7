"""The poll loop that both ends of a command share."""

import os
import socket
import threading

from vmsilo import frames
from vsock_cmd import stream, wire


class Reluctant:
    """A connection that has no room at two of three attempts, and room again right after."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self._attempts = 0
        self.fileno = real.fileno
        self.recv_into = real.recv_into

    def send(self, piece: memoryview, flags: int) -> int:
        self._attempts += 1
        if self._attempts % 3:
            raise BlockingIOError
        return self._real.send(piece, flags)


class OneStream(stream.Link):
    def on_control(self, payload: bytes) -> None:
        raise AssertionError

    def on_source_end(self, fd: int) -> None:
        os.close(fd)
        self.finished = True


def test_room_that_appears_between_two_looks_is_not_missed() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    content = os.urandom(500_000)
    theirs.sendall(frames.pack(wire.CREDIT, wire.STDOUT, (2 * len(content)).to_bytes(4, "big")))
    received = bytearray()

    def collect() -> None:
        while piece := theirs.recv(65536):
            received.extend(piece)

    def feed() -> None:
        os.set_blocking(writer, True)
        with os.fdopen(writer, "wb") as file:
            file.write(content)

    threads = [threading.Thread(target=collect), threading.Thread(target=feed)]
    for thread in threads:
        thread.start()
    link = OneStream(Reluctant(ours), wire.TO_CLIENT, wire.REPLY_MAX)  # type: ignore[arg-type]
    link.add_source(stream.Source(wire.STDOUT, reader))
    try:
        assert link.run(timeout=20)
        while not link.writer.flush():
            pass
    finally:
        ours.close()
        if not link.finished:
            os.close(reader)
        for thread in threads:
            thread.join()
    assert len(received) > len(content)
