"""From networks as they are configured to what is decided about each VM."""

from collections.abc import Sequence
from typing import NamedTuple

from vmsilo import nft, plan
from vmsilo.names import HOST_NETVM, UPSTREAM
from vmsilo_generator.model import Host, Vm
from vmsilo_generator.network import guest, links
from vmsilo_generator.network.facts import Interface, Link, Network, Tap
from vmsilo_generator.rules import gateway
from vmsilo_generator.rules.frames import link_local
from vmsilo_generator.rules.guard import guard


class Decided(NamedTuple):
    """What becomes of a VM's network."""

    network: plan.Network
    credentials: tuple[plan.Credential, ...]


def decide(vms: Sequence[Vm], host: Host) -> dict[str, Decided]:
    """Of each VM that has a network, by its name."""
    up: dict[str, Link] = {}
    down: dict[str, list[Link]] = {}
    for link in links.links(vms, host):
        up[link.client] = link
        down.setdefault(link.netvm, []).append(link)
    ours = tuple([network for network in (host.netvm_range, host.netvm_range6) if network])
    return {
        vm.name: _decide(vm.name, vm.network, up.get(vm.name), down.get(vm.name, []), ours)
        for vm in vms
        if vm.network is not None
    }


def _decide(vm: str, network: Network, up: Link | None, down: Sequence[Link], ours: tuple[str, ...]) -> Decided:
    nics = [_nic(vm, index, interface) for index, interface in enumerate(network.interfaces)]
    if up is not None:
        nics.append(_nic_up(up))
    nics += map(_nic_down, down)
    through_host = up if up is not None and up.netvm == HOST_NETVM else None
    own_taps = [tap(vm, index, interface, network) for index, interface in enumerate(network.interfaces)]
    rules = [("netdev", guard(vm, (*([up] if up is not None else []), *down), tuple(own_taps)))]
    if through_host is not None:
        rules.append(("inet", gateway.on_host(through_host)))
    decided = plan.Network(
        nics=tuple(nics),
        rules="".join([text for _family, text in rules]),
        tables=tuple([f"{family} {nft.host_table(vm)}" for family, text in rules if text]),
        forward=((4, 6) if through_host.client_address6 else (4,)) if through_host is not None else (),
        netvm=network.is_netvm,
    )
    return Decided(decided, guest.credentials(vm, network, up, down, ours))


def _nic(vm: str, index: int, interface: Interface) -> plan.Nic:
    return plan.Nic(
        name=interface.name,
        mac=links.mac_of(vm, interface),
        tap=links.tap_of(vm, index, interface),
        bridge=interface.bridge,
        addresses=(interface.host_address,) if interface.host_address else (),
        peer="",
    )


def _nic_up(link: Link) -> plan.Nic:
    host = [f"{link.netvm_address}/31"] + ([f"{link.netvm_address6}/127"] if link.netvm_address6 else [])
    return plan.Nic(
        name=UPSTREAM,
        mac=link.client_mac,
        tap=link.client_tap,
        bridge=link.bridge,
        addresses=tuple(host) if link.netvm == HOST_NETVM else (),
        peer=link.netvm,
    )


def _nic_down(link: Link) -> plan.Nic:
    return plan.Nic(
        name=link.netvm_interface,
        mac=link.netvm_mac,
        tap=link.netvm_tap,
        bridge=link.bridge,
        addresses=(),
        peer=link.client,
    )


def tap(vm: str, index: int, interface: Interface, network: Network) -> Tap:
    """What may pass through the TAP of an interface that the user describes."""
    mac = links.mac_of(vm, interface)
    learns = interface.dhcp and network.ipv6
    ipv6 = learns or bool(interface.addresses6)
    own = [address.partition("/")[0] for address in (*interface.addresses, *interface.addresses6)]
    return Tap(
        tap=links.tap_of(vm, index, interface),
        mac=mac,
        addresses=tuple(own + ([link_local(mac)] if ipv6 else [])),
        any_address=interface.dhcp or not own,
        routes=False,
        ipv6=ipv6 or not own,
        guarded=interface.anti_spoofing,
    )
