"""The two ends of a link between a netvm and its client: both are known, so no frame has any other address.

What one says is judged at its own TAP and once more at the other's, in whose VM's table that stands: nobody depends
on the table of another VM.
"""

from typing import NamedTuple

from vmsilo_generator.network.facts import Link
from vmsilo_generator.rules import frames
from vmsilo_generator.rules.text import chain, dropped, one_of


class _End(NamedTuple):
    mac: str  # "" = not known: the host's
    address: str
    address6: str  # "" = the link has no IPv6

    def addresses6(self) -> list[str]:
        """All of them; none where they are not known."""
        return [self.address6, frames.link_local(self.mac)] if self.mac else []


class _Checks(NamedTuple):
    """What is wrong with addresses in IP."""

    ip: list[str]
    ip6: list[str]


def chains(vm: str, link: Link) -> str:
    """The chains at the TAP of *vm*, which is one of the *link*'s two ends."""
    client = _End(link.client_mac, link.client_address, link.client_address6)
    netvm = _End(link.netvm_mac, link.netvm_address, link.netvm_address6)
    to_client = _to_client(client) if vm == link.client and not netvm.mac else _of_netvm(client)
    of_client = _of_client(client)
    if vm == link.client:
        return _way(link.client_tap, client, netvm, of_client) + _way(
            link.client_tap, netvm, client, to_client, to_guest=True
        )
    return _way(link.netvm_tap, netvm, client, to_client) + _way(
        link.netvm_tap, client, netvm, of_client, to_guest=True
    )


def _of_client(client: _End) -> _Checks:
    return _Checks(
        [dropped(f"ip saddr != {client.address}", "foreign source address")],
        [dropped(f"ip6 saddr != {client.address6}", "foreign source address")],
    )


def _of_netvm(client: _End) -> _Checks:
    """A netvm passes on packets of anybody but its client, and only to that."""
    passed = _to_client(client)
    sources = one_of([client.address, *frames.MARTIANS])
    sources6 = one_of([client.address6, *frames.MARTIANS6, frames.LINK_LOCAL6])
    return _Checks(
        [dropped(f"ip saddr {sources}", "foreign source address"), *passed.ip],
        [dropped(f"ip6 saddr {sources6}", "foreign source address"), *passed.ip6],
    )


def _to_client(client: _End) -> _Checks:
    return _Checks(
        [dropped(f"ip daddr != {client.address}", "to another address")],
        [dropped(f"ip6 daddr != {client.address6}", "to another address")],
    )


def _way(tap: str, sender: _End, receiver: _End, checks: _Checks, *, to_guest: bool = False) -> str:
    """The chains at *tap* for what *sender* says to *receiver*."""
    name, hook = frames.base(tap, to_guest=to_guest)
    ipv6 = bool(sender.address6)
    macs = [dropped(f"ether saddr != {sender.mac}", "foreign source MAC")] if sender.mac else []
    parts = [
        chain(f"{name}-arp", _arp(sender, receiver)),
        chain(
            f"{name}-ip",
            [_not_for(receiver), *checks.ip, frames.no_options(), dropped("udp dport { 67, 68 }", "DHCP"), "accept"],
        ),
    ]
    if ipv6:
        after = [_not_for(receiver), *checks.ip6, *frames.no_headers(), dropped("udp dport { 546, 547 }", "DHCP")]
        parts += [
            chain(f"{name}-nd", _discovery(sender, receiver)),
            chain(f"{name}-ip6", [f"{frames.ND_TYPES} goto {name}-nd", *after, "accept"]),
        ]
    return "".join(parts) + frames.sorted_by_type(name, hook, macs, ipv6=ipv6)


def _not_for(receiver: _End) -> str:
    """On a link all of IP is for the one other station; what a system says to all others is of no use to it."""
    if receiver.mac:
        return dropped(f"ether daddr != {receiver.mac}", "not for its peer")
    return dropped("ether daddr & 01:00:00:00:00:00 != 00:00:00:00:00:00", "not for its peer")


def _arp(sender: _End, receiver: _End) -> list[str]:
    head = f"{frames.ARP} arp saddr ether {sender.mac}" if sender.mac else frames.ARP
    asked = one_of([receiver.address, sender.address])  # its own: it announces it
    return [
        f"{head} arp operation {{ 1, 2 }} arp saddr ip {sender.address} arp daddr ip {asked} accept",
        # Before it takes its address it may ask whether somebody has it (RFC 5227).
        f"{head} arp operation 1 arp saddr ip 0.0.0.0 arp daddr ip {sender.address} accept",
        dropped("", "forged ARP"),
    ]


def _discovery(sender: _End, receiver: _End) -> list[str]:
    """Neighbour discovery that speaks of nobody but these two."""
    own, others = sender.addresses6(), receiver.addresses6()
    source = "ip6 saddr " + one_of(own or [sender.address6, frames.LINK_LOCAL6])
    of_own = [frames.targets(own)] if own else []
    of_others = [frames.targets(others)] if others else []
    rules = [frames.no_routers()]
    for option in frames.source_option(sender.mac):
        rules.append(" ".join([frames.SOLICITATION, source, *of_others, option, "accept"]))
    for option in frames.target_option(sender.mac):
        rules.append(" ".join([frames.ADVERTISEMENT, source, *of_own, option, "accept"]))
    for option in frames.PROBE_OPTIONS:
        rules.append(" ".join([frames.SOLICITATION, "ip6 saddr ::", *of_own, option, "accept"]))
    return [*rules, dropped("", "forged neighbour discovery")]
