"""Waiting for many sockets and moments at once."""

import heapq
import itertools
import selectors
import socket
import time
from collections.abc import Callable

Action = Callable[[], None]


class Alarm:
    """A moment at which something is to be done, unless it is called off before."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._number = itertools.count()
        self.stopped = False

    def readable(self, what: socket.socket, action: Action) -> None:
        """Do *action* whenever there is something to read, instead of what was to be done with *what* before."""
        self._watch(what, selectors.EVENT_READ, action)

    def writable(self, what: socket.socket, action: Action) -> None:
        self._watch(what, selectors.EVENT_WRITE, action)

    def _watch(self, what: socket.socket, events: int, action: Action) -> None:
        if what in self._selector.get_map():
            self._selector.modify(what, events, action)
        else:
            self._selector.register(what, events, action)

    def forget(self, what: socket.socket) -> None:
        if what in self._selector.get_map():
            self._selector.unregister(what)

    def after(self, seconds: float, action: Action) -> Alarm:
        alarm = Alarm(action)
        heapq.heappush(self._alarms, (time.monotonic() + seconds, next(self._number), alarm))
        return alarm

    def stop(self) -> None:
        """Return from run() when what is being done is done."""
        self.stopped = True

    def run(self) -> None:
        while not self.stopped:
            for key, _ in self._selector.select(self._ring()):
                # What came before it in this round may have closed it.
                if key.fileobj in self._selector.get_map() and not self.stopped:
                    key.data()

    def _ring(self) -> float | None:
        """Do what is due; the seconds until the next alarm."""
        while self._alarms and not self.stopped:
            due, _, alarm = self._alarms[0]
            if alarm.action is None:
                heapq.heappop(self._alarms)
                continue
            left = due - time.monotonic()
            if left > 0:
                return left
            heapq.heappop(self._alarms)
            alarm.action()
        return 0 if self.stopped else None
