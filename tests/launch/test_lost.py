"""Between a hypervisor and a virtiofsd, and in the place of one that has ended: with a driver's memory, in a file."""

import errno
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm_launch import relay
from vm_launch.lost import Guest, Place, outstanding
from vm_launch.relay import Line, Message, Ring

SIZE = 4  # of the queue
MEMORY = 1 << 16
GUEST, HYPERVISOR, OFFSET = 0x4000_0000, 0x7F00_0000_0000, 0x1000  # where the memory is, for each of the three
DESCRIPTORS, AVAILABLE, USED, BUFFERS = 0, 0x400, 0x800, 0x1000  # in there

FEATURES = 1 << 29 | 1 << 30  # VIRTIO_RING_F_EVENT_IDX
NEXT, WRITE, INDIRECT = 1, 2, 4


class Driver:
    """A guest's driver with one queue, and the hypervisor that tells of it."""

    def __init__(self) -> None:
        self.file = os.memfd_create("memory")
        os.ftruncate(self.file, OFFSET + MEMORY)
        self.memory = mmap.mmap(self.file, OFFSET + MEMORY)
        self.kick, self.call = os.eventfd(0), os.eventfd(0, os.EFD_NONBLOCK)
        self.came = 0

    def close(self) -> None:
        for descriptor in (self.file, self.kick, self.call):
            os.close(descriptor)

    def pack(self, form: str, place: int, *values: int) -> None:
        struct.pack_into("=" + form, self.memory, OFFSET + place, *values)

    def unpack(self, form: str, place: int) -> tuple[int, ...]:
        return struct.unpack_from("=" + form, self.memory, OFFSET + place)

    def request(self, head: int, unique: int, *, indirect: bool = False, answered: bool = True) -> None:
        """Make a request that begins at descriptor *head*; if *answered*, the next one is for the answer."""
        buffers = BUFFERS + head * 0x100
        self.pack("IIQ", buffers, 40, 1, unique)
        self.pack("IiQ", buffers + 0x40, 0, 0, 0)
        table, first = (buffers + 0x80, 0) if indirect else (DESCRIPTORS, head)
        self.pack("QIHH", table + 16 * first, GUEST + buffers, 40, NEXT if answered else 0, first + 1)
        if answered:
            self.pack("QIHH", table + 16 * (first + 1), GUEST + buffers + 0x40, 16, WRITE, 0)
        if indirect:
            self.pack("QIHH", DESCRIPTORS + 16 * head, GUEST + table, 32, INDIRECT, 0)
        self.pack("H", AVAILABLE + 4 + 2 * (self.came % SIZE), head)
        self.came += 1
        self.pack("H", AVAILABLE + 2, self.came)

    def answer(self, head: int) -> None:
        """As virtiofsd does."""
        (done,) = self.unpack("H", USED + 2)
        self.pack("II", USED + 4 + 8 * (done % SIZE), head, 16)
        self.pack("H", USED + 2, done + 1)

    def answer_of(self, head: int) -> tuple[int, ...]:
        return self.unpack("IiQ", BUFFERS + head * 0x100 + 0x40)

    def used(self) -> list[tuple[int, ...]]:
        (done,) = self.unpack("H", USED + 2)
        return [self.unpack("II", USED + 4 + 8 * (number % SIZE)) for number in range(done)]

    def messages(self) -> list[Message]:
        region = struct.pack("=IIQQQQ", 1, 0, GUEST, MEMORY, HYPERVISOR, OFFSET)
        addresses = (HYPERVISOR + place for place in (DESCRIPTORS, USED, AVAILABLE, 0))
        return [
            Message(relay.SET_FEATURES, 1, struct.pack("=Q", FEATURES)),
            Message(relay.SET_MEM_TABLE, 1, region, (self.file,)),
            Message(relay.SET_VRING_NUM, 1, struct.pack("=II", 0, SIZE)),
            Message(relay.SET_VRING_BASE, 1, struct.pack("=II", 0, 0)),
            Message(relay.SET_VRING_ADDR, 1, struct.pack("=IIQQQQ", 0, 0, *addresses)),
            Message(relay.SET_VRING_CALL, 1, struct.pack("=Q", 0), (self.call,)),
            Message(relay.SET_VRING_KICK, 1, struct.pack("=Q", 0), (self.kick,)),
        ]


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


