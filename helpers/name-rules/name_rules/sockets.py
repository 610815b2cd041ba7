"""The sockets at which clients ask: systemd's, or made here."""

import os
import socket

from vmsilo.failure import EX_OSERR, EX_USAGE, Failure
from vmsilo.name_rules import Client

PORT = 53
BACKLOG = 32

_IP_FREEBIND = 15  # linux/in.h; Python has no name for it

_FIRST = 3  # of descriptors that systemd passes (sd_listen_fds(3))
_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


class Listening:
    """A socket and whose it is."""

    __slots__ = ("client", "socket")

    def __init__(self, socket: socket.socket, client: Client) -> None:
        self.socket = socket
        self.client = client


def passed(clients: tuple[Client, ...]) -> list[Listening]:
    """Those that systemd has passed, if it has. Raises Failure for one at an address that is no client's."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    whose = {address: client for client in clients for address in client.listen}
    listening = []
    for descriptor in range(_FIRST, _FIRST + int(os.environ.get("LISTEN_FDS", "0"))):
        found = socket.socket(fileno=descriptor)
        address = found.getsockname()[0]
        if address not in whose:
            raise Failure(f"no client asks at {address}", "systemctl daemon-reload", EX_USAGE)
        found.set_inheritable(False)
        found.settimeout(0)
        listening.append(Listening(found, whose[address]))
    return listening


def made(clients: tuple[Client, ...], port: int = PORT) -> list[Listening]:
    """New ones. An address may not be there yet."""
    listening = []
    for client in clients:
        for address in client.listen:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in _KINDS:
                new = socket.socket(family, kind)
                try:
                    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                    new.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)  # of IPv6 sockets, too
                    new.bind((address, port))
                except OSError as error:
                    raise Failure(f"cannot listen at {address}: {error.strerror}", code=EX_OSERR) from None
                if kind == socket.SOCK_STREAM:
                    new.listen(BACKLOG)
                new.settimeout(0)
                listening.append(Listening(new, client))
    return listening
