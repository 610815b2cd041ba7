"""In the place of a virtiofsd that has ended: every request of the guest gets an error, at once.

Requests are in the guest's memory, in split virtqueues (Virtio 1.2, section 2.7) of messages of FUSE (linux/fuse.h).
All that is read there is the guest's word: what makes no sense stops the queue that it is in.
"""

import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator

from vm_launch.relay import Line, Region, Ring
from vmsilo.failure import complain

_DESCRIPTOR = struct.Struct("=QIHH")  # address, length, flags, next
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_INDEX = struct.Struct("=H")
_USED = struct.Struct("=II")  # descriptor, bytes written

_EVENT_INDEX = 1 << 29  # feature: who wants to hear of requests says from which number on

_IN_UNIQUE = struct.Struct("=8xQ")  # the number in a request's header
_OUT = struct.Struct("=IiQ")  # the header of an answer: length, error, the request's number
_ERROR = -errno.ENOTCONN  # as from a FUSE file system whose program has ended


class Nonsense(Exception):
    """The guest's memory holds what no driver writes."""


class Place:
    """A stretch of memory, from *start* on in *memory*, of *size* bytes."""

    __slots__ = ("memory", "size", "start")

    def __init__(self, memory: mmap.mmap, start: int, size: int) -> None:
        self.memory = memory
        self.start = start
        self.size = size

    def index(self, offset: int) -> int:
        """The 16-bit number at *offset*."""
        number: int
        (number,) = _INDEX.unpack_from(self.memory, self.start + offset)
        return number

    def set_index(self, offset: int, number: int) -> None:
        _INDEX.pack_into(self.memory, self.start + offset, number & 0xFFFF)


