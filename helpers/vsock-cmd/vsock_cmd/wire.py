"""vmsilo-cmd(7): what vm-run and the guest's agent say to each other.

Constants, messages, and the checks of what arrives. Both ends distrust each other: a message is either exactly what
the manual page allows, or a WireError.
"""

from vmsilo import failure, frames
from vsock_cmd import cbor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

VERSION = 1

# Kinds of frames.
CONTROL = 0  # a CBOR map, channel 0
DATA = 1  # bytes of the channel's stream; none: its end
CREDIT = 2  # u32: so many more bytes may be sent on the channel
CLOSED = 3  # nobody reads the channel's stream any more

STDIN, STDOUT, STDERR = range(3)

DATA_MAX = 256 * 1024  # bytes of one data frame
REQUEST_MAX = 256 * 1024 - frames.HEADER.size  # bytes of a client's control message
REPLY_MAX = 4096  # bytes of an agent's
CREDIT_MAX = (1 << 31) - 1  # outstanding bytes of one channel
WINDOW = 1 << 20  # what either end of ours grants: so much of a stream may wait in its memory

ARGUMENTS_MAX = 8192
TEXT_MAX = 1024
SIDE_MAX = 65535  # rows or columns of a terminal
SIGNAL_MAX = 64

TO_AGENT = {CONTROL: REQUEST_MAX, DATA: DATA_MAX, CREDIT: 4, CLOSED: 0}
TO_CLIENT = {CONTROL: REPLY_MAX, DATA: DATA_MAX, CREDIT: 4, CLOSED: 0}


class WireError(Exception):
    """The peer does not keep to vmsilo-cmd(7)."""


class Pty:
    """The terminal a command wants."""

    __slots__ = ("columns", "rows", "term")

    def __init__(self, term: bytes, rows: int, columns: int) -> None:
        self.term = term
        self.rows = rows
        self.columns = columns


class Request:
    """What to run. *command* is an argument vector, or a string for the user's login shell."""

    __slots__ = ("command", "cwd", "detach", "environment", "pty", "user")

    def __init__(
        self,
        command: "bytes | list[bytes]",
        *,
        environment: "list[bytes] | None" = None,
        cwd: "bytes | None" = None,
        user: "str | None" = None,
        pty: "Pty | None" = None,
        detach: bool = False,
    ) -> None:
        self.command = command
        self.environment = environment or []
        self.cwd = cwd
        self.user = user
        self.pty = pty
        self.detach = detach


