"""Hearing from the guest, above all that it is ready.

systemd in the guest sends the messages of sd_notify(3), one short connection each, to the vsock address that it
was given as system credential ``vmm.notify_socket`` (systemd.system-credentials(7)); a guest without systemd does
the same.
Its PID 1 waits until the connection is closed, and a half-close does not get through a hybrid socket: so each is
closed as soon as its message is there, and none is read to its end.

Whoever speaks here is hostile: messages, connections and what is passed on are bounded.
"""

import _socket
import select
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from vm_launch import files
from vmsilo import ports
from vmsilo.failure import EX_OSERR, Failure
from vmsilo.plan import Plan

MESSAGE_MAX = 4096  # bytes
CONNECTIONS_MAX = 16
MESSAGE_SECONDS = 1.0  # that a message may take to arrive
PROGRESS_MAX = 64  # reports passed on
_UNIT_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@:\\")
_UNIT_MAX = 64


class Outcome(Enum):
    READY = auto()
    DIED = auto()  # the hypervisor did
    LATE = auto()


class Message(NamedTuple):
    """What we take from a message."""

    ready: bool
    unit: str  # that the guest says it has reached; "" for none


def listen(plan: Plan) -> _socket.socket:
    """Listen for the guest of the running *plan*. Raises Failure."""
    return listen_hybrid(plan.vsock) if plan.vsock else listen_kernel(plan.cid)


def close(listener: _socket.socket, plan: Plan) -> None:
    """Undo listen()."""
    listener.close()
    if plan.vsock:
        files.remove(hybrid_address(plan.vsock))


def listen_hybrid(path: str) -> _socket.socket:
    """Listen for a guest behind the hybrid socket *path* (see vmsilo.paths.hybrid_vsock)."""
    address = hybrid_address(path)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        files.remove(address)
        listener.bind(address)
        listener.listen(CONNECTIONS_MAX)
    except OSError as error:
        listener.close()
        raise Failure(f"cannot listen on {address}: {error.strerror or error}", code=EX_OSERR) from None
    return listener


def hybrid_address(path: str) -> str:
    return f"{path}_{ports.READY}"


def listen_kernel(cid: int) -> _socket.socket:
    """Listen for the guest *cid* on the kernel's vsock."""
    port = ports.kernel_ready(cid)
    listener = None
    try:
        listener = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM)
        listener.bind((ports.HOST_CID, port))
        listener.listen(CONNECTIONS_MAX)
    except OSError as error:
        if listener:
            listener.close()
        raise Failure(f"cannot listen on vsock port {port}: {error.strerror}", code=EX_OSERR) from None
    return listener


def wait(
    listener: _socket.socket, *, cid: int | None, process: int, deadline: float, progress: Callable[[str], None]
) -> Outcome:
    """Wait until a message says that the guest is ready.

    *cid*: take connections from that context id only; None where the socket's directory sees to it. *process*: a
    descriptor that is readable once the hypervisor has ended, or -1. *progress* is told the units that the guest
    reaches.
    """
    listener.settimeout(0)
    peers: dict[int, _Peer] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if process >= 0:
        poll.register(process, select.POLLIN)
    told = 0
    try:
        while (now := time.monotonic()) < deadline:
            for number in [number for number, peer in peers.items() if peer.deadline <= now]:
                _drop(poll, peers, number)
            limit = min([deadline, *(peer.deadline for peer in peers.values())])
            events = {number for number, _ in poll.poll(max(0.0, limit - now) * 1000 + 1)}
            for number in events & peers.keys():
                message = peers[number].read()
                if message is None:
                    continue
                _drop(poll, peers, number)
                if message.ready:
                    return Outcome.READY
                if message.unit and told < PROGRESS_MAX:
                    told += 1
                    progress(message.unit)
            if process in events:
                return Outcome.DIED
            if listener.fileno() in events:
                _accept(listener, cid, poll, peers)
        return Outcome.LATE
    finally:
        for peer in peers.values():
            peer.socket.close()


class _Peer:
    """A connection that has not told all of its message."""

    __slots__ = ("deadline", "received", "socket")

    def __init__(self, connection: _socket.socket) -> None:
        self.socket = connection
        self.received = b""
        self.deadline = time.monotonic() + MESSAGE_SECONDS

    def read(self) -> Message | None:
        """Its message once that is there, None before."""
        try:
            received = self.socket.recv(MESSAGE_MAX - len(self.received))
        except BlockingIOError:
            return None
        except OSError:
            received = b""
        self.received += received
        if received and not complete(self.received) and len(self.received) < MESSAGE_MAX:
            return None
        return parse(self.received)


def _accept(listener: _socket.socket, cid: int | None, poll: select.poll, peers: dict[int, _Peer]) -> None:
    try:
        number, address = listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
    except OSError:
        return  # it went away again
    connection = _socket.socket(fileno=number)
    if cid is not None and address[0] != cid:
        connection.close()
        return
    if len(peers) >= CONNECTIONS_MAX:
        _drop(poll, peers, next(iter(peers)))  # the oldest
    connection.settimeout(0)
    peers[number] = _Peer(connection)
    poll.register(connection, select.POLLIN)


def _drop(poll: select.poll, peers: dict[int, _Peer], number: int) -> None:
    poll.unregister(number)
    peers.pop(number).socket.close()


def complete(received: bytes) -> bool:
    """Whether *received* looks like a whole message: its last line is ended, or an assignment with a value.

    Nothing in the protocol marks the end but the end of the connection, which the sender makes depend on us.
    """
    last = received.rpartition(b"\n")[2]
    return bool(received) and (not last or b"=" in last[:-1])


def parse(received: bytes) -> Message:
    """What the message says, of what we know. Never raises."""
    ready = False
    unit = ""
    for line in received.split(b"\n"):
        key, _, value = line.partition(b"=")
        if key == b"READY":
            ready = ready or value == b"1"
        elif key == b"X_SYSTEMD_UNIT_ACTIVE":
            unit = _unit(value)
    return Message(ready, unit)


def _unit(value: bytes) -> str:
    name = value[:_UNIT_MAX].decode("ascii", "replace")
    return name if all(character in _UNIT_CHARACTERS for character in name) else ""
