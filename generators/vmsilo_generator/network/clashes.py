"""What two VMs can't both have: names of interfaces on the host, MAC addresses, addresses of links and of the host.

Of two, the later one by name has the problem; what is written down goes before what is derived, so that writing
something down solves a problem and never moves it to somebody else.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network
from typing import NamedTuple

from vmsilo.names import HOST_NETVM
from vmsilo_generator.model import Host, Problem, Vm
from vmsilo_generator.network import links
from vmsilo_generator.network.facts import Link

Key = tuple[str | int, ...]

NETVM: Key = ("network", "netvm")
SUBNET: Key = ("network", "netvmSubnet")


class Claim(NamedTuple):
    """What one VM has that no other may."""

    what: str
    vm: Vm
    key: Key
    pinned: bool  # written down, not derived
    advice: str  # what would solve it


def problems(host: Host, vms: Sequence[Vm]) -> list[Problem]:
    """All that is wrong between the networks of *vms*, which are sorted by name."""
    by_name = {vm.name: vm for vm in vms}
    found = links.links(vms, host)
    return [
        *_taken_twice(_macs(by_name, found)),
        *_taken_twice(_host_interfaces(by_name, found)),
        *_one_subnet(host, by_name, found),
        *_host_networks(by_name, found),
        *_too_many(by_name, found),
        *_one_name(by_name, found),
    ]


def _taken_twice(claims: Iterable[Claim]) -> Iterator[Problem]:
    owners: dict[str, Claim] = {}
    for claim in sorted(claims, key=lambda claim: (not claim.pinned, claim.vm.name)):
        owner = owners.setdefault(claim.what, claim)
        if owner is not claim:
            whose = "this VM" if owner.vm is claim.vm else f'VM "{owner.vm.name}" ({owner.vm.file})'
            yield Problem(claim.vm.file, claim.key, f"{whose} has {claim.what} already: {claim.advice}")


def _macs(vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Claim]:
    for vm in vms.values():
        for interface in vm.network.interfaces if vm.network else ():
            key: Key = ("network", "interfaces", interface.name)
            address = links.mac_of(vm.name, interface)
            if interface.mac:
                yield Claim(address, vm, (*key, "macAddress"), pinned=True, advice="expected another one")
            else:
                yield Claim(address, vm, key, pinned=False, advice="set macAddress to another one")
    for link in found:
        client = vms[link.client]
        advice = "rename this VM, or change that address"
        yield Claim(link.client_mac, client, NETVM, pinned=False, advice=advice)
        if link.netvm_mac:
            yield Claim(link.netvm_mac, client, NETVM, pinned=False, advice=advice)


def _host_interfaces(vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Claim]:
    """TAPs and bridges. A bridge that the user names may have many TAPs, but not the name of one."""
    bridges: set[str] = set()
    for vm in vms.values():
        for index, interface in enumerate(vm.network.interfaces if vm.network else ()):
            key: Key = ("network", "interfaces", interface.name)
            tap = links.tap_of(vm.name, index, interface)
            if interface.tap:
                yield Claim(tap, vm, (*key, "tap", "name"), pinned=True, advice="expected another name")
            else:
                yield Claim(tap, vm, key, pinned=False, advice="set tap.name to another one")
            if interface.bridge and interface.bridge not in bridges:
                bridges.add(interface.bridge)
                advice = "expected another name for a bridge"
                yield Claim(interface.bridge, vm, (*key, "tap", "bridge"), pinned=True, advice=advice)
    for link in found:
        for name in (link.client_tap, link.netvm_tap, link.bridge):
            if name:
                advice = "rename this VM, or what has that name"
                yield Claim(name, vms[link.client], NETVM, pinned=False, advice=advice)


def _one_subnet(host: Host, vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Problem]:
    """Links with the same addresses, and the line that gives the later one others."""
    taken = {link.client_address for link in found}
    owners: dict[str, Link] = {}
    for link in sorted(found, key=lambda link: (not _pinned(vms[link.client]), link.client)):
        owner = owners.setdefault(link.client_address, link)
        if owner is link:
            continue
        client, other = vms[link.client], vms[owner.client]
        free = _free_subnet(host.netvm_range, link, taken)
        advice = f'pin others: network.netvmSubnet = "{free}"' if free else "choose a larger netvmRange"
        message = (
            f"the addresses {link.client_address}/31 of the link to {_called(link.netvm)} are those of the link of "
            f'VM "{other.name}" ({other.file}) to {_called(owner.netvm)}: {advice}'
        )
        yield Problem(client.file, SUBNET if _pinned(client) else NETVM, message)


def _pinned(vm: Vm) -> bool:
    return vm.network is not None and bool(vm.network.subnet)


def _called(netvm: str) -> str:
    return "the host" if netvm == HOST_NETVM else netvm


def _free_subnet(netvm_range: str, link: Link, taken: set[str]) -> str:
    """The next /31 in the range that no link has, behind that of *link*; "" if there is none."""
    network = IPv4Network(netvm_range)
    first, count = int(network.network_address), network.num_addresses // 2
    begin = int(IPv4Network(links.derived_subnet(link.netvm, link.client, netvm_range)).network_address) - first
    for step in range(1, min(count, len(taken) + 2)):
        subnet = IPv4Network((first + (begin + 2 * step) % (2 * count), 31))
        if str(subnet[0]) not in taken:
            taken.add(str(subnet[0]))
            return str(subnet)
    return ""


def _host_networks(vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Problem]:
    """Networks that the host has on two of its interfaces: it would find only one of them."""
    known: list[tuple[IPv4Network, str]] = []
    for vm in vms.values():
        for interface in vm.network.interfaces if vm.network else ():
            if not interface.host_address:
                continue
            network = IPv4Interface(interface.host_address).network
            for other, whose in known:
                if network.overlaps(other):
                    key: Key = ("network", "interfaces", interface.name, "tap", "hostAddress")
                    message = f"the host has {other} on {whose} already: expected an address of another network"
                    yield Problem(vm.file, key, message)
                    break
            known.append((network, f'interface {interface.name} of VM "{vm.name}" ({vm.file})'))
    for link in found:
        if link.netvm != HOST_NETVM:
            continue
        client = vms[link.client]
        subnet = IPv4Network(f"{link.client_address}/31")
        for other, whose in known:
            if subnet.overlaps(other):
                message = f"the addresses {subnet} of the link are in {other}, which the host has on {whose}: "
                if _pinned(client):
                    yield Problem(client.file, SUBNET, message + "expected others")
                else:
                    yield Problem(client.file, NETVM, message + "pin others with network.netvmSubnet")
                break


def _too_many(vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Problem]:
    """VMs with more interfaces than they have places for; the clients that come last have the problem."""
    counts: dict[str, int] = {}
    for link in found:
        netvm = vms.get(link.netvm)
        if netvm is None or netvm.network is None:
            continue
        own = len(netvm.network.interfaces) + bool(netvm.network.netvm)
        count = counts[link.netvm] = counts.get(link.netvm, own) + 1
        if count > links.NICS_MAX:
            message = (
                f'"{link.netvm}" ({netvm.file}) has {links.NICS_MAX} interfaces already, '
                f"the most that a VM can have: expected another netvm"
            )
            yield Problem(vms[link.client].file, NETVM, message)
    for vm in vms.values():
        if vm.network and vm.network.netvm and len(vm.network.interfaces) == links.NICS_MAX:
            message = (
                f"has {links.NICS_MAX} interfaces beside that to its netvm, one more than a VM can have: remove one"
            )
            yield Problem(vm.file, ("network", "interfaces", vm.network.interfaces[-1].name), message, of_key=True)


def _one_name(vms: dict[str, Vm], found: Sequence[Link]) -> Iterator[Problem]:
    """Clients whose interface in the netvm would have the name of another one there."""
    owners: dict[tuple[str, str], Link] = {}
    for link in found:
        netvm = vms.get(link.netvm)
        if netvm is None or netvm.network is None:
            continue
        client = vms[link.client]
        if any(interface.name == link.netvm_interface for interface in netvm.network.interfaces):
            message = (
                f'"{netvm.name}" ({netvm.file}) has an interface {link.netvm_interface} of its own, and that to this '
                f"VM would have the same name: rename one of the two"
            )
            yield Problem(client.file, NETVM, message)
        owner = owners.setdefault((link.netvm, link.netvm_interface), link)
        if owner is not link:
            message = (
                f'the interface to VM "{owner.client}" has the same name in "{netvm.name}": rename one of the two'
            )
            yield Problem(client.file, NETVM, message)