class Rig:
    """A relay at work, with both of its neighbours."""

    def __init__(self) -> None:
        ours, self.hypervisor = socket.socketpair()
        server, self.server = socket.socketpair()
        for end in (self.hypervisor, self.server):
            end.settimeout(10)
        self._owner = os.pidfd_open(os.getpid())
        self._thread = threading.Thread(
            target=relay.relay, args=("demo", [Line("data", server, ours, None)], self._owner)
        )
        self._thread.start()

    def ask(self, message: Message) -> Message | None:
        relay.send(self.hypervisor, message)
        return relay.receive(self.hypervisor)

    def close(self) -> None:
        self.hypervisor.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.server.close()
        os.close(self._owner)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


ENOTCONN = -errno.ENOTCONN


def test_messages_pass_both_ways_with_their_descriptors(rig: Rig, driver: Driver) -> None:
    for message in driver.messages():
        relay.send(rig.hypervisor, message)
        got = relay.receive(rig.server)
        assert got is not None
        assert got[:3] == message[:3]
        assert [os.fstat(one).st_ino for one in got.descriptors] == [
            os.fstat(one).st_ino for one in message.descriptors
        ]
        for descriptor in got.descriptors:
            os.close(descriptor)
    reply = Message(relay.GET_FEATURES, 5, struct.pack("=Q", FEATURES))
    relay.send(rig.hypervisor, Message(relay.GET_FEATURES, 1, b""))
    assert relay.receive(rig.server) == Message(relay.GET_FEATURES, 1, b"")
    relay.send(rig.server, reply)
    assert relay.receive(rig.hypervisor) == reply
    rig.hypervisor.close()
    assert relay.receive(rig.server) is None


def begin(rig: Rig, driver: Driver) -> None:
    """Tell virtiofsd of the driver, and learn what it can do."""
    for message in driver.messages():
        relay.send(rig.hypervisor, message)
    relay.send(rig.hypervisor, Message(relay.GET_FEATURES, 1, b""))
    while (got := relay.receive(rig.server)) and got.request != relay.GET_FEATURES:
        for descriptor in got.descriptors:
            os.close(descriptor)
    relay.send(rig.server, Message(relay.GET_FEATURES, 5, struct.pack("=Q", FEATURES)))
    assert relay.receive(rig.hypervisor)


def interrupted(driver: Driver) -> bool:
    return bool(select.select([driver.call], [], [], 10)[0]) and os.eventfd_read(driver.call) > 0


def test_requests_get_an_error_once_virtiofsd_has_ended(
    rig: Rig, driver: Driver, capfd: pytest.CaptureFixture[str]
) -> None:
    driver.request(0, 11)
    driver.request(2, 12, indirect=True)
    driver.answer(0)
    begin(rig, driver)
    rig.server.close()
    assert interrupted(driver)
    assert driver.used() == [(0, 16), (2, 16)]
    assert driver.answer_of(2) == (16, ENOTCONN, 12)
    assert driver.answer_of(0) == (0, 0, 0)
    assert 'shared directory "data" of VM demo is lost' in capfd.readouterr().err
    driver.request(0, 13)
    driver.request(2, 14, answered=False)
    os.eventfd_write(driver.kick, 1)
    assert interrupted(driver)
    assert driver.used()[2:] == [(0, 16), (2, 0)]
    assert driver.answer_of(0) == (16, ENOTCONN, 13)
    assert driver.unpack("H", USED + 4 + 8 * SIZE) == (4,)  # from which request on it wants to be told


def test_the_hypervisor_is_answered_in_its_place(rig: Rig, driver: Driver) -> None:
    driver.request(0, 1)
    begin(rig, driver)
    relay.send(rig.hypervisor, Message(relay.GET_FEATURES, 1, b""))  # which it does not answer any more
    rig.server.close()
    features = Message(relay.GET_FEATURES, 5, struct.pack("=Q", FEATURES))
    assert relay.receive(rig.hypervisor) == features
    assert rig.ask(Message(relay.GET_FEATURES, 1, b"")) == features
    assert rig.ask(Message(99, 9, b"")) == Message(99, 5, bytes(8))
    stop = Message(relay.GET_VRING_BASE, 1, struct.pack("=II", 0, 0))
    assert rig.ask(stop) == Message(relay.GET_VRING_BASE, 5, struct.pack("=II", 0, 1))
    driver.request(2, 2)
    relay.send(rig.hypervisor, Message(relay.SET_VRING_BASE, 1, struct.pack("=II", 0, 1)))
    relay.send(rig.hypervisor, Message(relay.SET_VRING_KICK, 1, bytes(8), (driver.kick,)))
    os.eventfd_write(driver.kick, 1)
    assert interrupted(driver)
    assert rig.ask(stop) == Message(relay.GET_VRING_BASE, 5, struct.pack("=II", 0, 2))
    assert driver.answer_of(2) == (16, ENOTCONN, 2)


