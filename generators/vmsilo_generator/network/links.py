"""The links between VMs and their netvms, and the names, MAC addresses and IP addresses of interfaces.

All of it comes from the names of VMs and interfaces, so adding a VM changes nothing of another's. Names on the host
end at 15 characters; one that would be longer is cut, and a hash of all of it takes the place of the rest, behind an
underscore, which is in no name of a VM.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from vmsilo.names import HOST_NETVM, UPSTREAM
from vmsilo_generator import derive
from vmsilo_generator.model import Host, Vm
from vmsilo_generator.network.facts import Interface, Link, Network
from vmsilo_generator.syntax import INTERFACE_NAME_MAX

NICS_MAX = 15

_HASH = 5  # characters

# Names that the guest's kernel has for itself, and that of the netvm's own way up.
_TAKEN = ("all", "default", "lo", UPSTREAM)


def links(vms: Sequence[Vm], host: Host) -> tuple[Link, ...]:
    """Those of all VMs, in the order of the clients."""
    networks = {vm.name: vm.network for vm in vms if vm.network is not None}
    return tuple([link(vm.name, networks, host) for vm in vms if vm.network is not None and vm.network.netvm])


def link(client: str, networks: dict[str, Network], host: Host) -> Link:
    """The link of a VM to its netvm."""
    network = networks[client]
    netvm = network.netvm
    pair = f"{netvm}.{client}"
    subnet = IPv4Network(network.subnet or derived_subnet(netvm, client, host.netvm_range))
    first6 = last6 = ""
    if host.netvm_range6 and has_ipv6(client, networks):
        begin = int(IPv6Network(host.netvm_range6).network_address)
        first6, last6 = (str(IPv6Address(begin | int(address))) for address in (subnet[0], subnet[1]))
    tap = cut(client, INTERFACE_NAME_MAX - len("_up")) + "_up"
    by_host = netvm == HOST_NETVM
    return Link(
        client=client,
        netvm=netvm,
        client_mac=derived_mac(f"{client}/{UPSTREAM}"),
        client_address=str(subnet[0]),
        client_address6=first6,
        client_tap=tap,
        netvm_interface=tap if by_host else interface_to(client),
        netvm_mac="" if by_host else derived_mac(pair),
        netvm_address=str(subnet[1]),
        netvm_address6=last6,
        netvm_tap="" if by_host else cut_pair(pair, INTERFACE_NAME_MAX),
        bridge="" if by_host else "br_" + cut_pair(pair, INTERFACE_NAME_MAX - len("br_")),
        firewall=network.firewall,
    )


def has_ipv6(client: str, networks: dict[str, Network]) -> bool:
    """Whether nobody on the VM's way to the network is without IPv6, as far as the way is known."""
    passed = set()
    name = client
    while name != HOST_NETVM and name not in passed:
        passed.add(name)
        network = networks.get(name)
        if network is None or not network.ipv6:
            return False
        if not network.netvm:
            return True
        name = network.netvm
    return name == HOST_NETVM


def derived_subnet(netvm: str, client: str, netvm_range: str) -> str:
    """The /31 of a link, as far as it is not pinned."""
    network = IPv4Network(netvm_range)
    first = int(network.network_address) + 2 * derive.number(f"{netvm}.{client}", 0, network.num_addresses // 2)
    return str(IPv4Network((first, 31)))


def derived_mac(text: str) -> str:
    """A MAC address of one card that depends on nothing but *text*, locally administered."""
    octets = (derive.digest(text) & (1 << 40) - 1).to_bytes(5, "big")
    return "52:" + octets.hex(":")


def interface_to(client: str) -> str:
    """The name of the interface to that client, in its netvm."""
    if client in _TAKEN:
        return f"{client}_{derive.letters(client, _HASH)}"
    return cut(client, INTERFACE_NAME_MAX)


def tap_of(vm: str, index: int, interface: Interface) -> str:
    """The TAP of an interface that the user describes, which is that number in the VM's file."""
    if interface.tap:
        return interface.tap
    return cut(vm, INTERFACE_NAME_MAX - len(f"-{index}")) + f"-{index}"


def mac_of(vm: str, interface: Interface) -> str:
    return interface.mac.lower() or derived_mac(f"{vm}/{interface.name}")


def cut(name: str, room: int) -> str:
    """The name, or as much of it as leaves room for a hash of all of it."""
    if len(name) <= room:
        return name
    return f"{name[: room - _HASH - 1]}_{derive.letters(name, _HASH)}"


def cut_pair(pair: str, room: int) -> str:
    """The same for the names of two VMs with a dot between them, of which each keeps a part."""
    if len(pair) <= room:
        return pair
    one, _dot, other = pair.partition(".")
    each = (room - _HASH - 2) // 2
    return f"{one[:each]}.{other[:each]}_{derive.letters(pair, _HASH)}"
