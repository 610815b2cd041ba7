"""An interface that the user described: it leads to any number of others, of whom nothing is known."""

from vmsilo_generator.network.facts import Tap
from vmsilo_generator.rules import frames
from vmsilo_generator.rules.text import chain, dropped, one_of


def chains(tap: Tap) -> str:
    """The chains at *tap*."""
    return _leaving(tap) + _arriving(tap) if tap.guarded else _unguarded(tap)


def _unguarded(tap: Tap) -> str:
    """Frames between neighbours, such as those of spanning trees and of LLDP, go to no guest and come from none.

    A bridge that gets them may act on them (IEEE 802.1Q, table 8-1). A station whose MAC is that of a group does
    not exist.
    """
    reserved = dropped("ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00", "bridge control")
    group = dropped("ether saddr & 01:00:00:00:00:00 != 00:00:00:00:00:00", "foreign source MAC")
    (leaving, hook), (arriving, hook_to) = [frames.base(tap.tap, to_guest=to_guest) for to_guest in (False, True)]
    return chain(leaving, [group, reserved, "accept"], hook) + chain(arriving, [reserved, "accept"], hook_to)


def _four(tap: Tap) -> list[str]:
    return [address for address in tap.addresses if ":" not in address]


def _six(tap: Tap) -> list[str]:
    own = frames.link_local(tap.mac)
    return [own, *[address for address in tap.addresses if ":" in address and address != own]]


# What the guest sends


def _leaving(tap: Tap) -> str:
    name, hook = frames.base(tap.tap, to_guest=False)
    head = f"{frames.ARP} arp operation {{ 1, 2 }} arp saddr ether {tap.mac}"
    said = [] if tap.any_address else ["arp saddr ip " + one_of(["0.0.0.0", *_four(tap)])]
    parts = [
        chain(f"{name}-arp", [" ".join([head, *said, "accept"]), dropped("", "forged ARP")]),
        chain(f"{name}-ip", _ip_leaving(tap)),
    ]
    if tap.ipv6:
        parts += [chain(f"{name}-nd", _discovery(tap)), chain(f"{name}-ip6", _ip6_leaving(tap, f"{name}-nd"))]
    macs = [dropped(f"ether saddr != {tap.mac}", "foreign source MAC")]
    return "".join(parts) + frames.sorted_by_type(name, hook, macs, ipv6=tap.ipv6)


def _ip_leaving(tap: Tap) -> list[str]:
    own = "" if tap.any_address else "ip saddr " + one_of(["0.0.0.0", *_four(tap)])
    rules = [
        # Memberships of groups, for bridges that listen to them, carry an option (RFC 3376).
        f"ip protocol 2 ip ttl 1 {own} accept",
        frames.no_options(),
        "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept" if tap.any_address else "",
        _foreign("ip", _four(tap), frames.MARTIANS, anybody=tap.any_address or tap.routes),
        dropped("udp sport 67", "DHCP"),
        "accept",
    ]
    return [rule for rule in rules if rule]


def _ip6_leaving(tap: Tap, discovery: str) -> list[str]:
    return [
        f"{frames.ND_TYPES} goto {discovery}",
        # Memberships of groups, behind a header of options (RFC 3810).
        f"ip6 nexthdr 0 ip6 saddr {{ ::, {frames.LINK_LOCAL6} }} icmpv6 type {{ 131, 132, 143 }} accept",
        _foreign("ip6", _six(tap), frames.MARTIANS6, anybody=tap.any_address or tap.routes),
        *frames.no_headers(),
        dropped("udp sport 547", "DHCP"),
        "accept",
    ]


def _foreign(family: str, own: list[str], martians: tuple[str, ...], *, anybody: bool) -> str:
    if anybody:
        return dropped(f"{family} saddr {one_of(martians)}", "foreign source address")
    condition = f"{family} saddr != {one_of(own)}" if own else ""  # without an address it has nothing to say
    return dropped(condition, "foreign source address")


def _discovery(tap: Tap) -> list[str]:
    """Neighbour discovery. A guest that a router tells its prefix makes addresses in it as it likes."""
    source, target = [], []
    if not tap.any_address:
        source, target = ["ip6 saddr " + one_of(_six(tap))], [frames.targets(_six(tap))]
    rules = []
    if tap.any_address:
        asks = frames.ND + " icmpv6 type 133 ip6 length"
        mac = tap.mac.replace(":", "")
        rules += [f"{asks} 8 accept", f"{asks} 16 @th,64,64 0x0101{mac} accept"]
    rules.append(frames.no_routers())
    for option in frames.source_option(tap.mac):
        rules.append(" ".join([frames.SOLICITATION, *source, option, "accept"]))
    for option in frames.target_option(tap.mac):
        rules.append(" ".join([frames.ADVERTISEMENT, *source, *target, option, "accept"]))
    for option in frames.PROBE_OPTIONS:
        rules.append(" ".join([frames.SOLICITATION, "ip6 saddr ::", *target, option, "accept"]))
    return [*rules, dropped("", "forged neighbour discovery")]


# What it gets


def _arriving(tap: Tap) -> str:
    name, hook = frames.base(tap.tap, to_guest=True)
    anybody = tap.any_address or tap.routes
    ip = [] if anybody else [_elsewhere("ip", _four(tap))]
    ip6 = [] if anybody else [_elsewhere("ip6", _six(tap))]
    if not tap.any_address:
        ip.append(dropped("udp sport 67 udp dport 68", "DHCP"))
        ip6 += [frames.no_routers(), dropped("udp sport 547 udp dport 546", "DHCP")]
    parts = [
        chain(f"{name}-arp", [f"{frames.ARP} accept", dropped("", "forged ARP")]),
        chain(f"{name}-ip", [*ip, "accept"]),
    ]
    if tap.ipv6:
        parts.append(chain(f"{name}-ip6", [*ip6, "accept"]))
    macs = [
        dropped(f"ether saddr {tap.mac}", "foreign source MAC"),
        dropped(f"{frames.UNICAST} ether daddr != {tap.mac}", "for another MAC"),
    ]
    return "".join(parts) + frames.sorted_by_type(name, hook, macs, ipv6=tap.ipv6)


def _elsewhere(family: str, own: list[str]) -> str:
    """Drops what is addressed to another station, although the frame is for this one."""
    away = [f"{family} daddr != {one_of(own)}"] if own else []
    return dropped(" ".join([frames.UNICAST, *away]), "to another address")