def test_until_the_hypervisor_speaks_answers_are_for_others(rig: Rig) -> None:
    relay.send(rig.server, Message(relay.GET_FEATURES, 5, bytes(8)))
    assert not select.select([rig.hypervisor], [], [], 0.2)[0]
    relay.send(rig.hypervisor, Message(relay.GET_QUEUE_NUM, 1, b""))
    assert relay.receive(rig.hypervisor) == Message(relay.GET_FEATURES, 5, bytes(8))


def test_a_question_without_a_known_answer_ends_it(rig: Rig) -> None:
    rig.server.close()
    assert rig.ask(Message(relay.GET_CONFIG, 1, b"")) is None


@pytest.mark.parametrize(
    ("place", "form", "values"),
    [
        (DESCRIPTORS, "QIHH", (GUEST + MEMORY, 40, NEXT, 1)),  # beyond the memory
        (DESCRIPTORS, "QIHH", (GUEST + MEMORY - 8, 40, NEXT, 1)),
        (DESCRIPTORS, "QIHH", (0, 40, NEXT, 1)),
        (DESCRIPTORS, "QIHH", (2**64 - 8, 40, NEXT, 1)),
        (DESCRIPTORS, "QIHH", (GUEST, 40, NEXT, SIZE)),  # beyond the table
        (DESCRIPTORS, "QIHH", (GUEST, 40, NEXT, 0)),  # in a circle
        (DESCRIPTORS, "QIHH", (GUEST + DESCRIPTORS, 16, INDIRECT, 0)),
        (DESCRIPTORS, "QIHH", (GUEST + MEMORY, 2**32 - 1, INDIRECT, 0)),
        (DESCRIPTORS + 16, "QIHH", (GUEST + BUFFERS, 8, WRITE, 0)),  # no room for an answer
        (AVAILABLE + 2, "H", (SIZE + 1,)),
        (AVAILABLE + 4, "H", (0xFFFF,)),
    ],
)
def test_what_a_guest_may_write_stops_its_queue(
    rig: Rig, driver: Driver, place: int, form: str, values: tuple[int, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    driver.request(0, 1)
    driver.pack(form, place, *values)
    begin(rig, driver)
    rig.server.close()
    assert rig.ask(Message(relay.GET_FEATURES, 1, b""))  # and nothing else
    assert driver.used() == []
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_what_virtiofsd_left_unanswered(driver: Driver) -> None:
    """In whatever order it answered, and however often the rings went round."""
    memory = Place(driver.memory, OFFSET + AVAILABLE, MEMORY), Place(driver.memory, OFFSET + USED, MEMORY)
    assert outstanding(SIZE, *memory) == []
    for number in range(70_000):
        driver.pack("H", AVAILABLE + 4 + 2 * (driver.came % SIZE), number % 2)
        driver.came = (driver.came + 1) & 0xFFFF
        driver.pack("H", AVAILABLE + 2, driver.came)
        (done,) = driver.unpack("H", USED + 2)
        if number % 1000 == 0:
            assert outstanding(SIZE, *memory) == [number % 2]
        driver.pack("II", USED + 4 + 8 * (done % SIZE), number % 2, 16)
        driver.pack("H", USED + 2, (done + 1) & 0xFFFF)
    assert outstanding(SIZE, *memory) == []


def test_rings_without_events_are_left_alone(driver: Driver) -> None:
    server, _ = socket.socketpair()
    line = Line("data", server, None, None)
    line.rings[0] = Ring()
    Guest(line).serve()
    line.close()


def test_a_hypervisor_that_connects(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    server, theirs = socket.socketpair()
    owner, other = os.pipe()
    thread = threading.Thread(target=relay.relay, args=("demo", [Line("data", server, None, listener)], owner))
    thread.start()
    with socket.socket(socket.AF_UNIX) as hypervisor:
        hypervisor.connect(str(tmp_path / "socket"))
        relay.send(hypervisor, Message(relay.GET_FEATURES, 1, b""))
        assert relay.receive(theirs) == Message(relay.GET_FEATURES, 1, b"")
    assert relay.receive(theirs) is None
    thread.join(10)
    assert not thread.is_alive()
    for descriptor in (owner, other):
        os.close(descriptor)
