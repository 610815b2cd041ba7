"""Sends frames that should not arrive, and tells which did. Runs by itself, in a guest as well as in a namespace.

    facts INTERFACE                 its addresses and its gateway's, as JSON
    send INTERFACE SCENE            make all attempts; prints their names as JSON
    listen INTERFACE SECONDS        print, as JSON, the numbers of the attempts of which something arrived
    last INTERFACE SCENE            a plain datagram to the victim, which tells that the listener was there to the end

SCENE is a Scene as JSON. Each attempt is a frame that carries its number; what it is wrapped in, answered by or
cut into does not matter to the listener, who sees every frame that comes in, whoever it is for.
"""

import fcntl
import json
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

MARK = b"vmsilo-attempt-%03d."
LAST = 999  # the number of the datagram after all attempts
_MARK = re.compile(rb"vmsilo-attempt-(\d{3})\.")
ROUNDS = 3  # what is lost on the way by chance must not look like a wall
_ETH_P_ALL = 0x0003
_PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC = 1, 1
_SOL_PACKET = 263
_PACKET_OUTGOING = 4
_SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8927, 0x8933

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"
STRANGE_MAC = "52:54:00:66:66:66"
ICMP, TCP, UDP, IPV6_IN_IP, ICMP6 = 1, 6, 17, 41, 58


class Station(NamedTuple):
    """Somebody on the network."""

    mac: str
    four: str
    six: str
    local: str  # IPv6 link-local


class Scene(NamedTuple):
    own: Station
    gateway: Station  # the netvm, as the attacker sees it
    victim: Station
    server: tuple[str, str]  # in the internet; its UDP port 7 sends everything back


class Attempt(NamedTuple):
    what: str
    frame: Callable[[Scene, bytes], bytes]  # given the mark that has to be in it
    routed: bool = False  # it counts on the netvm to carry it to the victim


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def ethernet(source: str, target: str, kind: int, body: bytes) -> bytes:
    return mac(target) + mac(source) + struct.pack("!H", kind) + body


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source: str, target: str, protocol: int, body: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    """A packet of the version that the addresses have."""
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + packed(source) + packed(target) + body
    head = 5 + len(options) // 4
    start = struct.pack("!BBHHHBB", 0x40 | head, 0, 4 * head + len(body), 7, fragment, 64, protocol)
    end = packed(source) + packed(target) + options
    return start + struct.pack("!H", checksum(start + b"\0\0" + end)) + end + body


def summed(source: str, target: str, protocol: int, body: bytes, at: int) -> bytes:
    """*body* with the checksum, which is at byte *at*, over the pseudo header of either version."""
    pseudo = packed(source) + packed(target) + struct.pack("!II", len(body), protocol)
    return body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]


def udp(source: str, target: str, ports: tuple[int, int], body: bytes) -> bytes:
    segment = struct.pack("!HHHH", *ports, 8 + len(body), 0) + body
    return summed(source, target, UDP, segment, 6)


def tcp_syn(source: str, target: str, port: int, body: bytes) -> bytes:
    """With data, which TCP allows: the listener has to find its mark."""
    segment = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 64000, 0, 0) + body
    return summed(source, target, TCP, segment, 16)


def icmp6(source: str, target: str, kind: int, body: bytes) -> bytes:
    return summed(source, target, ICMP6, struct.pack("!BBH", kind, 0, 0) + body, 2)


def ping4(body: bytes) -> bytes:
    message = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + body
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """RFC 826; sender and target are pairs of MAC and IPv4 address."""
    pairs = b"".join(mac(hardware) + packed(address) for hardware, address in (sender, target))
    return struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + pairs


def dhcp_offer(scene: Scene) -> bytes:
    """RFC 2131: take me for your router and name server."""
    own = packed(scene.own.four)
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x12345678, 0, 0x8000)
    fixed = head + bytes(4) + packed(scene.victim.four) + own + bytes(4) + mac(scene.victim.mac) + bytes(10 + 192)
    options = b"\x63\x82\x53\x63\x35\x01\x02\x36\x04" + own + b"\x03\x04" + own + b"\x06\x04" + own + b"\xff"
    return fixed + options


