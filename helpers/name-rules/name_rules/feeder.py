"""The process that fills the sets. It has CAP_NET_ADMIN, and hears nothing but requests of wire.py's form."""

import socket
import sys
import time
from collections.abc import Callable

from name_rules import wire
from name_rules.rules import Element, Set
from vmsilo.failure import one_line

# Elements of each set whose end is remembered here. The sets themselves have no room for more: who can have any
# number of names looked up must not fill the kernel's memory.
PER_SET_MAX = 4096

Nft = Callable[[str], str]  # runs commands in one transaction; what was wrong, "" for nothing


def nft() -> Nft:
    """Commands go to the kernel by libnftables."""
    from nftables import Nftables  # late: the other process has no use for it

    library = Nftables()

    def run(commands: str) -> str:
        status, _, errors = library.cmd(commands)
        return one_line(errors.strip().partition("\n")[0]) or "nft failed" if status else ""

    return run


class Feeder:
    def __init__(self, sets: list[Set], nft: Nft, clock: Callable[[], float] = time.monotonic) -> None:
        self._sets = sets
        self._nft = nft
        self._clock = clock
        self._ends: list[dict[bytes, float]] = [{} for _ in sets]

    def serve(self, channel: socket.socket) -> None:
        """Answer requests until the other end is closed, or says something that it would not say by itself."""
        while request := channel.recv(wire.REQUEST_MAX + 1):
            try:
                elements = wire.unpack(request, self._sets)
            except ValueError as error:
                say(f"refused a request of the other process, and leave it to itself: {error}")
                return
            channel.send(bytes([self.add(elements)]))

    def add(self, elements: list[Element]) -> int:
        """Put *elements* into their sets; how many of them are there now.

        All in one transaction; where that fails, each in its own, so that one bad set is no harm to another.
        """
        now = self._clock()
        fitting = [element for element in elements if self._has_room(element, now)]
        if not fitting:
            return 0
        if not self._nft("".join(self._commands(element, now) for element in fitting)):
            return self._remember(fitting, now)
        done = 0
        for element in fitting:
            if problem := self._nft(self._commands(element, now)):
                say(f"set {self._sets[element.set].name} of table {self._sets[element.set].table}: {problem}")
            else:
                done += self._remember([element], now)
        return done

    def _has_room(self, element: Element, now: float) -> bool:
        ends = self._ends[element.set]
        if element.packed in ends or len(ends) < PER_SET_MAX:
            return True
        for packed in [packed for packed, end in ends.items() if end <= now]:
            del ends[packed]
        if len(ends) < PER_SET_MAX:
            return True
        say(f"set {self._sets[element.set].name} is full: {PER_SET_MAX} addresses")
        return False

    def _remember(self, elements: list[Element], now: float) -> int:
        for element in elements:
            ends = self._ends[element.set]
            ends[element.packed] = max(now + element.seconds, ends.get(element.packed, 0.0))
        return len(elements)

    def _commands(self, element: Element, now: float) -> str:
        """Commands that make *element* stay as long as it should, and never shorter than it was to stay already.

        It is taken out and put in again, since older kernels (before 6.12) leave the time of one that is there as it
        is; and put in before, so that it can be taken out. In one transaction no packet sees any of that.
        """
        table, name, length = self._sets[element.set]
        family = socket.AF_INET if length == 4 else socket.AF_INET6
        address = socket.inet_ntop(family, element.packed)
        stays = max(element.seconds, int(self._ends[element.set].get(element.packed, 0.0) - now))
        timed = f"add element {table} {name} {{ {address} timeout {stays}s }}\n"
        return f"{timed}delete element {table} {name} {{ {address} }}\n{timed}"


def say(text: str) -> None:
    """To the journal, by way of stderr."""
    print(text, file=sys.stderr, flush=True)
