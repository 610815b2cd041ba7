"""The process that clients and resolvers talk to. It has no capability; what it wants of the firewall it asks for."""

import socket
from collections import deque
from collections.abc import Callable

from name_rules import message, wire
from name_rules.lookup import DatagramLookup, Lookup, StreamLookup
from name_rules.loop import Action, Alarm, Loop
from name_rules.message import Malformed, Question
from name_rules.rules import Element, Matcher, Set
from name_rules.sockets import Listening
from vmsilo.name_rules import Client

# Of each client, so that none keeps another from being answered.
LOOKUPS_MAX = 128
STREAMS_MAX = 16

STREAM_IDLE = 10.0  # seconds without a question, or with an answer that nobody takes
UNANSWERED_MAX = 256  # requests that the other process has not answered

Reply = Callable[[bytes], None]


class Lost(Exception):
    """The other process has gone."""


class Feed:
    """Requests to the other process, in order."""

    def __init__(self, loop: Loop, channel: socket.socket) -> None:
        self._channel = channel
        self._waiting: deque[Action | None] = deque()
        channel.settimeout(0)
        loop.readable(channel, self._read)

    def add(self, elements: list[Element], done: Action) -> bool:
        """Have *elements* put into their sets, then do *done*; whether that was asked for."""
        pieces = [elements[at : at + wire.ELEMENTS_MAX] for at in range(0, len(elements), wire.ELEMENTS_MAX)]
        if len(self._waiting) + len(pieces) > UNANSWERED_MAX:
            return False
        for piece in pieces:
            try:
                self._channel.send(wire.pack(piece))
            except BlockingIOError:
                return False
            except OSError:
                raise Lost from None
            self._waiting.append(None)
        self._waiting[-1] = done
        return True

    def _read(self) -> None:
        try:
            answer = self._channel.recv(1)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer or not self._waiting:
            raise Lost
        done = self._waiting.popleft()
        if done is not None:
            done()


class Desk:
    """One client: its rules, and what it has asked."""

    def __init__(
        self, loop: Loop, feed: Feed, matcher: Matcher, resolvers: tuple[tuple[str, int], ...], seen: Action
    ) -> None:
        self._loop = loop
        self._feed = feed
        self._matcher = matcher
        self._resolvers = resolvers
        self._seen = seen
        self._lookups: set[Lookup] = set()
        self._streams: set[Stream] = set()

    @property
    def busy(self) -> bool:
        return bool(self._lookups or self._streams)

    # By UDP

    def datagrams(self, listening: socket.socket) -> None:
        """A datagram has come."""
        self._seen()
        try:
            query, client = listening.recvfrom(message.UDP_MAX)
        except OSError:
            return

        def reply(answer: bytes) -> None:
            try:
                listening.sendto(answer, client)
            except OSError:
                pass  # it asks again, or has gone

        self.ask(query, DatagramLookup, reply)

    # By TCP

    def connection(self, listening: socket.socket) -> None:
        """Somebody connects."""
        self._seen()
        try:
            accepted, _ = listening.accept()
        except OSError:
            return
        if len(self._streams) >= STREAMS_MAX:
            accepted.close()
            return
        accepted.settimeout(0)
        self._streams.add(Stream(self._loop, accepted, self, self._streams.discard))

    # Both

    def ask(self, query: bytes, way: type[Lookup], reply: Reply) -> bool:
        """Answer *query* with *reply*, some time; False where nothing is to be said."""
        try:
            asked = message.question(query, response=False)
        except Malformed:
            return False
        if len(self._lookups) >= LOOKUPS_MAX:
            return False

        def finished(answer: bytes | None) -> None:
            if lookup is not None:
                self._lookups.discard(lookup)
            self._seen()
            if answer is None:
                reply(message.failure(query, asked))
            else:
                self._answer(query, asked, answer, reply)

        lookup: Lookup | None = None
        lookup = way(self._loop, query, asked, self._resolvers, finished)
        if not lookup.done:
            self._lookups.add(lookup)
        return True

    def _answer(self, query: bytes, asked: Question, answer: bytes, reply: Reply) -> None:
        elements = self._matcher.elements(message.addresses(answer, asked))
        if not elements:
            reply(answer)
        elif not self._feed.add(elements, lambda: reply(answer)):
            reply(message.failure(query, asked))


