"""Between a hypervisor and its VM's virtiofsds, for the day when one of these ends.

The guest's requests are answered by it or by nobody: Linux can't abort a virtio-fs connection (fs/fuse/virtio_fs.c
sets no_control and no_force_umount), and a process that waits for an answer can't be killed. Nor can another
virtiofsd go on, since the files that the guest has open went with the first.

So a child of vm-launch passes on what hypervisor and virtiofsd say to each other, and notes where in the guest's
memory requests are put. They themselves do not come this way. Once a virtiofsd has ended, the child is in its place
and answers each request with an error (lost.py). It is in the hypervisor's unit, as its user: who has that memory.

The protocol is vhost-user, see "vhost-user protocol" in QEMU's documentation; of virtiofsd, the backend's part.
"""

import _socket
import os
import select
import struct
from typing import NamedTuple, NoReturn

from vmsilo.failure import EX_OSERR, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vm_launch.lost import Guest

# Requests, of which those are named that say where things are, or have an answer of their own.
GET_FEATURES = 1
SET_FEATURES = 2
SET_MEM_TABLE = 5
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
GET_PROTOCOL_FEATURES = 15
GET_QUEUE_NUM = 17
GET_CONFIG = 24
GET_INFLIGHT_FD = 31
GET_MAX_MEM_SLOTS = 36
ADD_MEM_REG = 37
REM_MEM_REG = 38
GET_STATUS = 40
ANSWERED = (
    GET_FEATURES,
    GET_VRING_BASE,
    GET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM,
    GET_CONFIG,
    GET_INFLIGHT_FD,
    GET_MAX_MEM_SLOTS,
    GET_STATUS,
)

# Flags of a message.
VERSION = 1
REPLY = 1 << 2
NEED_REPLY = 1 << 3

_HEADER = struct.Struct("=III")  # request, flags, size of the payload
_NUMBER = struct.Struct("=Q")
_STATE = struct.Struct("=II")  # index of the ring, number
_ADDRESSES = struct.Struct("=IIQQQQ")  # index of the ring, flags, descriptors, used, available, log
_REGION = struct.Struct("=QQQQ")  # guest's address, size, address in the hypervisor, offset in the file
_TABLE = struct.Struct("=II")  # number of regions, padding

_PAYLOAD_MAX = 4096  # bytes
_DESCRIPTORS_MAX = 32
_RINGS_MAX = 256  # as many as a message about a ring's events can name
_NO_DESCRIPTOR = 1 << 8  # in such a message: none comes with it

PATIENCE = 10.0  # seconds within which the rest of a message has to come, or to be taken
_ROUND = 1000  # milliseconds between two looks at the requests of who has lost a share, whether told of any or not


class Message(NamedTuple):
    """One message, with the descriptors that came along."""

    request: int
    flags: int
    payload: bytes
    descriptors: tuple[int, ...] = ()


class Region(NamedTuple):
    """A piece of the guest's memory."""

    guest: int  # address
    size: int  # bytes
    hypervisor: int  # the same address, as the hypervisor has it
    offset: int  # in the file
    descriptor: int


class Ring:
    """Where one queue of the guest is; addresses are the hypervisor's."""

    __slots__ = ("available", "base", "call", "descriptors", "kick", "size", "used")

    def __init__(self) -> None:
        self.size = 0  # requests
        self.base = 0  # the next request's number
        self.descriptors = 0
        self.available = 0
        self.used = 0
        self.kick = -1  # eventfd by which the guest tells of requests; -1: the ring is not in use
        self.call = -1  # eventfd by which it is told of answers


