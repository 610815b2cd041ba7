"""What a guest is told of its network, as system credentials (systemd.system-credentials(7)).

systemd in the guest makes files for udev and networkd of those that begin with ``network.link.`` and
``network.network.`` (systemd-network-generator.service(8)); resolved reads ``network.dns``. An interface is known by
its MAC address as the hypervisor gave it, which what the guest puts on top of it does not have.
"""

from collections.abc import Iterable, Sequence

from vmsilo import guest_network, name_rules
from vmsilo.names import HOST_NETVM, UPSTREAM
from vmsilo.nft import GUEST_TABLE
from vmsilo.plan import Credential
from vmsilo_generator.network import firewall, links, unbound
from vmsilo_generator.network.facts import Interface, Link, Network, Route
from vmsilo_generator.network.unbound import Asker
from vmsilo_generator.rules import gateway

# Before what a distribution has for all interfaces; an image's own file may come before ours.
_FILE = "50-vmsilo-"

_LOCALHOST = "127.0.0.1"

Section = tuple[str, tuple[tuple[str, str], ...]]

# The two ends of a link are all there is on it: nobody to ask whether an address is free, and nobody to find.
_PRIVATE = (
    ("ConfigureWithoutCarrier", "yes"),
    ("IPv6DuplicateAddressDetection", "0"),
    ("LLMNR", "no"),
    ("MulticastDNS", "no"),
)


def credentials(
    vm: str, network: Network, up: Link | None, down: Sequence[Link], ours: tuple[str, ...]
) -> tuple[Credential, ...]:
    """All that concerns the network of a VM, with its link *up* and those of its clients.

    *ours*: the networks that links between VMs are in.
    """
    found: list[Credential] = []
    for interface in network.interfaces:
        mac = links.mac_of(vm, interface)
        found += _files(interface.name, mac, interface.name, interface_file(mac, interface, network))
    if up is not None:
        found += _files(UPSTREAM, up.client_mac, UPSTREAM, upstream_file(up, network))
    for link in down:
        found += _files(link.netvm_interface, link.netvm_mac, link.client, client_file(link))
    found += resolver(network, up)
    if network.is_netvm:
        found.append(Credential(guest_network.UNBOUND, name_server(network, up, down, ours)))
    if down:
        found.append(Credential(guest_network.RULES, gateway.in_guest(down)))
        found.append(Credential(guest_network.SYSCTL, forwarding(down)))
    by_name = [link for link in down if gateway.names(link)]
    if by_name:
        found.append(Credential(guest_network.NAMES, names(by_name)))
    return tuple(found)


def _files(name: str, mac: str, whole_name: str, network: str) -> Iterable[Credential]:
    yield Credential(f"{guest_network.LINK}{_FILE}{name}", link_file(name, mac, whole_name))
    yield Credential(f"{guest_network.NETWORK}{_FILE}{name}", network)


def _text(*sections: Section) -> str:
    """The sections that have anything in them, as a file."""
    blocks = [(f"[{name}]", *map("=".join, lines), "") for name, lines in sections if lines]
    return "\n".join(["\n".join(block) for block in blocks])


def link_file(name: str, mac: str, whole_name: str) -> str:
    """systemd.link(5): the interface's name, and the whole one where that is too long."""
    alternative = (("AlternativeName", whole_name),) if len(whole_name) > len(name) else ()
    return _text(_match(mac), ("Link", (("Name", name), *alternative)))


def _match(mac: str) -> Section:
    return "Match", (("PermanentMACAddress", mac),)


def upstream_file(link: Link, network: Network) -> str:
    """systemd.network(5) of a client's way to its netvm."""
    ours = [(link.client_address, 31, link.netvm_address), (link.client_address6, 127, link.netvm_address6)]
    servers = nameservers(network, link)
    return _text(
        _match(link.client_mac),
        (
            "Network",
            (
                *_PRIVATE,
                *_ipv6(on=bool(link.client_address6), learns=False),
                *[("Address", f"{address}/{length}") for address, length, _gateway in ours if address],
                *[("Gateway", gateway) for _address, _length, gateway in ours if gateway],
                *[("DNS", server) for server in servers],
                *([("Domains", "~.")] if servers else []),
            ),
        ),
    )


def client_file(link: Link) -> str:
    """The same of a netvm's end of the link to a client."""
    ours = [(link.netvm_address, 31), (link.netvm_address6, 127)]
    return _text(
        _match(link.netvm_mac),
        ("Link", (("RequiredForOnline", "no"),)),
        (
            "Network",
            (
                *_PRIVATE,
                *_ipv6(on=bool(link.netvm_address6), learns=False),
                *[("Address", f"{address}/{length}") for address, length in ours if address],
            ),
        ),
    )


