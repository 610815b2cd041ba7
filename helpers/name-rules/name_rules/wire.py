"""What the two processes say to each other, over a pair of sockets that keep messages apart.

A request is up to ELEMENTS_MAX elements: 2 bytes for the set's place in the list, 1 for the length of the address, 1
that is zero, 16 for the address with zeros behind it, 4 for the seconds. The answer to each, in order, is one byte:
how many of them are in force now.
"""

import struct

from name_rules.rules import SECONDS_MAX, SECONDS_MIN, Element, Set, may_be_reached

_ELEMENT = struct.Struct("!HBB16sI")

ELEMENTS_MAX = 64
REQUEST_MAX = ELEMENTS_MAX * _ELEMENT.size  # bytes


def pack(elements: list[Element]) -> bytes:
    """A request for at most ELEMENTS_MAX elements."""
    return b"".join(
        _ELEMENT.pack(element.set, len(element.packed), 0, element.packed.ljust(16, b"\0"), element.seconds)
        for element in elements
    )


def unpack(request: bytes, sets: list[Set]) -> list[Element]:
    """The elements of a request, each of which fits one of the *sets*. Raises ValueError for anything else."""
    if not request or len(request) > REQUEST_MAX or len(request) % _ELEMENT.size:
        raise ValueError("not a request by its length")
    elements = []
    for place, length, zero, padded, seconds in _ELEMENT.iter_unpack(request):
        packed = padded[:length]
        if place >= len(sets) or sets[place].length != length or zero or any(padded[length:]):
            raise ValueError("no such set, or not of such addresses")
        if not (SECONDS_MIN <= seconds <= SECONDS_MAX and may_be_reached(packed)):
            raise ValueError("not an address that a set may have for so long")
        elements.append(Element(place, packed, seconds))
    return elements
