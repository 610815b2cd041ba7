"""The least of a vhost-user vsock device: it answers what QEMU asks before a guest runs, and carries nothing.

Message numbers and layouts are those of QEMU's vhost-user specification.
"""

import contextlib
import socket
import struct
from enum import IntEnum
from pathlib import Path

from acceptor import Acceptor

_HEADER = struct.Struct("<III")  # request, flags, size
_REPLY = 0x1 | 0x4  # version 1, reply
_VERSION_1, _PROTOCOL_FEATURES = 1 << 32, 1 << 30
_CONFIG = 1 << 9


class Request(IntEnum):
    GET_FEATURES = 1
    GET_VRING_BASE = 11
    GET_PROTOCOL_FEATURES = 15
    GET_QUEUE_NUM = 17
    GET_CONFIG = 24


class VsockDevice:
    """A device that listens at *path* and serves one hypervisor after another."""

    def __init__(self, path: Path, cid: int) -> None:
        self._cid = cid
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        self.close = Acceptor(listener, self._serve).close

    def _serve(self, connection: socket.socket) -> None:
        # A hypervisor that is killed leaves in the middle of a message.
        with contextlib.suppress(OSError, struct.error), connection, connection.makefile("rwb") as stream:
            while header := stream.read(_HEADER.size):
                request, _, size = _HEADER.unpack(header)
                answer = self._answer(request, stream.read(size))
                if answer is not None:
                    stream.write(_HEADER.pack(request, _REPLY, len(answer)) + answer)
                    stream.flush()

    def _answer(self, request: int, payload: bytes) -> bytes | None:
        match request:
            case Request.GET_FEATURES:
                return struct.pack("<Q", _VERSION_1 | _PROTOCOL_FEATURES)
            case Request.GET_PROTOCOL_FEATURES:
                return struct.pack("<Q", _CONFIG)
            case Request.GET_QUEUE_NUM:
                return struct.pack("<Q", 2)
            case Request.GET_CONFIG:
                return payload[:12] + struct.pack("<Q", self._cid)
            case Request.GET_VRING_BASE:
                return payload[:4] + bytes(4)
        return None


class NotifySocket:
    """The service manager's end of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(15)
        self.lines: list[str] = []

    def __enter__(self) -> "NotifySocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait_for(self, line: str) -> None:
        while line not in self.lines:
            self.lines += self._socket.recv(4096).decode().split("\n")

    def statuses(self) -> list[str]:
        """All that has been said with STATUS= until now."""
        self._socket.settimeout(0)
        try:
            while True:
                self.lines += self._socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return [line.removeprefix("STATUS=") for line in self.lines if line.startswith("STATUS=")]