def tagged(kind: int, vlan: int, frame: bytes) -> bytes:
    return frame[:12] + struct.pack("!HH", kind, vlan) + frame[12:]


def loose_source_route(through: str) -> bytes:
    """RFC 791: the target is in the option, the packet goes to a router first."""
    return b"\x83\x07\x04" + packed(through) + b"\x01"


# Frames, by what is in them and who they are for.


def to_gateway(scene: Scene, packet: bytes, source: str = "") -> bytes:
    return ethernet(source or scene.own.mac, scene.gateway.mac, kind(packet), packet)


def to_victim(scene: Scene, packet: bytes, source: str = "") -> bytes:
    return ethernet(source or scene.own.mac, scene.victim.mac, kind(packet), packet)


def to_all(scene: Scene, packet: bytes) -> bytes:
    return ethernet(scene.own.mac, BROADCAST, kind(packet), packet)


def kind(packet: bytes) -> int:
    return IPV6 if packet[0] >> 4 == 6 else IPV4


def datagram(source: str, target: str, mark: bytes, ports: tuple[int, int] = (40000, 7)) -> bytes:
    return ip(source, target, UDP, udp(source, target, ports, mark))


def echo4(source: str, target: str, mark: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    return ip(source, target, ICMP, ping4(mark), options, fragment)


def echo6(source: str, target: str, mark: bytes) -> bytes:
    return ip(source, target, ICMP6, icmp6(source, target, 128, bytes(4) + mark))


def syn(source: str, target: str, mark: bytes) -> bytes:
    return ip(source, target, TCP, tcp_syn(source, target, 22, mark))


def neighbour(scene: Scene, kind_: int, target: str, hardware: str, mark: bytes) -> bytes:
    """RFC 4861: a solicitation (135) or an overriding advertisement (136), to all nodes."""
    flags = 0x20000000 if kind_ == 136 else 0
    body = struct.pack("!I", flags) + packed(target) + bytes([kind_ - 134, 1]) + mac(hardware)
    message = icmp6(scene.own.local, "ff02::1", kind_, body)
    return ethernet(scene.own.mac, ALL_NODES, IPV6, hop_by_hop_255(scene.own.local, "ff02::1", message)) + mark


def router_advertisement(scene: Scene, mark: bytes) -> bytes:
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 86400, 0) + packed("2001:db8:bad::")
    body = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix
    message = icmp6(scene.own.local, "ff02::1", 134, body)
    return ethernet(scene.own.mac, ALL_NODES, IPV6, hop_by_hop_255(scene.own.local, "ff02::1", message)) + mark


def hop_by_hop_255(source: str, target: str, message: bytes) -> bytes:
    """Neighbour discovery is only heeded with a hop limit that no router lets stand."""
    packet = ip(source, target, ICMP6, message)
    return packet[:7] + b"\xff" + packet[8:]


def bridge_protocol(scene: Scene, target: str, payload: bytes, mark: bytes) -> bytes:
    """IEEE 802.3 with LLC: a length in place of the type."""
    return ethernet(scene.own.mac, target, len(payload + mark), payload + mark)


STP = b"\x42\x42\x03" + bytes(5) + bytes(8) + bytes(4) + bytes(8) + b"\x80\x01" + b"\0\0\x14\0\x02\0\x0f\0"
LLDP = b"\x02\x07\x04" + mac(STRANGE_MAC) + b"\x04\x03\x07up" + b"\x06\x02\0\x78\0\0"