class Guest:
    """The requests of a guest for the shared directory of *line*."""

    __slots__ = ("_line", "_maps")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._maps: list[tuple[Region, mmap.mmap]] = []

    def take_over(self) -> None:
        """Answer what virtiofsd has left unanswered."""
        for ring in self._line.rings.values():
            self._guarded(ring, self._answer_old)

    def serve(self) -> None:
        """Answer what has come."""
        for ring in self._line.rings.values():
            self._guarded(ring, self._answer_new)

    def _guarded(self, ring: Ring, deed: Callable[[Ring], None]) -> None:
        if ring.kick < 0:
            return
        try:
            deed(ring)
        except (Nonsense, ValueError, OSError, struct.error) as error:
            complain("vm-launch", f'shared directory "{self._line.tag}": {error}')
            os.close(ring.kick)
            ring.kick = -1

    def _answer_old(self, ring: Ring) -> None:
        available, used = self._places(ring)
        end = available.index(2)
        for head in outstanding(ring.size, available, used):
            self._answer(ring, used, head)
        ring.base = end
        self._tell(ring, used)

    def _answer_new(self, ring: Ring) -> None:
        drain(ring.kick)
        available, used = self._places(ring)
        end = available.index(2)
        if end == ring.base:
            return
        if (end - ring.base) & 0xFFFF > ring.size:
            raise Nonsense("a queue has more requests than room")
        while ring.base != end:
            self._answer(ring, used, available.index(4 + 2 * (ring.base % ring.size)))
            ring.base = (ring.base + 1) & 0xFFFF
        self._tell(ring, used)

    def _places(self, ring: Ring) -> tuple[Place, Place]:
        """The rings of requests and of answers."""
        if ring.size == 0 or ring.size & (ring.size - 1) or ring.size > 1 << 15:
            raise Nonsense(f"a queue of {ring.size} requests")
        return (
            self._place(ring.available, 6 + 2 * ring.size, of_guest=False),
            self._place(ring.used, 6 + 8 * ring.size, of_guest=False),
        )

    def _tell(self, ring: Ring, used: Place) -> None:
        """Interrupt the guest, and be told of the next request."""
        used.set_index(0, 0)
        if self._line.features & _EVENT_INDEX:
            used.set_index(4 + 8 * ring.size, ring.base)
        if ring.call >= 0:
            os.eventfd_write(ring.call, 1)

    def _answer(self, ring: Ring, used: Place, head: int) -> None:
        written = self._refuse(ring, head)
        number = used.index(2)
        _USED.pack_into(used.memory, used.start + 4 + 8 * (number % ring.size), head, written)
        used.set_index(2, number + 1)

    def _refuse(self, ring: Ring, head: int) -> int:
        """Write an error as the answer to the request at *head*. How many bytes that took: 0 where none is wanted."""
        unique = None
        for address, size, flags in self._chain(ring, head):
            if unique is None:
                place = self._place(address, _IN_UNIQUE.size, of_guest=True)
                (unique,) = _IN_UNIQUE.unpack_from(place.memory, place.start)
            if flags & _WRITE:
                if size < _OUT.size:
                    raise Nonsense("a request without room for an answer")
                place = self._place(address, _OUT.size, of_guest=True)
                _OUT.pack_into(place.memory, place.start, _OUT.size, _ERROR, unique)
                return _OUT.size
        return 0

    def _chain(self, ring: Ring, head: int) -> Iterator[tuple[int, int, int]]:
        """Address, size and flags of each buffer of the request at *head*."""
        size, index = ring.size, head
        table = self._place(ring.descriptors, size * _DESCRIPTOR.size, of_guest=False)
        left = ring.size
        while left:
            if index >= size:
                raise Nonsense("a buffer beyond the table")
            address, length, flags, following = _DESCRIPTOR.unpack_from(
                table.memory, table.start + index * _DESCRIPTOR.size
            )
            left -= 1
            if flags & _INDIRECT:
                size, index = length // _DESCRIPTOR.size, 0
                table = self._place(address, size * _DESCRIPTOR.size, of_guest=True)
                continue
            yield address, length, flags
            if not flags & _NEXT:
                return
            index = following
        raise Nonsense("a request without end")

    def _place(self, address: int, size: int, *, of_guest: bool) -> Place:
        """*size* bytes at the guest's *address*, or the hypervisor's."""
        for region in self._line.regions:
            offset = address - (region.guest if of_guest else region.hypervisor)
            if 0 <= offset and offset + size <= region.size:
                return Place(self._map(region), region.offset + offset, size)
        raise Nonsense("an address outside of the guest's memory")

    def _map(self, region: Region) -> mmap.mmap:
        for known, memory in self._maps:
            if known == region:
                return memory
        self._maps = [pair for pair in self._maps if pair[0] in self._line.regions]
        # From its beginning: an offset would have to be one of huge pages, where it is made of these.
        memory = mmap.mmap(region.descriptor, region.offset + region.size)
        self._maps.append((region, memory))
        return memory


def outstanding(size: int, available: Place, used: Place) -> list[int]:
    """The requests of a queue of *size* that have no answer, the newest first.

    Virtiofsd answers in any order, and both rings only hold the last *size*. Of those, what came and was not answered
    is outstanding, and how many there are is known: should an old request have been overtaken by that many others,
    the one in doubt comes last.
    """
    end, done = available.index(2), used.index(2)
    count = (end - done) & 0xFFFF
    if count > size:
        raise Nonsense("a queue has more requests than room")
    balance: dict[int, int] = {}
    came = [available.index(4 + 2 * (number % size)) for number in range(end - 1, end - 1 - size, -1)]
    for head in came:
        balance[head] = balance.get(head, 0) + 1
    for number in range(done - 1, done - 1 - (size - count), -1):
        head, _ = _USED.unpack_from(used.memory, used.start + 4 + 8 * (number % size))
        balance[head] = balance.get(head, 0) - 1
    found = [head for head in dict.fromkeys(came) if balance[head] > 0]
    return found[:count]


def drain(event: int) -> None:
    """Take note of an eventfd, whether it has anything to tell or not."""
    try:
        os.set_blocking(event, False)
        os.eventfd_read(event)
    except BlockingIOError:
        pass
