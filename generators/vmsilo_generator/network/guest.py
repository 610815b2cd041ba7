"""What a guest is told of its network, as system credentials (systemd.system-credentials(7)).

systemd in the guest makes files for udev and networkd of those that begin with ``network.link.`` and
``network.network.`` (systemd-network-generator.service(8)); resolved reads ``network.dns``. An interface is known by
its MAC address as the hypervisor gave it, which what the guest puts on top of it does not have.
"""

from collections.abc import Iterable, Sequence

from vmsilo.names import HOST_NETVM, UPSTREAM
from vmsilo.plan import Credential
from vmsilo_generator.network import firewall, links
from vmsilo_generator.network.facts import Interface, Link, Network, Route
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


def credentials(vm: str, network: Network, up: Link | None, down: Sequence[Link]) -> tuple[Credential, ...]:
    """All that concerns the network of a VM, with its link *up* and those of its clients."""
    found: list[Credential] = []
    for interface in network.interfaces:
        mac = links.mac_of(vm, interface)
        found += _files(interface.name, mac, interface.name, interface_file(mac, interface, network))
    if up is not None:
        found += _files(UPSTREAM, up.client_mac, UPSTREAM, upstream_file(up, network))
    for link in down:
        found += _files(link.netvm_interface, link.netvm_mac, link.client, client_file(link))
    found += resolver(network, up)
    if down:
        found.append(Credential("vmsilo.rules", gateway.in_guest(down)))
        found.append(Credential("vmsilo.sysctl", forwarding(down)))
    return tuple(found)


def _files(name: str, mac: str, whole_name: str, network: str) -> Iterable[Credential]:
    yield Credential(f"network.link.{_FILE}{name}", link_file(name, mac, whole_name))
    yield Credential(f"network.network.{_FILE}{name}", network)


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
        yield Credential("network.dns", " ".join(servers))
        yield Credential("network.search_domains", "~.")


def forwarding(down: Sequence[Link]) -> str:
    """sysctl.d(5) of a netvm, for when its rules are in force."""
    ipv6 = any(link.netvm_address6 for link in down)
    return "net.ipv4.ip_forward=1\n" + ("net.ipv6.conf.all.forwarding=1\n" if ipv6 else "")
