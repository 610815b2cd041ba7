"""DNS messages (RFC 1035, 4.1), as far as they matter here. Pure; every byte is a stranger's.

Every loop is bounded by the length of the message, or by a number here.
"""

from typing import NamedTuple

HEADER = 12  # bytes
UDP_MAX = 65535  # bytes, as TCP's prefix of a message's length has it
NAME_MAX = 255  # bytes, RFC 1035, 2.3.4
POINTERS_MAX = 16  # in one name; a name of a real message has one or two
RECORDS_MAX = 512  # of an answer that are looked at
CHAIN_MAX = 16  # aliases that are followed; resolvers themselves give up earlier

A = 1
CNAME = 5
AAAA = 28
IN = 1

_LENGTHS = {A: 4, AAAA: 16}

_RESPONSE = 0x80
_OPCODE = 0x78
_SERVFAIL = 2


class Malformed(ValueError):
    """These bytes are no message of the kind that was expected."""


class Question(NamedTuple):
    """What is asked for."""

    name: str  # in lower case, labels between dots, without one at the end
    type: int
    class_: int
    end: int  # offset of what comes behind it


class Address(NamedTuple):
    """Where a name leads."""

    names: tuple[str, ...]  # that was asked for, its aliases, and last the one that has the address
    packed: bytes  # 4 or 16
    seconds: int  # that all of this holds


class _Record(NamedTuple):
    name: str
    type: int
    seconds: int
    start: int  # of its data
    length: int


def question(message: bytes, *, response: bool) -> Question:
    """The one question of a standard query, or of the answer to one.

    Raises Malformed for any other message.
    """
    if not HEADER <= len(message) <= UDP_MAX:
        raise Malformed("too short or too long")
    if bool(message[2] & _RESPONSE) != response or message[2] & _OPCODE:
        raise Malformed("no standard query, or not in this direction")
    if int.from_bytes(message[4:6], "big") != 1:
        raise Malformed("not one question")
    name, offset = _name(message, HEADER)
    if offset + 4 > len(message):
        raise Malformed("cut short in the question")
    type_ = int.from_bytes(message[offset : offset + 2], "big")
    class_ = int.from_bytes(message[offset + 2 : offset + 4], "big")
    return Question(name, type_, class_, offset + 4)


def addresses(message: bytes, asked: Question) -> list[Address]:
    """The addresses in an answer whose question *asked* is, by way of aliases.

    What can't be read ends the search: addresses before it count. A record that nobody asked for does not.
    """
    if asked.class_ != IN:
        return []
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[_Record]] = {}
    try:
        for record in _records(message, asked.end):
            if record.type == CNAME:
                aliases.setdefault(record.name, (_name(message, record.start)[0], record.seconds))
            else:
                found.setdefault(record.name, []).append(record)
    except Malformed:
        pass
    names, seconds = [asked.name], 2**31 - 1
    while names[-1] not in found:
        if names[-1] not in aliases or len(names) > CHAIN_MAX:
            return []
        target, holds = aliases[names[-1]]
        names.append(target)
        seconds = min(seconds, holds)
    return [
        Address(tuple(names), message[one.start : one.start + one.length], min(seconds, one.seconds))
        for one in found[names[-1]]
    ]


def _records(message: bytes, offset: int) -> "list[_Record]":
    """The aliases and addresses of the answer section, which begins at *offset*."""
    records = []
    for _ in range(min(int.from_bytes(message[6:8], "big"), RECORDS_MAX)):
        record, class_, offset = _record(message, offset)
        if class_ == IN and (record.type == CNAME or record.length == _LENGTHS.get(record.type)):
            records.append(record)
    return records


def _record(message: bytes, offset: int) -> tuple[_Record, int, int]:
    """The record at *offset*, its class, and the offset behind it."""
    name, offset = _name(message, offset)
    start = offset + 10
    if start > len(message):
        raise Malformed("cut short in a record")
    type_, class_, seconds, length = (
        int.from_bytes(message[offset + first : offset + last], "big")
        for first, last in ((0, 2), (2, 4), (4, 8), (8, 10))
    )
    if start + length > len(message):
        raise Malformed("cut short in a record's data")
    # The highest bit is no part of the time (RFC 2181, 8).
    return _Record(name, type_, 0 if seconds >> 31 else seconds, start, length), class_, start + length


def _name(message: bytes, offset: int) -> tuple[str, int]:
    """The name at *offset*, and the offset behind it there.

    A pointer may only lead to what is before the place where this piece of the name began.
    """
    labels: list[bytes] = []
    size = 1
    behind = -1
    limit = offset
    for _ in range(NAME_MAX + POINTERS_MAX):
        if offset >= len(message):
            raise Malformed("cut short in a name")
        length = message[offset]
        if length == 0:
            return b".".join(labels).decode("latin-1"), offset + 1 if behind < 0 else behind
        if length >= 0xC0:
            if offset + 2 > len(message):
                raise Malformed("cut short in a pointer")
            if behind < 0:
                behind = offset + 2
            target = int.from_bytes(message[offset : offset + 2], "big") & 0x3FFF
            if target >= limit:
                raise Malformed("a pointer that leads nowhere")
            offset = limit = target
            continue
        size += 1 + length
        label = message[offset + 1 : offset + 1 + length]
        if length >= 0x40 or size > NAME_MAX or len(label) != length:
            raise Malformed("a label that is none")
        labels.append(_label(label))
        offset += 1 + length
    raise Malformed("a name without end")


def _label(label: bytes) -> bytes:
    """*label* in lower case. A dot in it is none between labels, and would make it look like two."""
    return label.replace(b"\\", b"\\\\").replace(b".", b"\\.").lower()


def failure(query: bytes, asked: Question) -> bytes:
    """The answer that there is none: SERVFAIL, with the question and nothing else."""
    flags = bytes([_RESPONSE | query[2] & 0x01, 0x80 | _SERVFAIL])  # RD as asked, and RA
    return query[:2] + flags + b"\0\1\0\0\0\0\0\0" + query[HEADER : asked.end]