def interface_file(mac: str, interface: Interface, network: Network) -> str:
    """The same of an interface that the user describes."""
    learns = interface.dhcp and network.ipv6
    addresses = (*interface.addresses, *interface.addresses6)
    # Who has name servers of his own, or is to ask his netvm, does not ask those of a network he happens to be in.
    asks_others = bool(network.nameservers or network.netvm or network.is_netvm)
    servers = (("UseDNS", "no"),) if interface.dhcp and asks_others else ()
    return _text(
        _match(mac),
        ("Link", () if interface.dhcp or addresses else (("RequiredForOnline", "no"),)),
        (
            "Network",
            (
                ("DHCP", "no" if not interface.dhcp else "yes" if learns else "ipv4"),
                *_ipv6(on=learns or bool(interface.addresses6), learns=learns),
                *[("Address", address) for address in addresses],
            ),
        ),
        *[_route(route) for route in (*interface.routes, *interface.routes6)],
        ("DHCPv4", servers),
        ("DHCPv6", servers if learns else ()),
        ("IPv6AcceptRA", servers if learns else ()),
    )


def _ipv6(*, on: bool, learns: bool) -> list[tuple[str, str]]:
    """Whether the interface has IPv6, and gets more of it by asking. The link-local address is the one we know."""
    return [
        ("LinkLocalAddressing", "ipv6" if on else "no"),
        *([("IPv6LinkLocalAddressGenerationMode", "eui64")] if on else []),
        ("IPv6AcceptRA", "yes" if learns else "no"),
    ]


def _route(route: Route) -> Section:
    return "Route", (("Destination", route.destination), ("Gateway", route.via))


def nameservers(network: Network, up: Link) -> tuple[str, ...]:
    """Whom a VM asks through its netvm."""
    if network.is_netvm:
        return ()  # its own resolver
    if firewall.asks_netvm(network.firewall):
        return (up.netvm_address,)
    return network.nameservers or (() if up.netvm == HOST_NETVM else (up.netvm_address,))


def forwarders(network: Network, up: Link | None) -> tuple[str, ...]:
    """Whom a netvm's resolver asks; none: it finds everything by itself."""
    if up is not None and firewall.asks_netvm(network.firewall):
        return (up.netvm_address,)
    return network.nameservers


def resolver(network: Network, up: Link | None) -> Iterable[Credential]:
    """Whom the guest's resolved asks, whatever the interface."""
    servers: tuple[str, ...] = ()
    if network.is_netvm:
        servers = (_LOCALHOST,)
    elif up is None:
        servers = network.nameservers
    if servers:
        yield Credential(guest_network.DNS, " ".join(servers))
        yield Credential(guest_network.SEARCH_DOMAINS, "~.")


def name_server(network: Network, up: Link | None, down: Sequence[Link], ours: tuple[str, ...]) -> str:
    """unbound.conf(5) of a netvm. Clients with rules by name have name-rules(8) before it, at the same addresses."""
    askers = [Asker(address, client) for link in down if not gateway.names(link) for address, client in _ends(link)]
    by_hand = any(interface.addresses6 or interface.dhcp for interface in network.interfaces)
    ipv6 = bool(up.client_address6) if up is not None else network.ipv6 and by_hand
    return unbound.unbound_conf(tuple(askers), ipv6=ipv6, ours=ours, forwarders=forwarders(network, up))


def names(down: Sequence[Link]) -> str:
    """The rules by name of a netvm's clients."""
    clients = [
        name_rules.Client(
            vm=link.client,
            table=f"inet {GUEST_TABLE}",
            listen=tuple([address for address, _client in _ends(link)]),
            rules=tuple([name_rules.NameRule(*one) for one in gateway.names(link)]),
        )
        for link in down
    ]
    return name_rules.dumps(name_rules.NameRules((_LOCALHOST,), tuple(clients)))


def _ends(link: Link) -> list[tuple[str, str]]:
    """The addresses of netvm and client, of each version that the link has."""
    ends = [(link.netvm_address, link.client_address), (link.netvm_address6, link.client_address6)]
    return [end for end in ends if end[0]]


def forwarding(down: Sequence[Link]) -> str:
    """sysctl.d(5) of a netvm, for when its rules are in force."""
    return guest_network.sysctl((4, 6) if any(link.netvm_address6 for link in down) else (4,))
