"""vm-run's side of one command: relay its streams, forward signals, learn how it ended."""

import _socket
import os
import select
import stat
import time

from vmsilo.failure import complain
from vsock_cmd import stream, wire
from vsock_cmd.signals import raw as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vsock_cmd.terminal import Terminal

PROGRAM = "vm-run"

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_OF_TERMINAL = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
_PATIENCE = 3  # so often the same signal is forwarded; the next one ends vm-run itself

_ESCAPE = 0x1D  # Ctrl-], as in vm-shell; here it is the command's unless typed so often, and that quickly:
_ESCAPES = 3
_ESCAPE_TIME = 1.0  # seconds

_PIPE_BUF = 4096  # bytes that a writable pipe takes at once, whoever else writes to it


class Lost(Exception):
    """The command's end can't be known any more, or nobody wants to; the text says why."""


class Client(stream.Link):
    """One command, asked for by *request*. *terminal* is the user's where the command gets one of its own."""

    def __init__(
        self, connection: _socket.socket, request: bytes, terminal: "Terminal | None", *, streams: int
    ) -> None:
        """*streams*: 3, or 2 where a terminal of the guest joins output and errors, or 0 to only start it."""
        super().__init__(connection, wire.TO_CLIENT, wire.REPLY_MAX)
        self.status = 0  # what vm-run ends with, once finished
        self.message = ""  # why the command could not be started
        self._terminal = terminal
        self._streams = streams
        self._started = False
        self._stdout = -1  # where it is written to
        self._signals = _Signals(_FORWARDED + (_OF_TERMINAL if terminal else ()))
        self._counts: dict[int, int] = {}
        self._escapes: list[float] = []  # when the last keys were typed, as long as all were that one
        self.watch(self._signals.fd, self._on_signals)
        self.control(request)

    def relay(self) -> None:
        """Run until the command has ended and its output is written. Raises Lost."""
        try:
            self._relay()
            self._drain()
        finally:
            if self._terminal:
                self._terminal.restore()

    def _relay(self) -> None:
        try:
            self.run()
        except (stream.Closed, wire.WireError) as error:
            for sink in self.sinks:
                if sink.waiting:
                    sink.flush()  # once: whether there is a reader for the rest is not worth waiting for now
            if isinstance(error, stream.Closed):
                raise Lost("the connection to the guest was lost") from None
            raise Lost(f"the guest broke the protocol: {error}") from None
        finally:
            self.connection.close()

    def on_control(self, payload: bytes) -> None:
        reply = wire.decode_reply(payload)
        if isinstance(reply, wire.Started):
            if self._started:
                raise wire.WireError("the command starts twice")
            self._started = True
            self._start()
            return
        if isinstance(reply, wire.Failed):
            self.message, self.status = reply.text, reply.status
        elif not self._started:
            raise wire.WireError("the command ends before it starts")
        else:
            self.status = reply.status if isinstance(reply, wire.Exited) else 128 + reply.signal
        self.finished = True

    def on_source_end(self, fd: int) -> None:
        """Standard streams stay open: closed, their numbers would be given to other files."""

    def on_sink_end(self, fd: int) -> None:
        """Let the reader of stdout see its end, however long the command goes on. stderr is for our messages too."""
        if fd == self._stdout:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, 1)
            os.close(null)
            if fd != 1:
                os.close(fd)

    def _start(self) -> None:
        if not self._streams:
            self.finished = True
            return
        if self._terminal:
            self._refresh(signal.SIGCONT)  # the start may have taken long, and the window another size
        stream.enlarge(0)
        watch = self._on_keys if self._terminal else None
        self.add_source(stream.Source(wire.STDIN, 0, blocking=True, watch=watch))  # others share it, too
        for channel in range(1, self._streams):
            sink = standard_sink(channel)
            self.add_sink(sink)
            if channel == wire.STDOUT and not self._terminal:
                self._stdout = sink.fd

    def _on_keys(self, keys: memoryview) -> None:
        """The way out where the guest does not answer any more: the terminal is raw, so no key makes a signal."""
        now = time.monotonic()
        for key in keys[-_ESCAPES:]:
            self._escapes = [*self._escapes, now] if key == _ESCAPE else []
        self._escapes = [typed for typed in self._escapes if now - typed < _ESCAPE_TIME]
        if len(self._escapes) >= _ESCAPES:
            raise Lost("left with Ctrl-], and the command hung up")

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGTSTP:
                self._suspend()
            elif number in _OF_TERMINAL:
                self._refresh(number)
            else:
                self._forward(number)

    def _forward(self, number: int) -> None:
        self._counts[number] = count = self._counts.get(number, 0) + 1
        gone = self._terminal and number == signal.SIGHUP  # the user's terminal, and with it everybody to ask
        if not self._started or count > _PATIENCE or gone:
            self.status = 128 + number
            self.finished = True
        elif self.writer.backlog < stream.BACKLOG_MAX:
            self.control(wire.encode_order(wire.Signal(number)))
            if count == _PATIENCE and number == signal.SIGINT:
                complain(PROGRAM, "the command still runs; once more, and it is left to itself")

    def _refresh(self, number: int) -> None:
        """The terminal has another size, or vm-run was stopped and the terminal used by others meanwhile."""
        if not self._terminal or not self._started:
            return
        if number == signal.SIGCONT:
            self._terminal.raw()
        if self.writer.backlog < stream.BACKLOG_MAX:
            self.control(wire.encode_order(wire.Resize(*self._terminal.size())))

    def _suspend(self) -> None:
        """Stop as asked, the terminal as it was found meanwhile; SIGCONT goes to _refresh()."""
        if self._terminal:
            self._terminal.restore()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _drain(self) -> None:
        """The guest is done; what stdout and stderr have not taken yet is still owed to their readers."""
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        waiting = {sink.fd: sink for sink in self.sinks if sink.waiting}
        for fd in waiting:
            poll.register(fd, select.POLLOUT)
        while waiting:
            for fd, _ in poll.poll():
                if fd == self._signals.fd:
                    asked = [number for number in self._signals.take() if number in _FORWARDED]
                    if asked:
                        self.status = 128 + asked[0]
                        return
                    continue
                waiting[fd].flush()
                if not waiting[fd].waiting:
                    del waiting[fd]
                    poll.unregister(fd)


class _Signals:
    """Signals as a descriptor: the kernel's part is a byte in a pipe."""

    __slots__ = ("_write", "fd")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _noted)

    def take(self) -> bytes:
        return os.read(self.fd, 64)


def _noted(number: int, frame: object) -> None:
    """The wake-up pipe has it already."""


def standard_sink(fd: int) -> stream.Sink:
    """A sink for one of the descriptors that vm-run was given, and must not make non-blocking: others share them.

    Files never wait. A pipe or terminal is opened a second time, which can be made non-blocking; where that is not
    allowed it gets no more at once than it takes when it is writable.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return stream.Sink(fd, fd, _send)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        try:
            again = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return stream.Sink(fd, fd, _write_little)
        stream.enlarge(again)
        return stream.Sink(fd, again)
    return stream.Sink(fd, fd)


def _write_little(fd: int, piece: memoryview) -> int:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(fd, piece[:_PIPE_BUF])


def _send(fd: int, piece: memoryview) -> int:
    peer = _socket.socket(fileno=fd)
    try:
        return peer.send(piece, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
    finally:
        peer.detach()
