"""One question on its way to a resolver and back, by UDP or TCP.

Each has a socket of its own, so that the kernel chooses a port at random for it, and a number of its own at random:
who is not on the way to the resolver has to guess both.
"""

import os
import socket
from collections.abc import Callable

from name_rules import message
from name_rules.loop import Alarm, Loop
from name_rules.message import Malformed, Question

RETRY = 2.0  # seconds until the next resolver is asked, or the only one once more
PATIENCE = 8.0  # seconds until there is no answer

Finished = Callable[[bytes | None], None]  # takes the answer, with the client's number; None for no answer


class Lookup:
    """What both ways have in common."""

    def __init__(
        self, loop: Loop, query: bytes, asked: Question, resolvers: tuple[tuple[str, int], ...], finished: Finished
    ) -> None:
        self._loop = loop
        self._number = query[:2]
        self._asked = asked
        self._resolvers = resolvers
        self._finished = finished
        self.done = False
        self._tries = 0
        self._query = query
        self._socket: socket.socket | None = None
        self._retry: Alarm | None = None
        self._end = loop.after(PATIENCE, lambda: self._finish(None))
        self._try()

    def _try(self) -> None:
        """Ask the next resolver. One that can't even be asked is passed over, until each was."""
        self._close()
        while self._socket is None:
            if self._tries >= max(2 * len(self._resolvers), int(PATIENCE / RETRY)):
                self._finish(None)
                return
            resolver = self._resolvers[self._tries % len(self._resolvers)]
            self._tries += 1
            self._query = os.urandom(2) + self._query[2:]
            self._socket = self._begin(resolver)
        self._retry = self._loop.after(RETRY, self._try)

    def _begin(self, resolver: tuple[str, int]) -> socket.socket | None:
        raise NotImplementedError

    def _take(self, answer: bytes) -> None:
        """Finish, if *answer* is one."""
        try:
            told = message.question(answer, response=True)
        except Malformed:
            return
        if answer[:2] == self._query[:2] and told == self._asked:
            self._finish(self._number + answer[2:])

    def _finish(self, answer: bytes | None) -> None:
        self._close()
        self._end.cancel()
        if not self.done:
            self.done = True
            self._finished(answer)

    def _close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None

    def _new(self, resolver: tuple[str, int], kind: socket.SocketKind) -> socket.socket | None:
        """A socket on its way to *resolver*."""
        new = socket.socket(socket.AF_INET6 if ":" in resolver[0] else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        try:
            new.connect(resolver)
        except BlockingIOError:
            pass  # a stream's, under way
        except OSError:
            new.close()
            return None
        return new


class DatagramLookup(Lookup):
    def _begin(self, resolver: tuple[str, int]) -> socket.socket | None:
        new = self._new(resolver, socket.SOCK_DGRAM)
        if new is None:
            return None
        try:
            new.send(self._query)
        except OSError:
            new.close()
            return None
        self._loop.readable(new, lambda: self._read(new))
        return new

    def _read(self, datagrams: socket.socket) -> None:
        try:
            answer = datagrams.recv(message.UDP_MAX)
        except BlockingIOError:
            return
        except OSError:  # the resolver's machine says that nobody is there
            self._try()
            return
        self._take(answer)


class StreamLookup(Lookup):
    def _begin(self, resolver: tuple[str, int]) -> socket.socket | None:
        new = self._new(resolver, socket.SOCK_STREAM)
        if new is None:
            return None
        received = bytearray()
        unsent = bytearray(len(self._query).to_bytes(2, "big") + self._query)
        self._loop.writable(new, lambda: self._write(new, unsent, received))
        return new

    def _write(self, stream: socket.socket, unsent: bytearray, received: bytearray) -> None:
        try:
            del unsent[: stream.send(unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._try()
            return
        if not unsent:
            self._loop.readable(stream, lambda: self._read(stream, received))

    def _read(self, stream: socket.socket, received: bytearray) -> None:
        try:
            piece = stream.recv(message.UDP_MAX)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._try()
            return
        received += piece
        length = int.from_bytes(received[:2], "big")
        if len(received) >= 2 + length and len(received) > 2:
            # One that is no answer is the resolver's last word here: the time runs out.
            self._take(bytes(received[2 : 2 + length]))
            received.clear()