ATTEMPTS = (
    # As a neighbour may: through the netvm.
    Attempt("ping its IPv4 address", lambda s, m: to_gateway(s, echo4(s.own.four, s.victim.four, m)), routed=True),
    Attempt("UDP to its IPv4", lambda s, m: to_gateway(s, datagram(s.own.four, s.victim.four, m)), routed=True),
    Attempt("TCP to its IPv4", lambda s, m: to_gateway(s, syn(s.own.four, s.victim.four, m)), routed=True),
    Attempt("ping its IPv6 address", lambda s, m: to_gateway(s, echo6(s.own.six, s.victim.six, m)), routed=True),
    Attempt("UDP to its IPv6", lambda s, m: to_gateway(s, datagram(s.own.six, s.victim.six, m)), routed=True),
    Attempt("TCP to its IPv6", lambda s, m: to_gateway(s, syn(s.own.six, s.victim.six, m)), routed=True),
    Attempt(
        "UDP from the port of DNS",
        lambda s, m: to_gateway(s, datagram(s.own.four, s.victim.four, m, (53, 40000))),
        routed=True,
    ),
    # Straight to it.
    Attempt("IPv4 to its MAC", lambda s, m: to_victim(s, datagram(s.own.four, s.victim.four, m))),
    Attempt("IPv6 to its MAC", lambda s, m: to_victim(s, datagram(s.own.six, s.victim.six, m))),
    Attempt("IPv6 link-local to its MAC", lambda s, m: to_victim(s, datagram(s.own.local, s.victim.local, m))),
    Attempt(
        "IPv6 link-local through the netvm", lambda s, m: to_gateway(s, datagram(s.own.local, s.victim.local, m))
    ),
    Attempt("IPv4 broadcast", lambda s, m: to_all(s, datagram(s.own.four, "255.255.255.255", m))),
    Attempt(
        "IPv4 multicast",
        lambda s, m: ethernet(s.own.mac, "01:00:5e:00:00:fb", IPV4, datagram(s.own.four, "224.0.0.251", m)),
    ),
    Attempt(
        "IPv6 multicast, link-local",
        lambda s, m: ethernet(s.own.mac, ALL_NODES, IPV6, datagram(s.own.local, "ff02::1", m)),
    ),
    # ARP and neighbour discovery.
    Attempt(
        "ARP: who has its address",
        lambda s, m: (
            ethernet(s.own.mac, BROADCAST, ARP, arp(1, (s.own.mac, s.own.four), ("00:00:00:00:00:00", s.victim.four)))
            + m
        ),
    ),
    Attempt(
        "ARP: the netvm is me",
        lambda s, m: (
            ethernet(s.own.mac, BROADCAST, ARP, arp(2, (s.own.mac, s.gateway.four), (BROADCAST, s.gateway.four))) + m
        ),
    ),
    Attempt(
        "ARP: its address is mine",
        lambda s, m: (
            ethernet(s.own.mac, BROADCAST, ARP, arp(2, (s.own.mac, s.victim.four), (BROADCAST, s.victim.four))) + m
        ),
    ),
    Attempt(
        "ARP: the netvm is me, to its MAC",
        lambda s, m: (
            ethernet(s.own.mac, s.victim.mac, ARP, arp(2, (s.own.mac, s.gateway.four), (s.victim.mac, s.victim.four)))
            + m
        ),
    ),
    Attempt("ND: who has its address", lambda s, m: neighbour(s, 135, s.victim.six, s.own.mac, m)),
    Attempt("ND: the netvm is me", lambda s, m: neighbour(s, 136, s.gateway.local, s.own.mac, m)),
    Attempt("ND: its address is mine", lambda s, m: neighbour(s, 136, s.victim.six, s.own.mac, m)),
    Attempt("router advertisement", router_advertisement),
    # As somebody else.
    Attempt("MAC of the victim", lambda s, m: to_gateway(s, datagram(s.own.four, s.victim.four, m), s.victim.mac)),
    Attempt("MAC of the netvm", lambda s, m: to_victim(s, datagram(s.own.four, s.victim.four, m), s.gateway.mac)),
    Attempt(
        "MAC of nobody",
        lambda s, m: to_gateway(s, datagram(s.own.four, s.victim.four, m), STRANGE_MAC),
        routed=True,
    ),
    Attempt("MAC that is a group", lambda s, m: to_victim(s, datagram(s.own.four, s.victim.four, m), BROADCAST)),
    Attempt("IPv4 source: the netvm", lambda s, m: to_gateway(s, datagram(s.gateway.four, s.victim.four, m))),
    Attempt("IPv4 source: the internet", lambda s, m: to_gateway(s, datagram(s.server[0], s.victim.four, m))),
    Attempt("IPv4 source: none", lambda s, m: to_gateway(s, datagram("0.0.0.0", s.victim.four, m))),
    Attempt(
        "IPv4 source: the victim, so that answers go there",
        lambda s, m: to_gateway(s, datagram(s.victim.four, s.server[0], m)),
        routed=True,
    ),
    Attempt(
        "IPv6 source: the victim, so that answers go there",
        lambda s, m: to_gateway(s, datagram(s.victim.six, s.server[1], m)),
        routed=True,
    ),
    Attempt(
        "IPv6 source: the internet",
        lambda s, m: to_gateway(s, datagram(s.server[1], s.victim.six, m)),
        routed=True,
    ),
    Attempt(
        "ICMP redirect in the netvm's name",
        lambda s, m: to_victim(
            s, ip(s.gateway.four, s.victim.four, ICMP, b"\x05\x01\0\0" + packed(s.own.four) + m), s.gateway.mac
        ),
    ),
    # In disguise.
    Attempt("VLAN tag", lambda s, m: tagged(0x8100, 5, to_victim(s, datagram(s.own.four, s.victim.four, m)))),
    Attempt("VLAN tag 0", lambda s, m: tagged(0x8100, 0, to_victim(s, echo4(s.own.four, s.victim.four, m)))),
    Attempt(
        "two VLAN tags",
        lambda s, m: tagged(0x88A8, 5, tagged(0x8100, 6, to_victim(s, datagram(s.own.four, s.victim.four, m)))),
    ),
    Attempt(
        "IPv4 with a source route",
        lambda s, m: to_gateway(s, echo4(s.own.four, s.gateway.four, m, loose_source_route(s.victim.four))),
    ),
    Attempt(
        "IPv4, a first fragment",
        lambda s, m: to_gateway(s, echo4(s.own.four, s.victim.four, m, fragment=0x2000)),
        routed=True,
    ),
    Attempt(
        "IPv4, a later fragment",
        lambda s, m: to_gateway(s, echo4(s.own.four, s.victim.four, m, fragment=0x0010)),
        routed=True,
    ),
    Attempt(
        "IPv6 inside IPv4",
        lambda s, m: to_gateway(s, ip(s.own.four, s.victim.four, IPV6_IN_IP, datagram(s.own.six, s.victim.six, m))),
        routed=True,
    ),
    Attempt(
        "IPv4 inside IPv4",
        lambda s, m: to_gateway(s, ip(s.own.four, s.victim.four, 4, datagram(s.own.four, s.victim.four, m))),
        routed=True,
    ),
    Attempt("an unknown protocol, to its MAC", lambda s, m: ethernet(s.own.mac, s.victim.mac, 0x88B5, m)),
    Attempt("an unknown protocol, to all", lambda s, m: ethernet(s.own.mac, BROADCAST, 0x88B5, m)),
    Attempt("PPPoE discovery", lambda s, m: ethernet(s.own.mac, BROADCAST, 0x8863, b"\x11\x09\0\0\0\0" + m)),
    Attempt("EAPOL", lambda s, m: ethernet(s.own.mac, "01:80:c2:00:00:03", 0x888E, b"\x01\x01\0\0" + m)),
    Attempt("MPLS", lambda s, m: ethernet(s.own.mac, s.victim.mac, 0x8847, b"\0\x01\x01\x40" + m)),
    # As a part of the network.
    Attempt("STP", lambda s, m: bridge_protocol(s, "01:80:c2:00:00:00", STP, m)),
    Attempt("STP of Cisco's", lambda s, m: bridge_protocol(s, "01:00:0c:cc:cc:cd", STP, m)),
    Attempt("LLDP", lambda s, m: ethernet(s.own.mac, "01:80:c2:00:00:0e", 0x88CC, LLDP + m)),
    Attempt("LACP", lambda s, m: ethernet(s.own.mac, "01:80:c2:00:00:02", 0x8809, b"\x01\x01" + m)),
    Attempt("pause", lambda s, m: ethernet(s.own.mac, "01:80:c2:00:00:01", 0x8808, b"\0\x01\xff\xff" + m)),
    Attempt(
        "DHCP offer",
        lambda s, m: to_all(
            s, ip(s.own.four, "255.255.255.255", UDP, udp(s.own.four, "255.255.255.255", (67, 68), dhcp_offer(s) + m))
        ),
    ),
    Attempt(
        "DHCP offer to its MAC",
        lambda s, m: to_victim(
            s, ip(s.own.four, s.victim.four, UDP, udp(s.own.four, s.victim.four, (67, 68), dhcp_offer(s) + m))
        ),
    ),
    Attempt(
        "DHCPv6 advertisement",
        lambda s, m: to_victim(
            s, ip(s.own.local, s.victim.local, UDP, udp(s.own.local, s.victim.local, (547, 546), b"\x02\0\0\x01" + m))
        ),
    ),
    Attempt(
        "mDNS",
        lambda s, m: ethernet(
            s.own.mac, "01:00:5e:00:00:fb", IPV4, datagram(s.own.four, "224.0.0.251", m, (5353, 5353))
        ),
    ),
)


