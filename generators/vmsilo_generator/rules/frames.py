"""Frames at a TAP: the chains that see them, and what is wrong with any.

The kernel takes an outer VLAN tag off before the ingress hook. ``ether type`` reads the frame as it was, so a tagged
frame is no IP whatever is in it; ``meta protocol`` would say what is in it.
"""

from vmsilo_generator.rules.text import chain, dropped, one_of, quoted, verdicts

# Ethernet and IPv4, and addresses of their lengths.
ARP = "arp htype 1 arp ptype 0x0800 arp hlen 6 arp plen 4"

# Router solicitation and advertisement, neighbour solicitation and advertisement, redirect (RFC 4861).
ND_TYPES = "icmpv6 type { 133, 134, 135, 136, 137 }"
ND = "ip6 nexthdr 58 ip6 hoplimit 255 icmpv6 code 0"
SOLICITATION = ND + " icmpv6 type 135"
ADVERTISEMENT = ND + " icmpv6 type 136"

# How a search for duplicates (RFC 4862) ends: without an option, or with a nonce (RFC 7527).
PROBE_OPTIONS = "ip6 length 24", "ip6 length 32 @th,192,16 0x0e01"

UNICAST = "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00"

# Martians: whatever is on its way to somewhere does not come from there.
MARTIANS = "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"
MARTIANS6 = "::/127", "::ffff:0:0/96", "ff00::/8"
LINK_LOCAL6 = "fe80::/10"

# What may come next after the header of IPv6, and in a fragment: transports, and tunnels. Any other header would
# push that of the transport to where a look at the first fragment can't find it.
# TCP, UDP, ICMP, SCTP, DCCP, UDP-Lite; ESP, GRE, IPv4, IPv6.
_TRANSPORTS = "6, 17, 58, 132, 33, 136, 50, 47, 4, 41"
_FRAGMENT = "44"


def base(tap: str, *, to_guest: bool) -> tuple[str, str]:
    """Name and hook of a base chain."""
    hook = "egress" if to_guest else "ingress"
    name = ("to-" if to_guest else "from-") + tap
    return name, f"type filter hook {hook} device {quoted(tap)} priority filter; policy drop;"


def sorted_by_type(name: str, hook: str, checks: list[str], *, ipv6: bool) -> str:
    """The base chain *name*: *checks* of the frame, then on to the chains *name*-arp, *name*-ip and *name*-ip6."""
    kinds = ["arp", "ip", "ip6"] if ipv6 else ["arp", "ip"]
    on = f"ether type vmap {verdicts([(kind, f'{name}-{kind}') for kind in kinds])}"
    return chain(name, [*checks, on, dropped("", "neither ARP nor IP" if ipv6 else "neither ARP nor IPv4")], hook)


def no_routers() -> str:
    return dropped("icmpv6 type { 133, 134, 137 }", "router discovery")


def no_options() -> str:
    """Source routes and the like; nothing that reaches its goal today has options of IPv4."""
    return dropped("ip hdrlength != 5", "IP options")


def no_headers() -> list[str]:
    return [
        dropped(f"ip6 nexthdr != {{ {_TRANSPORTS}, {_FRAGMENT} }}", "extension headers"),
        dropped(f"ip6 nexthdr {_FRAGMENT} frag nexthdr != {{ {_TRANSPORTS} }}", "extension headers"),
    ]


def source_option(mac: str) -> tuple[str, str]:
    """How a solicitation of *mac* ends: without an option, or with its source's address."""
    return _own_option("0101", mac)


def target_option(mac: str) -> tuple[str, str]:
    """How an advertisement of *mac* ends: without an option, or with its target's address."""
    return _own_option("0201", mac)


def _own_option(head: str, mac: str) -> tuple[str, str]:
    value = f"@th,192,64 0x{head}{mac.replace(':', '')}" if mac else f"@th,192,16 0x{head}"
    return "ip6 length 24", f"ip6 length 32 {value}"


def targets(addresses: list[str]) -> str:
    """Match of a solicitation or advertisement for one of *addresses*. nft(8) of 2022 has no word for a target."""
    return "@th,64,128 " + one_of([_number(address) for address in addresses])


def _number(address: str) -> str:
    """An address of IPv6 as raw payload is compared with it."""
    head, gap, tail = address.partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    words = [*left, *["0"] * (8 - len(left) - len(right)), *right] if gap else left
    return "0x" + "".join([f"{int(word, 16):04x}" for word in words])


def link_local(mac: str) -> str:
    """The address of IPv6 that a station derives from its *mac* (RFC 4291, appendix A)."""
    octets = [int(octet, 16) for octet in mac.split(":")]
    octets[0] ^= 2
    octets[3:3] = [0xFF, 0xFE]
    words = [octets[place] << 8 | octets[place + 1] for place in range(0, 8, 2)]
    return "fe80::" + ":".join([f"{word:x}" for word in words])