class Signal:
    """Client: send the signal to the command."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Resize:
    """Client: the terminal has a new size."""

    __slots__ = ("columns", "rows")

    def __init__(self, rows: int, columns: int) -> None:
        self.rows = rows
        self.columns = columns


class Started:
    """Agent: the command runs."""

    __slots__ = ("pid",)

    def __init__(self, pid: int) -> None:
        self.pid = pid


class Failed:
    """Agent: the command could not be started. *status* is what vm-run should end with."""

    __slots__ = ("status", "text")

    def __init__(self, text: str, status: int) -> None:
        self.text = text
        self.status = status


class Exited:
    """Agent: the command has ended by itself, and this was the last of its output."""

    __slots__ = ("status",)

    def __init__(self, status: int) -> None:
        self.status = status


class Killed:
    """Agent: a signal has ended the command."""

    __slots__ = ("signal",)

    def __init__(self, signal: int) -> None:
        self.signal = signal


def encode_request(request: Request) -> bytes:
    """Raises WireError for a request that is too large to be sent."""
    fields: dict[str, cbor.Value] = {"version": VERSION}
    fields["command"] = request.command if isinstance(request.command, bytes) else list(request.command)
    if request.environment:
        fields["env"] = list(request.environment)
    if request.cwd is not None:
        fields["cwd"] = request.cwd
    if request.user is not None:
        fields["user"] = request.user
    if request.pty is not None:
        pty = request.pty
        fields["pty"] = {"term": pty.term, "rows": pty.rows, "columns": pty.columns}
    if request.detach:
        fields["detach"] = True
    encoded = cbor.encode(fields)
    if len(encoded) > REQUEST_MAX:
        raise WireError(f"command and environment take {len(encoded)} bytes, at most {REQUEST_MAX} are possible")
    return encoded


def encode_order(order: "Signal | Resize") -> bytes:
    if isinstance(order, Signal):
        return cbor.encode({"type": "signal", "signal": order.number})
    return cbor.encode({"type": "resize", "rows": order.rows, "columns": order.columns})


def encode_reply(reply: "Started | Failed | Exited | Killed") -> bytes:
    if isinstance(reply, Started):
        return cbor.encode({"type": "started", "version": VERSION, "pid": reply.pid})
    if isinstance(reply, Failed):
        text = reply.text.encode(errors="replace")[:TEXT_MAX].decode(errors="ignore")
        return cbor.encode({"type": "failed", "version": VERSION, "text": text, "status": reply.status})
    if isinstance(reply, Exited):
        return cbor.encode({"type": "exited", "status": reply.status})
    return cbor.encode({"type": "killed", "signal": reply.signal})


class _Fields:
    """The map of one message; every take checks type and bounds, and end() that nothing else was in it."""

    __slots__ = ("_fields",)

    def __init__(self, value: "cbor.Value") -> None:
        if not isinstance(value, dict):
            raise WireError("a control message that is no map")
        self._fields = value

    def has(self, key: str) -> bool:
        return key in self._fields

    def is_list(self, key: str) -> bool:
        return type(self._fields.get(key)) is list

    def take(self, key: str, kind: "type[T]") -> "T":
        value = self._fields.pop(key, None)
        if type(value) is not kind:
            raise WireError(f"control message: {key!r} is missing or no {kind.__name__}")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.take(key, int)
        if not low <= value <= high:
            raise WireError(f"control message: {key!r} is {value}, not {low}..{high}")
        return value

    def string(self, key: str) -> bytes:
        """A byte string that can be handed to the kernel."""
        return _no_zero(key, self.take(key, bytes))

    def strings(self, key: str) -> list[bytes]:
        values = self.take(key, list)
        if len(values) > ARGUMENTS_MAX:
            raise WireError(f"control message: {key!r} has {len(values)} items, at most {ARGUMENTS_MAX} allowed")
        for value in values:
            if type(value) is not bytes:
                raise WireError(f"control message: {key!r} holds something else than byte strings")
            _no_zero(key, value)
        return values

    def end(self) -> None:
        if self._fields:
            raise WireError(f"control message: unknown key {min(self._fields)[:40]!r}")


def _no_zero(key: str, value: bytes) -> bytes:
    if 0 in value:
        raise WireError(f"control message: {key!r} holds a zero byte")
    return value


def _decode(payload: bytes) -> _Fields:
    try:
        return _Fields(cbor.decode(payload))
    except cbor.CborError as error:
        raise WireError(f"control message: {error}") from None


def decode_request(payload: bytes) -> Request:
    """The client's first message. Raises WireError."""
    fields = _decode(payload)
    version = fields.take("version", int)
    if version != VERSION:
        raise WireError(f"this guest speaks version {VERSION} of vmsilo-cmd, the host asked for {version}")
    command: bytes | list[bytes]
    command = fields.strings("command") if fields.is_list("command") else fields.string("command")
    if not command or not command[0]:
        raise WireError("control message: 'command' is empty")
    request = Request(command)
    if fields.has("env"):
        request.environment = fields.strings("env")
        if any(item.find(b"=") < 1 for item in request.environment):
            raise WireError("control message: 'env' holds an item that is not NAME=VALUE")
    if fields.has("cwd"):
        request.cwd = fields.string("cwd")
    if fields.has("user"):
        request.user = fields.take("user", str)
    if fields.has("pty"):
        request.pty = _decode_pty(_Fields(fields.take("pty", dict)))
    if fields.has("detach"):
        request.detach = fields.take("detach", bool)
    fields.end()
    if request.detach and request.pty:
        raise WireError("control message: a detached command has no terminal")
    return request


def _decode_pty(fields: _Fields) -> Pty:
    pty = Pty(fields.string("term"), fields.integer("rows", 0, SIDE_MAX), fields.integer("columns", 0, SIDE_MAX))
    fields.end()
    return pty


def decode_order(payload: bytes) -> "Signal | Resize":
    """A later message of the client. Raises WireError."""
    fields = _decode(payload)
    kind = fields.take("type", str)
    order: Signal | Resize
    if kind == "signal":
        order = Signal(fields.integer("signal", 1, SIGNAL_MAX))
    elif kind == "resize":
        order = Resize(fields.integer("rows", 0, SIDE_MAX), fields.integer("columns", 0, SIDE_MAX))
    else:
        raise WireError(f"control message of unknown type {kind[:40]!r}")
    fields.end()
    return order


def decode_reply(payload: bytes) -> "Started | Failed | Exited | Killed":
    """A message of the agent. Raises WireError."""
    fields = _decode(payload)
    kind = fields.take("type", str)
    if kind in ("started", "failed"):
        version = fields.take("version", int)
        if version != VERSION and kind == "started":
            raise WireError(f"the guest answered in version {version} of vmsilo-cmd")
    reply: Started | Failed | Exited | Killed
    if kind == "started":
        reply = Started(fields.integer("pid", 1, (1 << 31) - 1))
    elif kind == "failed":
        reply = Failed(failure.one_line(fields.take("text", str)[:TEXT_MAX]), fields.integer("status", 1, 255))
    elif kind == "exited":
        reply = Exited(fields.integer("status", 0, 255))
    elif kind == "killed":
        reply = Killed(fields.integer("signal", 1, SIGNAL_MAX))
    else:
        raise WireError(f"control message of unknown type {kind[:40]!r}")
    fields.end()
    return reply
