"""The kernel's interfaces and addresses, by rtnetlink(7). What the kernel refuses is an OSError in its own words."""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from net_host.codec import AddressMessage, BridgeMessage, LinkMessage

# linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_ACK_TLVS = 0x200
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLMSGERR_ATTR_MSG = 1
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTEXT_FILTER_SKIP_STATS = 8
IFNAME, IFALIAS = 3, 20  # numbers of attributes
IFF_UP = 1
IFA_F_NODAD = 0x02

FIRST_OF_RANDOM_GROUPS = 1 << 31  # of interfaces; people choose small numbers

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
ATTRIBUTE = struct.Struct("=H")  # its number, which comes before its value
SEQUENCE = struct.Struct("=I")
SEQUENCE_AT = 8
RECEIVE = 1 << 17  # bytes; the kernel sends at most 32 KiB at once

TUN = "tun"  # the kind of interface that TAPs are, too
BRIDGE = "bridge"
TUN_TYPE_TAP = 2  # IFF_TAP


class Tap(NamedTuple):
    """What is special of a TAP."""

    owner: int | None  # user id
    multi_queue: bool
    persistent: bool


class Link(NamedTuple):
    """An interface."""

    ifindex: int
    name: str
    kind: str  # "" for hardware and the like
    alias: str
    mac: str
    port_of: int  # index of the bridge, 0 for none
    group: int
    up: bool
    tap: Tap | None


class Address(NamedTuple):
    """An address of an interface."""

    address: str
    prefix: int  # bits

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def is_link_local(self) -> bool:
        """Whether the kernel has given it by itself."""
        return self.address.startswith("fe80:")

    @property
    def family(self) -> int:
        return int(socket.AF_INET6 if self.version == 6 else socket.AF_INET)


