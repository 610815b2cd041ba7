"""How a helper that systemd starts hands descriptors to its client over a Unix socket, and then exits.

The helper sends ``F`` with the descriptors as SCM_RIGHTS, or ``E`` and a line of UTF-8 text. End-of-file without a
byte means that the helper never ran.
"""

import _socket
import os
import struct

ERROR_MAX = 1024  # bytes of the text

_INT = struct.Struct("i")


class NeverRan(Exception):
    """The helper was not started: ask systemd why."""


class Refused(Exception):
    """The helper says why it can't."""


def give(client: _socket.socket, *descriptors: int) -> None:
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    client.sendmsg([b"F"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def refuse(client: _socket.socket, text: str) -> None:
    client.sendall(b"E" + text.encode(errors="replace")[:ERROR_MAX])


def take(helper: _socket.socket, count: int) -> list[int]:
    """Wait for the helper's *count* descriptors. Raises NeverRan, Refused or OSError."""
    first, ancillary, flags, _ = helper.recvmsg(1, _socket.CMSG_LEN(count * _INT.size), _socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            whole = len(rights) - len(rights) % _INT.size
            descriptors += [number for (number,) in _INT.iter_unpack(rights[:whole])]
    if first == b"F" and len(descriptors) == count and not flags & _socket.MSG_CTRUNC:
        return descriptors
    for descriptor in descriptors:
        os.close(descriptor)
    if not first:
        raise NeverRan
    if first == b"E":
        raise Refused(_text(helper))
    raise Refused("the helper's answer makes no sense")


def _text(helper: _socket.socket) -> str:
    text = b""
    while len(text) < ERROR_MAX:
        more = helper.recv(ERROR_MAX - len(text))
        if not more:
            break
        text += more
    return text.decode(errors="replace")