class Stream:
    """A client's connection: one question after the other (RFC 7766, 6.2.1.1 asks for no more)."""

    def __init__(self, loop: Loop, connected: socket.socket, desk: Desk, closed: "Callable[[Stream], None]") -> None:
        self._loop = loop
        self._socket = connected
        self._desk = desk
        self._closed = closed
        self._open = True
        self._received = bytearray()
        self._unsent = bytearray()
        self._idle: Alarm = loop.after(STREAM_IDLE, self._close)
        loop.readable(connected, self._read)

    def _read(self) -> None:
        try:
            piece = self._socket.recv(message.UDP_MAX)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if piece:
            self._received += piece
            self._next()
        else:
            self._close()

    def _next(self) -> None:
        """Ask the next question, if it is there. Until it is answered nothing more is read."""
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) < 2 or len(self._received) < 2 + length:
            self._loop.readable(self._socket, self._read)
            return
        query = bytes(self._received[2 : 2 + length])
        del self._received[: 2 + length]
        self._idle.cancel()
        self._loop.forget(self._socket)
        if not self._desk.ask(query, StreamLookup, self._reply):
            self._close()

    def _reply(self, answer: bytes) -> None:
        if not self._open:
            return
        self._unsent += len(answer).to_bytes(2, "big") + answer
        self._idle = self._loop.after(STREAM_IDLE, self._close)
        self._loop.writable(self._socket, self._write)

    def _write(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._close()
            return
        if not self._unsent:
            self._next()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._idle.cancel()
            self._loop.forget(self._socket)
            self._socket.close()
            self._closed(self)


class Server:
    def __init__(
        self,
        listening: list[Listening],
        sets: list[Set],
        resolvers: tuple[tuple[str, int], ...],
        channel: socket.socket,
        *,
        idle: float = 0.0,
        current: Callable[[], bool] = lambda: True,
    ) -> None:
        """*idle*: seconds without anything to do after which to end; 0 = never. *current*: whether the rules are.

        With rules that are not, it takes no new question and ends: systemd starts another one, for that question.
        """
        self._loop = Loop()
        self._idle_seconds = idle
        self._idle: Alarm | None = None
        self._current = current
        self._listening = listening
        feed = Feed(self._loop, channel)
        places = {one: place for place, one in enumerate(sets)}
        desks: dict[Client, Desk] = {}
        for one in listening:
            if one.client not in desks:
                desks[one.client] = Desk(self._loop, feed, Matcher(one.client, places), resolvers, self._seen)
            self._listen(one, desks[one.client])
        self._desks = list(desks.values())
        self._seen()

    def run(self) -> None:
        """Returns when there is nothing to do any more. Raises Lost."""
        self._loop.run()

    def _listen(self, one: Listening, desk: Desk) -> None:
        take = desk.datagrams if one.socket.type == socket.SOCK_DGRAM else desk.connection

        def heard() -> None:
            if self._current():
                take(one.socket)
            else:
                self._retire()

        self._loop.readable(one.socket, heard)

    def _seen(self) -> None:
        """There was something to do."""
        if self._idle is not None:
            self._idle.cancel()
        if self._idle_seconds:
            self._idle = self._loop.after(self._idle_seconds, self._rest)

    def _rest(self) -> None:
        if any(desk.busy for desk in self._desks):
            self._seen()
        else:
            self._loop.stop()

    def _retire(self) -> None:
        """Finish what was begun, and end."""
        for one in self._listening:
            self._loop.forget(one.socket)
        self._wait_for_the_last()

    def _wait_for_the_last(self) -> None:
        if any(desk.busy for desk in self._desks):
            self._loop.after(0.1, self._wait_for_the_last)
        else:
            self._loop.stop()