class Line:
    """The connections of one shared directory."""

    __slots__ = (
        "answers", "begun", "features", "hypervisor", "listener", "pending", "regions", "rings", "server",
        "substitute", "tag",
    )  # fmt: skip

    def __init__(
        self, tag: str, server: _socket.socket, hypervisor: _socket.socket | None, listener: _socket.socket | None
    ) -> None:
        """*listener*: where the hypervisor will connect, if it is not connected yet."""
        self.tag = tag
        self.begun = False  # until the hypervisor has spoken, virtiofsd's answers are for somebody else
        self.server: _socket.socket | None = server
        self.hypervisor = hypervisor
        self.listener = listener
        self.regions: list[Region] = []
        self.rings: dict[int, Ring] = {}
        self.features = 0
        self.answers: dict[int, bytes] = {}  # by request, as virtiofsd gave them
        self.pending: Message | None = None  # the hypervisor waits for an answer to that
        self.substitute: Guest | None = None  # in the place of virtiofsd

    def descriptors(self) -> list[int]:
        """What is to be looked at when it is readable."""
        server = self.server if self.begun else None
        ends = [end.fileno() for end in (server, self.hypervisor, self.listener) if end]
        return ends + ([ring.kick for ring in self.rings.values() if ring.kick >= 0] if self.substitute else [])

    def close(self) -> None:
        for end in (self.server, self.hypervisor, self.listener):
            if end:
                end.close()
        self.server = self.hypervisor = self.listener = None

    def note(self, message: Message) -> None:
        """Remember what *message* of the hypervisor says of memory and rings, and close what comes with others."""
        kept = self._note(message)
        for descriptor in message.descriptors:
            if descriptor not in kept:
                os.close(descriptor)

    def _note(self, message: Message) -> tuple[int, ...]:
        """As note(). Which descriptors are kept. Raises struct.error for a message that is too short."""
        request, payload = message.request, message.payload
        if request == SET_FEATURES:
            (self.features,) = _NUMBER.unpack_from(payload)
        elif request == SET_MEM_TABLE:
            number, _ = _TABLE.unpack_from(payload)
            places = [_TABLE.size + index * _REGION.size for index in range(min(number, len(message.descriptors)))]
            self._forget_regions(self.regions)
            self.regions = [
                region(payload, place, descriptor)
                for place, descriptor in zip(places, message.descriptors, strict=False)
            ]
            return message.descriptors[: len(places)]
        elif request == ADD_MEM_REG and message.descriptors:
            self.regions.append(region(payload, _NUMBER.size, message.descriptors[0]))
            return message.descriptors[:1]
        elif request == REM_MEM_REG:
            gone = region(payload, _NUMBER.size, -1)
            self._forget_regions([known for known in self.regions if known[:3] == gone[:3]])
        elif request in (SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE):
            self._note_ring(request, payload)
        elif request in (SET_VRING_KICK, SET_VRING_CALL):
            return self._note_event(message)
        return ()

    def _note_ring(self, request: int, payload: bytes) -> None:
        index, number = _STATE.unpack_from(payload)
        ring = self._ring(index)
        if request == SET_VRING_NUM:
            ring.size = number
        elif request == SET_VRING_BASE:
            ring.base = number
        elif request == SET_VRING_ADDR:
            _, _, ring.descriptors, ring.used, ring.available, _ = _ADDRESSES.unpack_from(payload)
        elif ring.kick >= 0:  # GET_VRING_BASE, which stops it
            os.close(ring.kick)
            ring.kick = -1

    def _note_event(self, message: Message) -> tuple[int, ...]:
        (number,) = _NUMBER.unpack_from(message.payload)
        ring = self._ring(number & 0xFF)
        kept = () if number & _NO_DESCRIPTOR else message.descriptors[:1]
        descriptor = kept[0] if kept else -1
        if message.request == SET_VRING_KICK:
            old, ring.kick = ring.kick, descriptor
        else:
            old, ring.call = ring.call, descriptor
        if old >= 0:
            os.close(old)
        return kept

    def _ring(self, index: int) -> Ring:
        if index >= _RINGS_MAX:
            raise ConnectionError(f"a ring of number {index}")
        return self.rings.setdefault(index, Ring())

    def _forget_regions(self, regions: list[Region]) -> None:
        for gone in regions:
            os.close(gone.descriptor)
        self.regions = [known for known in self.regions if known not in regions]


def region(payload: bytes, place: int, descriptor: int) -> Region:
    """The region that stands in *payload* at *place*. Raises struct.error."""
    guest, size, hypervisor, offset = _REGION.unpack_from(payload, place)
    return Region(guest, size, hypervisor, offset, descriptor)


