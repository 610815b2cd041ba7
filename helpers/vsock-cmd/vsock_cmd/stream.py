"""The streams of one command over one connection: what vm-run and the agent have in common.

A Source is a descriptor that is read for the peer, a Sink one that is written with what the peer sends. Each
stream has its credit, so that one that stalls delays neither the others nor control messages: the connection itself
is always read. One poll loop, no threads; everything that could wait is non-blocking.
"""

import _socket
import fcntl
import os
import select
import struct
import time

from vmsilo import frames
from vsock_cmd import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_U32 = struct.Struct("!I")
_TIMEVAL = struct.Struct("@ll")
_GRANT = wire.WINDOW // 4  # grant again once so much has been consumed: few credit frames, never a stall
_ROUNDS = 16  # chunks sent from one source before looking at everything else again
BACKLOG_MAX = 4096  # bytes of small frames queued; no more are made for a peer that does not read


def enlarge(pipe: int) -> None:
    """Let *pipe*, if it is one, hold a whole data frame: the default of 64 KiB costs half of the throughput."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, wire.DATA_MAX)
    except OSError:
        pass  # no pipe, or above what the user may have


def _limit_sending(connection: _socket.socket, milliseconds: int) -> None:
    """Have the kernel give up sending after so long."""
    # Python sets nothing but 64-bit numbers on a vsock; to it, this one is of another family.
    other = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection.fileno())
    try:
        other.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _TIMEVAL.pack(0, milliseconds * 1000))
    finally:
        other.detach()


class Closed(Exception):
    """The connection has ended."""


class Source:
    """A stream to the peer, read from the descriptor *fd*."""

    __slots__ = ("channel", "credit", "fd", "last", "rounds", "watch")

    def __init__(
        self, channel: int, fd: int, *, blocking: bool = False, watch: "Callable[[memoryview], None] | None" = None
    ) -> None:
        """*blocking*: a read that finds nothing would wait, so no more than one is made for each event.

        *watch* is shown all that is read.
        """
        self.channel = channel
        self.fd = fd  # -1 once ended
        self.rounds = 1 if blocking else _ROUNDS
        self.watch = watch
        self.credit = 0
        self.last = False  # end the stream as soon as nothing is there to read: nobody writes any more

    @property
    def ended(self) -> bool:
        return self.fd < 0


class Sink:
    """A stream from the peer, written to *fd* by *write*, which never waits."""

    __slots__ = ("broken", "channel", "ended", "fd", "granted", "owed", "waiting", "write")

    def __init__(self, channel: int, fd: int, write: "Callable[[int, memoryview], int]" = os.write) -> None:
        self.channel = channel
        self.fd = fd  # -1 once closed
        self.write = write
        self.waiting = bytearray()  # received, not yet written; never more than was granted
        self.granted = 0  # what the peer may still send
        self.owed = wire.WINDOW  # consumed (at first: free), not yet granted again
        self.ended = False  # the peer has sent the end of the stream
        self.broken = False  # nobody reads fd: what still comes is dropped

    def put(self, piece: memoryview) -> None:
        """Take what arrived. Raises WireError for more than was granted or data after the end."""
        size = len(piece)
        if size > self.granted:
            raise wire.WireError(f"more data on channel {self.channel} than it had credit for")
        if self.ended:
            raise wire.WireError(f"data after the end of channel {self.channel}")
        self.granted -= size
        if not self.waiting:
            piece = piece[self._write(piece) :]
        if not self.broken:
            self.waiting += piece

    def flush(self) -> None:
        """Write what waits."""
        with memoryview(self.waiting) as view:
            size = self._write(view)
        if self.broken:
            self.waiting.clear()
        else:
            del self.waiting[:size]

    def _write(self, piece: memoryview) -> int:
        if self.broken:
            return 0
        try:
            size = self.write(self.fd, piece)
        except BlockingIOError:
            return 0
        except OSError:
            self.broken = True
            return 0
        self.owed += size
        return size


class Link:
    """One end of a connection. A subclass says what control messages and further descriptors mean."""

    def __init__(
        self, connection: _socket.socket, limits: "dict[int, int]", longest: int, *, patience: int = 0
    ) -> None:
        """*patience*: milliseconds for which sending may wait in the kernel; by default it never does.

        A vsock takes a frame in many small pieces. Where each of them costs a round of the loop, in an emulated
        guest, the kernel does it in half the time. Only one end may do so: two that wait for each other don't read.
        """
        self.connection = connection
        self._send_flags = _socket.MSG_NOSIGNAL
        if patience:
            _limit_sending(connection, patience)
        else:
            self._send_flags |= _socket.MSG_DONTWAIT
        size = frames.HEADER.size + max(longest, wire.DATA_MAX)
        self.reader = frames.Reader(self._receive, limits, wire.DATA, size)
        self.writer = frames.Writer(self._send, wire.DATA_MAX)
        self.sources: list[Source] = []
        self.sinks: list[Sink] = []
        self.finished = False  # set by the subclass: leave run()
        self._poll = select.poll()
        self._masks: dict[int, int] = {}
        self._handlers: dict[int, Callable[[], None]] = {connection.fileno(): self._on_connection}

    def _receive(self, view: memoryview) -> int:
        return self.connection.recv_into(view, 0, _socket.MSG_DONTWAIT)

    def _send(self, view: memoryview) -> int:
        return self.connection.send(view, self._send_flags)

    # What a subclass does.

    def on_control(self, payload: bytes) -> None:
        raise NotImplementedError

    def on_source_end(self, fd: int) -> None:
        """Close *fd*, which has ended or is not wanted any more."""
        os.close(fd)

    def on_sink_end(self, fd: int) -> None:
        """Close *fd*, to which everything has been written or nothing can be."""
        os.close(fd)

    # What a subclass may call.

    def watch(self, fd: int, handler: "Callable[[], None]") -> None:
        """Call *handler* when *fd* is readable."""
        self._handlers[fd] = handler
        self._want(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        self._want(fd, 0)
        self._handlers.pop(fd, None)

    def add_source(self, source: Source) -> None:
        self.sources.append(source)
        self._handlers[source.fd] = lambda: self._pump(source)

    def add_sink(self, sink: Sink) -> None:
        self.sinks.append(sink)
        self._handlers[sink.fd] = sink.flush

    def control(self, payload: bytes) -> None:
        """Queue a control message."""
        self.writer.queue(wire.CONTROL, 0, payload)

    def end_source(self, source: Source) -> None:
        """Send the end of the stream and close it."""
        if not source.ended:
            fd, source.fd = source.fd, -1
            self.unwatch(fd)
            self.writer.queue(wire.DATA, source.channel)
            self.on_source_end(fd)

    def run(self, timeout: float | None = None) -> bool:
        """Relay until finished. False if *timeout* seconds pass before.

        Raises Closed at the end of the connection, WireError if the peer breaks the protocol.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self._take_frames()
        self._settle()
        while not self.finished:
            wait = None if end is None else max(0, int((end - time.monotonic()) * 1000))
            for fd, _ in self._poll.poll(wait):
                handler = self._handlers.get(fd)
                if handler is not None:  # None: an earlier event of the same round closed it
                    handler()
            self._settle()
            if end is not None and time.monotonic() >= end:
                break
        return self.finished

    # The loop's own work.

    def _want(self, fd: int, mask: int) -> None:
        """Poll *fd* for *mask*; for nothing at all, not even a hang-up, if that is 0."""
        present = self._masks.get(fd, 0)
        if mask == present:
            return
        if not mask:
            self._poll.unregister(fd)
            del self._masks[fd]
        else:
            self._poll.register(fd, mask)
            self._masks[fd] = mask

    def _settle(self) -> None:
        """Say what each descriptor is polled for, grant credit, close what is done."""
        writer = self.writer
        for sink in self.sinks:
            if sink.fd >= 0:
                self._settle_sink(sink)
        idle = writer.idle or self._flush()
        for source in self.sources:
            while source.last and source.credit and source.fd >= 0 and idle:
                self._pump(source)  # no event tells that it is empty
                idle = writer.idle or self._flush()
        # From here on the state stays as it is: sources wait for the same thing that the connection is polled for.
        for source in self.sources:
            if source.fd >= 0:
                self._want(source.fd, select.POLLIN if idle and source.credit else 0)
        self._want(self.connection.fileno(), select.POLLIN if idle else select.POLLIN | select.POLLOUT)

    def _settle_sink(self, sink: Sink) -> None:
        if sink.broken or (sink.ended and not sink.waiting):
            fd, sink.fd = sink.fd, -1
            self.unwatch(fd)
            if not sink.ended:
                self.writer.queue(wire.CLOSED, sink.channel)
            self.on_sink_end(fd)
            return
        self._want(sink.fd, select.POLLOUT if sink.waiting else 0)
        if sink.owed >= _GRANT and not sink.ended and self.writer.backlog < BACKLOG_MAX:
            self.writer.queue(wire.CREDIT, sink.channel, _U32.pack(sink.owed))
            sink.granted += sink.owed
            sink.owed = 0

    def _pump(self, source: Source) -> None:
        """Send what *source* has, as far as credit and the connection allow."""
        writer = self.writer
        if not writer.idle or source.fd < 0:
            return
        for _ in range(source.rounds):
            if not source.credit:
                return
            try:
                size = writer.bulk(wire.DATA, source.channel, source.fd, min(source.credit, wire.DATA_MAX))
            except BlockingIOError:
                if source.last:
                    self.end_source(source)
                return
            except OSError:
                size = 0  # a terminal whose other side is closed says EIO
            if not size:
                self.end_source(source)
                return
            source.credit -= size
            if source.watch:
                source.watch(writer.payload)
            if not self._flush() or size < wire.DATA_MAX // 4:
                return

    def _flush(self) -> bool:
        try:
            return self.writer.flush()
        except OSError as error:
            raise Closed(error.strerror) from None

    def _on_connection(self) -> None:
        try:
            alive = self.reader.fill()
        except BlockingIOError:
            return  # only room to write
        except OSError as error:
            raise Closed(error.strerror) from None
        if not alive:
            raise Closed("end of the connection")
        self._take_frames()

    def _take_frames(self) -> None:
        try:
            for kind, channel, payload in self.reader.frames():
                if kind == wire.DATA:
                    self._on_data(channel, payload)
                elif kind == wire.CONTROL:
                    if channel:
                        raise wire.WireError(f"control message on channel {channel}")
                    self.on_control(bytes(payload))
                    if self.finished:
                        return
                else:
                    self._on_flow(kind, channel, payload)
        except frames.FrameError as error:
            raise wire.WireError(str(error)) from None

    def _on_data(self, channel: int, piece: memoryview) -> None:
        for sink in self.sinks:
            if sink.channel == channel:
                if piece:
                    sink.put(piece)
                elif sink.ended:
                    raise wire.WireError(f"channel {channel} ends twice")
                else:
                    sink.ended = True
                return
        raise wire.WireError(f"data on channel {channel}, which does not lead here")

    def _on_flow(self, kind: int, channel: int, payload: memoryview) -> None:
        for source in self.sources:
            if source.channel == channel:
                if kind == wire.CLOSED:
                    self.end_source(source)
                    return
                if len(payload) != _U32.size:
                    raise wire.WireError(f"credit of {len(payload)} bytes")
                source.credit += _U32.unpack(payload)[0]
                if source.credit > wire.CREDIT_MAX:
                    raise wire.WireError(f"too much credit for channel {channel}")
                return
        raise wire.WireError(f"credit for channel {channel}, which does not come from here")
