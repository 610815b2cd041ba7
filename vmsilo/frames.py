"""Length-prefixed frames on a stream socket, with everything about them bounded.

A frame is an 8-byte header (kind: u8, channel: u8, zero: u16, length: u32, big-endian) and *length* bytes. One kind
is called bulk: its payload is handed out in the pieces in which it arrives and never collected, so a Reader
needs one buffer of fixed size whatever its peer claims. Every other kind has a greatest length and arrives whole.

What a protocol means by kinds and channels is its own business.
"""

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would be the most expensive import of most users of this module
    from collections.abc import Callable, Iterator, Mapping

HEADER = struct.Struct("!BBHI")


class FrameError(Exception):
    """The peer sent something that is no frame, or one that is not allowed."""


def pack(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(kind, channel, 0, len(payload)) + payload


class Reader:
    """Takes frames from a socket's receiving end.

    *limits* gives the kinds that are allowed with the greatest length of each. Memory is *size* bytes, for good; it
    has to hold the header and payload of the longest frame that is not bulk.
    """

    __slots__ = ("_buffer", "_bulk", "_channel", "_end", "_left", "_limits", "_receive", "_start", "_view")

    def __init__(
        self, receive: "Callable[[memoryview], int]", limits: "Mapping[int, int]", bulk: int, size: int
    ) -> None:
        assert all(limit + HEADER.size <= size for kind, limit in limits.items() if kind != bulk)
        self._receive = receive
        self._limits = limits
        self._bulk = bulk
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._channel = 0
        self._left = 0  # bytes of the present bulk frame that are still to come

    def fill(self) -> bool:
        """Receive once. Whether the stream goes on; errors of the socket are the caller's.

        Take all frames() before the next call: it overwrites what the last one brought.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            rest = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._view[: self._end] = rest
        size = self._receive(self._view[self._end :])
        self._end += size
        return size > 0

    def frames(self) -> "Iterator[tuple[int, int, memoryview]]":
        """Yield (kind, channel, payload) of what has arrived; for bulk, each piece, an empty frame as an empty piece.

        The payload is valid until the next fill(). Raises FrameError.
        """
        while True:
            start, have = self._start, self._end - self._start
            if self._left:
                if not have:
                    return
                size = min(have, self._left)
                self._left -= size
                self._start += size
                yield self._bulk, self._channel, self._view[start : start + size]
                continue
            if have < HEADER.size:
                return
            kind, channel, zero, length = HEADER.unpack_from(self._buffer, start)
            limit = self._limits.get(kind)
            if zero or limit is None:
                raise FrameError(f"frame of unknown kind {kind}")
            if length > limit:
                raise FrameError(f"frame of kind {kind} with {length} bytes, at most {limit} allowed")
            start += HEADER.size
            if kind == self._bulk and length:
                self._channel, self._left, self._start = channel, length, start
                continue
            if have < HEADER.size + length:
                return
            self._start = start + length
            yield kind, channel, self._view[start : start + length]


class Writer:
    """Sends frames without ever waiting: what the socket does not take stays here until the next flush().

    It holds at most one bulk frame, in a buffer of *size* bytes, and the few small frames queued behind it; who
    queues them looks at ``backlog`` first where the peer could make their number grow.
    """

    __slots__ = ("_buffer", "_payload", "_pending", "_queue", "_send", "_view")

    def __init__(self, send: "Callable[[memoryview], int]", size: int) -> None:
        self._send = send
        self._buffer = bytearray(HEADER.size + size)
        self._view = memoryview(self._buffer)
        self._payload = self._view[HEADER.size :]
        self._pending = self._view[:0]
        self._queue = bytearray()

    @property
    def idle(self) -> bool:
        """Whether everything has been sent."""
        return not self._pending and not self._queue

    @property
    def backlog(self) -> int:
        """Bytes of queued small frames."""
        return len(self._queue)

    @property
    def payload(self) -> memoryview:
        """Of the frame that bulk() has just made, before anything of it is sent."""
        return self._pending[HEADER.size :]

    def queue(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self._queue += pack(kind, channel, payload)

    def bulk(self, kind: int, channel: int, source: int, limit: int) -> int:
        """Read once from the descriptor *source* and make it a frame. Only while idle.

        Returns the bytes read, at most *limit*; 0 at end of file, when no frame is made. OSError is the caller's.
        """
        size = os.readv(source, [self._payload[:limit]])
        if size:
            HEADER.pack_into(self._buffer, 0, kind, channel, 0, size)
            self._pending = self._view[: HEADER.size + size]
        return size

    def flush(self) -> bool:
        """Send as much as the socket takes. Whether that was everything; BlockingIOError is handled here."""
        try:
            while True:
                while self._pending:
                    self._pending = self._pending[self._send(self._pending) :]
                if not self._queue:
                    return True
                self._pending = memoryview(bytes(self._queue))
                self._queue.clear()
        except BlockingIOError:
            return False