# What a program in a guest does with them.


def open_interface(name: str) -> socket.socket:
    ours = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    ours.bind((name, _ETH_P_ALL))
    return ours


def send(name: str, scene: Scene) -> list[str]:
    with open_interface(name) as ours:
        for _ in range(ROUNDS):
            for number, attempt in enumerate(ATTEMPTS):
                frame = attempt.frame(scene, MARK % number)
                ours.send(frame + bytes(max(0, 60 - len(frame))))
                time.sleep(0.002)  # the queue of the device on the other side is short
    return [attempt.what for attempt in ATTEMPTS]


def last(name: str, scene: Scene) -> None:
    with open_interface(name) as ours:
        for _ in range(ROUNDS):
            ours.send(to_victim(scene, datagram(scene.own.four, scene.victim.four, MARK % LAST)))


def listen(name: str, seconds: float) -> list[int]:
    found: set[int] = set()
    with open_interface(name) as ours:
        index = fcntl.ioctl(ours, _SIOCGIFINDEX, struct.pack("16si", name.encode(), 0))[16:20]
        membership = index + struct.pack("HH8s", _PACKET_MR_PROMISC, 0, bytes(8))
        ours.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
        print("listening", flush=True)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ours.settimeout(left)
            try:
                frame, sender = ours.recvfrom(65536)
            except TimeoutError:
                break
            if sender[2] != _PACKET_OUTGOING:
                found |= {int(number) for number in _MARK.findall(frame)}
    return sorted(found)


