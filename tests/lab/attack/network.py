"""Networks: the host's addresses, and protocols whose code a sandbox has no business with."""

import socket
from collections.abc import Iterator
from functools import partial

from lab.attack.trial import Attempt, Scene

# linux/socket.h
_FAMILIES = {
    "IPv4": (socket.AF_INET, socket.SOCK_STREAM, 0),
    "IPv6": (socket.AF_INET6, socket.SOCK_STREAM, 0),
    "raw IPv4": (socket.AF_INET, socket.SOCK_RAW, 1),
    "raw IPv6": (socket.AF_INET6, socket.SOCK_RAW, 58),
    "packet": (socket.AF_PACKET, socket.SOCK_RAW, 3),
    "netlink": (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "netlink audit": (socket.AF_NETLINK, socket.SOCK_RAW, 9),
    "netlink netfilter": (socket.AF_NETLINK, socket.SOCK_RAW, 12),
    "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    "Bluetooth": (31, socket.SOCK_RAW, 1),
    "crypto": (38, socket.SOCK_SEQPACKET, 0),
    "key": (15, socket.SOCK_RAW, 2),
    "XDP": (44, socket.SOCK_RAW, 0),
    "SMC": (43, socket.SOCK_STREAM, 0),
    "MPTCP": (socket.AF_INET, socket.SOCK_STREAM, 262),
    "TIPC": (30, socket.SOCK_STREAM, 0),
    "X.25": (9, socket.SOCK_SEQPACKET, 0),
    "CAN": (29, socket.SOCK_RAW, 1),
}


def attempts(scene: Scene) -> Iterator[Attempt]:
    for what, (family, kind, protocol) in _FAMILIES.items():
        yield Attempt("network", f"make a socket: {what}", partial(make, family, kind, protocol))
    for address, port in scene.addresses:
        yield Attempt("network", f"connect to {address} port {port}", partial(reach, address, port))
    yield Attempt("network", "connect to an abstract socket of the host", partial(abstract, scene.abstract))
    yield Attempt("network", "connect to another guest by vsock", partial(vsock, scene.cid, 5000))


def make(family: int, kind: int, protocol: int) -> None:
    socket.socket(family, kind, protocol).close()


def reach(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(0.5)
    connection.connect((address, port))


def abstract(name: str) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).connect("\0" + name)


def vsock(cid: int, port: int) -> None:
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connection.settimeout(0.5)
    connection.connect((cid, port))
