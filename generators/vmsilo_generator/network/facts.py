"""What there is to know about networks: typed, immutable, without logic or I/O."""

from typing import NamedTuple


class Route(NamedTuple):
    destination: str  # a network, "0.0.0.0/0" or "::/0" for all
    via: str  # the gateway's address


class Interface(NamedTuple):
    """A network interface that the user describes, every option with its value or default."""

    name: str  # in the guest
    mac: str  # "" = derived
    tap: str  # "" = derived
    host_address: str  # IPv4, with its prefix length; "" = none, as the next
    bridge: str
    dhcp: bool
    addresses: tuple[str, ...]  # IPv4, with their prefix lengths
    routes: tuple[Route, ...]
    addresses6: tuple[str, ...]
    routes6: tuple[Route, ...]
    anti_spoofing: bool


class Ports(NamedTuple):
    """What of a protocol a rule of a firewall is about."""

    protocol: str  # tcp | udp | icmp, which is that of IPv6 as well
    first: int  # destination ports from this one; 0 = all of the protocol
    last: int  # to this one


class FirewallRule(NamedTuple):
    allow: bool  # or deny
    target: str  # a DNS name in lower case, an address, a network, or "*"
    ports: tuple[Ports, ...]  # () = whatever the protocol is


class Firewall(NamedTuple):
    """What a VM may reach through its netvm."""

    rules: tuple[FirewallRule, ...]  # the first one that speaks of a packet decides
    allow: bool  # what none speaks of
    enforce_dns: bool  # no name server but the netvm's


class Network(NamedTuple):
    """A VM's options of the network."""

    netvm: str  # a VM, or the host; "" = none
    is_netvm: bool
    subnet: str  # a /31; "" = derived
    ipv6: bool
    nameservers: tuple[str, ...]
    interfaces: tuple[Interface, ...]  # in the order of the file
    firewall: Firewall


class Link(NamedTuple):
    """What is between a VM, the client, and its netvm. All of it is derived from their two names.

    Its two ends are interfaces of guests, each with a TAP on the host, which share a bridge. Where the host is the
    netvm, there is the client's TAP alone, and that is the host's end.
    """

    client: str
    netvm: str  # a VM, or the host
    client_mac: str
    client_address: str  # IPv4
    client_address6: str  # "" = the link has no IPv6, as the netvm's
    client_tap: str
    netvm_interface: str  # in the netvm; of the host it is the client's TAP
    netvm_mac: str  # "" = the netvm is the host, as the next two
    netvm_address: str
    netvm_address6: str
    netvm_tap: str
    bridge: str
    firewall: Firewall


class Tap(NamedTuple):
    """What may pass between a guest and a TAP of the host."""

    tap: str
    mac: str  # the guest's
    addresses: tuple[str, ...]  # the guest's, of both kinds, without prefix lengths, the link-local one included
    any_address: bool  # and further ones: a DHCP server gives them, or a router
    routes: bool  # it passes on packets of others, so only what it says of itself (ARP, ND) can be judged
    ipv6: bool
    guarded: bool  # False: nothing is judged