def facts(name: str) -> list[Station]:
    """Who we are at that interface, and who our gateway is there."""

    def told(*command: str) -> str:
        return subprocess.run(("ip", *command), check=True, capture_output=True, encoding="utf-8").stdout

    link = json.loads(told("-j", "address", "show", "dev", name))[0]
    four = [one["local"] for one in link["addr_info"] if one["family"] == "inet"]
    six = {one["scope"]: one["local"] for one in link["addr_info"] if one["family"] == "inet6"}
    gateways = {}
    for version in ("-4", "-6"):
        routes = json.loads(told("-j", version, "route", "show", "default", "dev", name) or "[]")
        gateways[version] = next((route["gateway"] for route in routes if "gateway" in route), "")
    known = {one["dst"]: one.get("lladdr", "") for one in json.loads(told("-j", "neighbour", "show", "dev", name))}
    hardware = next((known[one] for one in gateways.values() if known.get(one)), "")
    own = Station(link["address"], (four or [""])[0], six.get("global", ""), six.get("link", ""))
    return [own, Station(hardware, gateways["-4"], gateways["-6"], "")]


def scene_of(text: str) -> Scene:
    *stations, (four, six) = json.loads(text)
    own, gateway, victim = (Station(*station) for station in stations)
    return Scene(own, gateway, victim, (four, six))


def main() -> int:
    verb, name, *rest = sys.argv[1:]
    if verb == "facts":
        print(json.dumps(facts(name)))
    elif verb == "send":
        print(json.dumps(send(name, scene_of(rest[0]))))
    elif verb == "last":
        last(name, scene_of(rest[0]))
    else:
        print(json.dumps(listen(name, float(rest[0]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