def receive(connection: _socket.socket) -> Message | None:
    """The next message; None at the end of the connection. Raises OSError."""
    space = _socket.CMSG_SPACE(_DESCRIPTORS_MAX * 4)
    head, ancillary, flags, _ = connection.recvmsg(_HEADER.size, space, _socket.MSG_CMSG_CLOEXEC)
    descriptors: tuple[int, ...] = ()
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            descriptors += struct.unpack(f"={len(rights) // 4}i", rights[: len(rights) // 4 * 4])
    if not head:
        return None
    if flags & _socket.MSG_CTRUNC:
        raise ConnectionError("more descriptors than a message has")
    request, options, size = _HEADER.unpack(_rest(connection, head, _HEADER.size))
    if size > _PAYLOAD_MAX:
        raise ConnectionError(f"a message of {size} bytes")
    return Message(request, options, _rest(connection, b"", size), descriptors)


def _rest(connection: _socket.socket, begun: bytes, size: int) -> bytes:
    while len(begun) < size:
        more = connection.recv(size - len(begun))
        if not more:
            raise ConnectionError("it ends within a message")
        begun += more
    return begun


def send(connection: _socket.socket, message: Message) -> None:
    """Raises OSError."""
    whole = _HEADER.pack(message.request, message.flags, len(message.payload)) + message.payload
    rights = struct.pack(f"={len(message.descriptors)}i", *message.descriptors)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
    sent = connection.sendmsg([whole], ancillary, _socket.MSG_NOSIGNAL)
    if sent < len(whole):
        connection.sendall(whole[sent:])


def begin(vm: str, lines: list[Line]) -> None:
    """Leave *lines*, each with one end of a connection to virtiofsd and to the hypervisor, to a child.

    Until the hypervisor speaks, this process may ask a virtiofsd itself, through the connection that both have. The
    child ends with the process that this one becomes. Raises OSError.
    """
    owner = os.pidfd_open(os.getpid())
    child = os.fork()
    if child == 0:
        if os.fork() == 0:  # nobody's child: the hypervisor would not bury it
            _child(vm, lines, owner)
        os._exit(os.EX_OK)
    os.waitpid(child, 0)
    os.close(owner)
    for line in lines:
        for end in (line.hypervisor, line.listener):
            if end:
                end.close()


def _child(vm: str, lines: list[Line], owner: int) -> NoReturn:
    status = EX_OSERR
    try:
        # Whoever holds the hypervisor's end of a connection open, keeps it from ending.
        servers = [line.server.fileno() for line in lines if line.server]
        keep_open([owner, *servers, *(number for line in lines for number in line.descriptors())])
        relay(vm, lines, owner)
        status = os.EX_OK
    except BaseException as error:
        complain("vm-launch", f"shared directories of VM {vm}: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def keep_open(descriptors: list[int]) -> None:
    """Close all but the standard streams and *descriptors*."""
    low = 3
    for descriptor in sorted(descriptors):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def relay(vm: str, lines: list[Line], owner: int) -> None:
    """Pass messages on until every hypervisor's connection has ended, or the process behind the pidfd *owner*."""
    lines = list(lines)
    while lines:
        poll = select.poll()
        poll.register(owner, select.POLLIN)
        for line in lines:
            for descriptor in line.descriptors():
                poll.register(descriptor, select.POLLIN)
        wait = _ROUND if any(line.substitute for line in lines) else None
        ready = {descriptor for descriptor, _ in poll.poll(wait)}
        if owner in ready:
            return
        for line in [line for line in lines if not attend(vm, line, ready)]:
            line.close()
            lines.remove(line)


def attend(vm: str, line: Line, ready: set[int]) -> bool:
    """Do what is to be done for *line*; False once the hypervisor has gone."""
    if line.listener and line.listener.fileno() in ready:
        accept(line)
    # Who ends the other one's connection by ending first, is the hypervisor.
    if line.hypervisor and line.hypervisor.fileno() in ready:
        try:
            message = receive(line.hypervisor)
            if message is None:
                return False
            from_hypervisor(vm, line, message)
        except (OSError, struct.error):
            return False
    if line.server and line.begun and line.server.fileno() in ready:
        from_server(vm, line)
    if line.substitute:
        line.substitute.serve()
    return True


def accept(line: Line) -> None:
    assert line.listener
    descriptor, _ = line.listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
    line.hypervisor = _socket.socket(fileno=descriptor)
    line.hypervisor.settimeout(PATIENCE)
    line.listener.close()
    line.listener = None


def from_hypervisor(vm: str, line: Line, message: Message) -> None:
    """Raises OSError if the hypervisor can't be answered."""
    line.begun = True
    if message.request in ANSWERED or message.flags & NEED_REPLY:
        line.pending = message._replace(descriptors=())
    if line.server:
        try:
            send(line.server, message)
        except OSError:
            line.note(message)
            lose(vm, line)
            return
    line.note(message)
    if line.substitute:
        answer(line)


def from_server(vm: str, line: Line) -> None:
    """Pass an answer on, or take the place of who gave none."""
    assert line.server
    try:
        message = receive(line.server)
    except OSError:
        message = None
    if message is None:
        lose(vm, line)
        return
    if message.request in ANSWERED:
        line.answers[message.request] = message.payload
    line.pending = None
    try:
        if line.hypervisor:
            send(line.hypervisor, message)
    except OSError:
        pass  # it has gone, which its own end tells next
    for descriptor in message.descriptors:
        os.close(descriptor)


def lose(vm: str, line: Line) -> None:
    """The virtiofsd has ended: from here on every request is answered with an error."""
    from vm_launch.lost import Guest  # on most days nobody needs it

    assert line.server
    line.server.close()
    line.server = None
    complain(
        "vm-launch",
        f'shared directory "{line.tag}" of VM {vm} is lost: its virtiofsd has ended, and the guest gets errors from'
        f" it; vm-stop {vm} and start it again",
    )
    line.substitute = Guest(line)
    line.substitute.take_over()
    answer(line)


def answer(line: Line) -> None:
    """Answer the hypervisor's pending message, as virtiofsd would. Raises OSError."""
    asked, line.pending = line.pending, None
    if asked is None or line.hypervisor is None:
        return
    if asked.request == GET_VRING_BASE:
        index, _ = _STATE.unpack_from(asked.payload)
        payload = _STATE.pack(index, line.rings[index].base)
    elif asked.request in ANSWERED:
        if asked.request not in line.answers:
            raise ConnectionError("nobody knows the answer any more")
        payload = line.answers[asked.request]
    else:
        payload = _NUMBER.pack(0)  # done
    send(line.hypervisor, Message(asked.request, VERSION | REPLY, payload))