class Kernel:
    """A socket to the kernel's interfaces, in the network namespace that it was made in."""

    __slots__ = ("_sequence", "_socket")

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sequence = 0
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)

    # Interfaces

    def links(self, kind: str, *, name: str = "", alias: str = "") -> list[Link]:
        """All interfaces of that kind whose name and alias begin with these."""
        message = _link_message([("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS), _info(kind)])
        # Looked for in the bytes, since taking a message apart costs more than all else.
        wanted = [
            ATTRIBUTE.pack(number) + text.encode() for number, text in ((IFNAME, name), (IFALIAS, alias)) if text
        ]
        answers = self._ask(message, RTM_GETLINK, NLM_F_DUMP, wanted)
        return [link for link in map(_link, answers) if link.kind == kind]

    def ports(self, bridge: Link) -> list[Link]:
        """The interfaces that are ports of the bridge."""
        message = _link_message([("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS), ("IFLA_MASTER", bridge.ifindex)])
        found = [_link(answer) for answer in self._ask(message, RTM_GETLINK, NLM_F_DUMP)]
        return [link for link in found if link.port_of == bridge.ifindex]

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        message = _link_message([("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)])
        try:
            return next((_link(answer) for answer in self._ask(message, RTM_GETLINK, NLM_F_ACK)), None)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def make_bridge(self, name: str, mac: str, group: int) -> None:
        """A bridge that takes no part in spanning trees, and passes multicast on to all its ports."""
        data = {"attrs": [("IFLA_BR_STP_STATE", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]}
        message = BridgeMessage()
        message["attrs"] = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac),
            ("IFLA_GROUP", group),
            _info(BRIDGE, data),
        ]
        self._tell(message, RTM_NEWLINK, "making a bridge", NLM_F_CREATE | NLM_F_EXCL)

    def rename(self, link: Link, name: str) -> None:
        self._change(link, "IFLA_IFNAME", name, f"naming it {name}")

    def set_alias(self, link: Link, alias: str) -> None:
        self._change(link, "IFLA_IFALIAS", alias, "setting its alias")

    def set_mac(self, link: Link, mac: str) -> None:
        self._change(link, "IFLA_ADDRESS", mac, f"giving it the address {mac}")

    def set_group(self, link: Link, group: int) -> None:
        self._change(link, "IFLA_GROUP", group, "setting its group")

    def make_port(self, link: Link, bridge: Link) -> None:
        self._change(link, "IFLA_MASTER", bridge.ifindex, f"making it a port of {bridge.name}")

    def make_no_port(self, link: Link) -> None:
        self._change(link, "IFLA_MASTER", 0, "making it no port")

    def set_up(self, link: Link, *, up: bool) -> None:
        message = _link_message([])
        message["index"] = link.ifindex
        message["flags"] = IFF_UP if up else 0
        message["change"] = IFF_UP
        self._tell(message, RTM_NEWLINK, f"{link.name}: switching it {'on' if up else 'off'}")

    def remove(self, link: Link) -> None:
        """Remove an interface; that it isn't there any more is no error."""
        message = _link_message([])
        message["index"] = link.ifindex
        with _gone_is_fine():
            self._tell(message, RTM_DELLINK, f"{link.name}: removing it")

    def remove_if_named(self, name: str) -> None:
        """Remove the interface that has this name now; that there is none is no error."""
        with _gone_is_fine():
            self._tell(_link_message([("IFLA_IFNAME", name)]), RTM_DELLINK, f"{name}: removing it")

    def remove_all(self, links: list[Link]) -> None:
        """Remove several at once: each time the kernel waits until no processor can see them, which is most of it.

        What it removes at once is a group, so they become one that nothing else is in. That one isn't there any more
        is no error.
        """
        group = FIRST_OF_RANDOM_GROUPS | int.from_bytes(os.urandom(4), "big")
        for link in links:
            with _gone_is_fine():
                self.set_group(link, group)
        if links:
            message = _link_message([("IFLA_GROUP", group)])
            with _gone_is_fine():
                self._tell(message, RTM_DELLINK, f"removing {', '.join([link.name for link in links])}")

    def _change(self, link: Link, attribute: str, value: str | int, what: str) -> None:
        message = _link_message([(attribute, value)])
        message["index"] = link.ifindex
        self._tell(message, RTM_NEWLINK, f"{link.name}: {what}")

    # Addresses

    def addresses(self, link: Link) -> list[Address]:
        """Of the interface."""
        message = AddressMessage()
        message["index"] = link.ifindex
        answers = self._ask(message, RTM_GETADDR, NLM_F_DUMP)
        return [_address(answer) for answer in answers if answer["index"] == link.ifindex]

    def add_address(self, link: Link, address: Address) -> None:
        """Usable at once: nobody else can be there to have it, too."""
        message = _address_message(link, address)
        message["attrs"].append(("IFA_FLAGS", IFA_F_NODAD))
        self._tell(message, RTM_NEWADDR, f"{link.name}: adding {address}", NLM_F_CREATE)

    def remove_address(self, link: Link, address: Address) -> None:
        self._tell(_address_message(link, address), RTM_DELADDR, f"{link.name}: removing {address}")

    # Messages

    def _tell(self, message: Any, kind: int, what: str, flags: int = 0) -> None:
        """Have the kernel do something, which is *what* for people. Raises OSError if it refuses."""
        try:
            self._ask(message, kind, flags | NLM_F_ACK)
        except OSError as error:
            error.filename = what
            raise

    def _ask(self, message: Any, kind: int, flags: int, wanted: Sequence[bytes] = ()) -> list[Any]:
        """Send *message* and collect the answers to it, once more if what they tell of has changed meanwhile.

        Only those that have all bytes *wanted*. Raises OSError if the kernel refuses it.
        """
        message["header"]["type"], message["header"]["flags"] = kind, NLM_F_REQUEST | flags
        message.encode()
        while True:
            self._sequence += 1
            SEQUENCE.pack_into(message.data, SEQUENCE_AT, self._sequence)
            self._socket.sendall(message.data)
            answers, whole = self._collect(type(message), wanted)
            if whole:
                return answers

    def _collect(self, answer: type[Any], wanted: Sequence[bytes]) -> tuple[list[Any], bool]:
        """The answers to what was sent last, and whether they are all of one moment."""
        answers: list[Any] = []
        whole = True
        while True:
            received = self._socket.recv(RECEIVE)
            offset = 0
            while offset < len(received):
                length, kind, flags, sequence, _ = HEADER.unpack_from(received, offset)
                piece = received[offset : offset + length]
                offset += length + 3 & ~3
                if sequence != self._sequence:
                    continue  # an acknowledgement that came after the answer it is of
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind == NLMSG_DONE:
                    return answers, whole
                if kind == NLMSG_ERROR:
                    _raise_error(piece, flags)
                    return answers, whole
                if all(part in piece for part in wanted):
                    answers.append(answer(piece))
                    answers[-1].decode()


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """That there is no such interface is as good as its removal."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def _raise_error(piece: bytes, flags: int) -> None:
    """Raise what an acknowledgement says, unless that is success."""
    (number,) = struct.unpack_from("=i", piece, HEADER.size)
    if not number:
        return
    words = os.strerror(-number)
    offset = HEADER.size + 4 + HEADER.size
    while flags & NLM_F_ACK_TLVS and offset + 4 <= len(piece):
        length, kind = struct.unpack_from("=HH", piece, offset)
        if kind == NLMSGERR_ATTR_MSG:
            words += f" ({piece[offset + 4 : offset + length].rstrip(bytes(1)).decode(errors='replace')})"
        offset += max(length, 4) + 3 & ~3
    raise OSError(-number, words)


def _link_message(attributes: list[tuple[str, Any]]) -> LinkMessage:
    message = LinkMessage()
    message["attrs"] = attributes
    return message


def _info(kind: str, data: Any = None) -> tuple[str, Any]:
    attributes = [("IFLA_INFO_KIND", kind), *([("IFLA_INFO_DATA", data)] if data else [])]
    return "IFLA_LINKINFO", {"attrs": attributes}


def _link(message: LinkMessage) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME") or "",
        kind=kind,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        port_of=message.get_attr("IFLA_MASTER") or 0,
        group=message.get_attr("IFLA_GROUP") or 0,
        up=bool(message["flags"] & IFF_UP),
        tap=_tap(info.get_attr("IFLA_INFO_DATA")) if kind == TUN else None,
    )


def _tap(data: Any) -> Tap | None:
    """None for a TUN."""
    if data is None or data.get_attr("IFLA_TUN_TYPE") != TUN_TYPE_TAP:
        return None
    return Tap(
        owner=data.get_attr("IFLA_TUN_OWNER"),
        multi_queue=bool(data.get_attr("IFLA_TUN_MULTI_QUEUE")),
        persistent=bool(data.get_attr("IFLA_TUN_PERSIST")),
    )


def _address_message(link: Link, address: Address) -> AddressMessage:
    message = AddressMessage()
    message["index"] = link.ifindex
    message["family"] = address.family
    message["prefixlen"] = address.prefix
    message["attrs"] = [("IFA_LOCAL", address.address), ("IFA_ADDRESS", address.address)]
    return message


def _address(message: AddressMessage) -> Address:
    return Address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"), message["prefixlen"])
