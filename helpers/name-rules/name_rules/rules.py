"""Which sets an answer's addresses go into. Pure."""

import ipaddress
from typing import NamedTuple

from name_rules.message import Address
from vmsilo.name_rules import Client

# Seconds that an address stays in a set, whatever the answer says. Programs look a name up first and connect then,
# and few do so again at once where the answer says that it is good for no time at all.
SECONDS_MIN = 60
SECONDS_MAX = 24 * 60 * 60


class Set(NamedTuple):
    """A set of nft's."""

    table: str
    name: str
    length: int  # bytes of the addresses in it


class Element(NamedTuple):
    """What goes into a set."""

    set: int  # its place in the list that sets() makes
    packed: bytes
    seconds: int


class Matcher:
    """The rules of one client."""

    def __init__(self, client: Client, places: dict[Set, int]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}
        self._lengths: dict[int, int] = {}
        for rule in client.rules:
            for name, length in ((rule.set4, 4), (rule.set6, 16)):
                if not name:
                    continue
                place = places[Set(client.table, name, length)]
                self._lengths[place] = length
                if rule.name.startswith("*."):
                    self._below.setdefault(rule.name[2:], []).append(place)
                else:
                    self._exact.setdefault(rule.name, []).append(place)

    def elements(self, found: list[Address]) -> list[Element]:
        """Each element once, in the order in which the addresses are found."""
        elements = {
            Element(place, address.packed, min(max(address.seconds, SECONDS_MIN), SECONDS_MAX)): None
            for address in found
            if may_be_reached(address.packed)
            for name in address.names
            for place in self.sets(name)
            if self._lengths[place] == len(address.packed)
        }
        return list(elements)

    def sets(self, name: str) -> list[int]:
        """The sets of rules that speak of *name*."""
        sets = list(self._exact.get(name, ()))
        _, dot, parent = name.partition(".")
        while dot:
            sets += self._below.get(parent, ())
            _, dot, parent = parent.partition(".")
        return sets


def sets(clients: tuple[Client, ...]) -> list[Set]:
    """All sets, in an order that both processes find by themselves."""
    return sorted(
        {
            Set(client.table, name, length)
            for client in clients
            for rule in client.rules
            for name, length in ((rule.set4, 4), (rule.set6, 16))
            if name
        }
    )


def may_be_reached(packed: bytes) -> bool:
    """Whether an address can be somebody's whom a packet is passed on to."""
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return False
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.version == 4 and address.is_reserved)
    )
