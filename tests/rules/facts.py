"""Facts about networks, as the renderers get them."""

from vmsilo.names import HOST_NETVM
from vmsilo_generator.network.facts import Firewall, FirewallRule, Link, Ports, Tap
from vmsilo_generator.rules.frames import link_local

OPEN = Firewall((), allow=True, enforce_dns=False)


def link(client: str, netvm: str, number: int = 1, firewall: Firewall = OPEN, *, ipv6: bool = True) -> Link:
    """The link of *client* and *netvm* that has the given *number*, from which its addresses come."""
    on_host = netvm == HOST_NETVM
    low, high = number * 2, number * 2 + 1
    return Link(
        client=client,
        netvm=netvm,
        client_mac=f"52:00:00:00:01:{number:02x}",
        client_address=f"10.200.0.{low}",
        client_address6=f"fd00:200::{low:x}" if ipv6 else "",
        client_tap=f"{client}_up",
        netvm_interface=f"{client}_up" if on_host else client,
        netvm_mac="" if on_host else f"52:00:00:00:02:{number:02x}",
        netvm_address=f"10.200.0.{high}",
        netvm_address6=f"fd00:200::{high:x}" if ipv6 else "",
        netvm_tap="" if on_host else f"{netvm}.{client}",
        bridge="" if on_host else f"br_{netvm}.{client}",
        firewall=firewall,
    )


def tap(name: str, *addresses: str, any_address: bool = False, routes: bool = False, guarded: bool = True) -> Tap:
    """An interface of the user's, whose TAP is *name*."""
    mac = "52:00:00:00:03:01"
    return Tap(name, mac, (*addresses, link_local(mac)), any_address, routes, ipv6=True, guarded=guarded)


def allow(target: str, *ports: str) -> FirewallRule:
    return FirewallRule(allow=True, target=target, ports=tuple([_ports(text) for text in ports]))


def deny(target: str, *ports: str) -> FirewallRule:
    return FirewallRule(allow=False, target=target, ports=tuple([_ports(text) for text in ports]))


def _ports(text: str) -> Ports:
    protocol, _, numbers = text.partition("/")
    first, _, last = numbers.partition("-")
    return Ports(protocol, int(first or 0), int(last or first or 0))
