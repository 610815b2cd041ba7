"""A client of QEMU's machine protocol, as far as booting and stopping a VM needs it.

One JSON object a line each way: a greeting, then replies with events between them (QEMU's QMP specification). QEMU is
what a guest breaks out into, so its lines are bounded in length, number and time.
"""

import _socket
import json
import time
from types import TracebackType
from typing import Any, Self

from vmsilo.failure import Failure

LINE_MAX = 65536  # bytes
_LINES_MAX = 1000  # to wait for one reply


class Monitor:
    """A connection to the monitor at *path*. Raises Failure if something goes wrong, *deadline* passed included."""

    __slots__ = ("_buffer", "_deadline", "_socket")

    def __init__(self, path: str, deadline: float) -> None:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(path)
        except OSError as error:
            connection.close()
            raise Failure(f"QEMU's monitor does not answer: {error}") from None
        self._open(connection, deadline)

    @classmethod
    def over(cls, connection: _socket.socket, deadline: float) -> Self:
        """The monitor at the other end of *connection*, on which nothing has been said."""
        monitor = cls.__new__(cls)
        monitor._open(connection, deadline)
        return monitor

    def _open(self, connection: _socket.socket, deadline: float) -> None:
        self._socket = connection
        self._deadline = deadline
        self._buffer = b""
        try:
            self._limit()
            if "QMP" not in self._receive():
                raise Failure("QEMU's monitor did not greet")
            self.execute("qmp_capabilities")
        except OSError as error:
            self._socket.close()
            raise Failure(f"QEMU's monitor does not answer: {error}") from None
        except Failure:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def execute(self, command: str, **arguments: str) -> Any:
        """Run *command* and return what it returns."""
        try:
            self._limit()
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            for _ in range(_LINES_MAX):
                reply = self._receive()
                if "return" in reply:
                    return reply["return"]
                if "error" in reply:
                    raise Failure(f"QEMU refused {command}: {_description(reply['error'])}")
        except OSError as error:
            raise Failure(f"QEMU's monitor does not answer: {error}") from None
        raise Failure(f"QEMU did not answer {command}")

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LINE_MAX:
                raise Failure("QEMU's monitor sent a line without end")
            self._limit()
            received = self._socket.recv(LINE_MAX)
            if not received:
                raise Failure("QEMU closed its monitor")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return parse(line)

    def _limit(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(remaining)


def parse(line: bytes) -> dict[str, Any]:
    """The object that *line* holds. Raises Failure if it holds none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Failure("QEMU's monitor sent something that is not QMP")
    return value


def _description(error: object) -> str:
    return str(error.get("desc")) if isinstance(error, dict) else repr(error)
