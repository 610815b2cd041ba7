"""What makes the host's end of a VM's network, or mends it."""

import socket

from net_host import bridge, rules, settings, tap
from net_host.rtnetlink import BRIDGE, Address, Kernel, Link
from net_host.tap import Held
from vmsilo import names
from vmsilo.failure import complain
from vmsilo.plan import Nic, Plan


def up(kernel: Kernel, plan: Plan) -> None:
    """Make all that *plan* has, and nothing else of this VM. What is right already stays as it is.

    An interface comes up when the rules about it are in force, and stays beyond this process when all is done.
    Raises Failure, OSError.
    """
    there = tap.of_vm(kernel, plan.vm)
    taps: list[Held] = []
    try:
        for nic in plan.network.nics:
            taps.append(tap.hold(kernel, plan.vm, nic, there))
        kept = {held.link.ifindex for held in taps}
        kernel.remove_all([link for link in there if link.ifindex not in kept])
        complete(kernel, plan, taps)
        for held in taps:
            tap.keep(held)
        bridge.sweep(kernel)
    finally:
        for held in taps:
            tap.release(held)


def complete(kernel: Kernel, plan: Plan, taps: list[Held]) -> None:
    """All but the TAPs themselves."""
    bridges = [plug(kernel, plan.vm, held) for held in taps]
    if plan.network.rules:
        rules.apply(plan.vm, plan.network.rules, anew=all(held.is_new for held in taps))
    else:
        rules.remove(plan.vm)
    settings.forward(frozenset(plan.network.forward))  # first, since it changes each interface's own setting
    for held, port_of in zip(taps, bridges, strict=True):
        if held.nic.addresses:
            open_to_host(kernel, held)
        elif port_of is not None or held.is_new:
            close(kernel, held)  # otherwise it is the user's, who may have made something of it since
        if port_of is not None and port_of.alias.startswith(names.ALIAS_PREFIX):
            bridge.close(kernel, port_of)
        kernel.set_up(held.link, up=True)


def plug(kernel: Kernel, vm: str, held: Held) -> Link | None:
    """Make the TAP a port of its bridge, which is returned; or of none."""
    nic = held.nic
    if not nic.bridge:
        if held.link.port_of and (nic.addresses or held.link.port_of in ours(kernel)):
            kernel.set_up(held.link, up=False)
            kernel.make_no_port(held.link)
        return None
    link = is_link(nic)
    found = bridge.join(kernel, held.link, nic.bridge, link_alias(vm, nic) if link else names.BRIDGE_ALIAS)
    if link:
        bridge.adopt(kernel, found)
        bridge.refuse_strangers(kernel, found, (vm, nic.peer))
    return found


def ours(kernel: Kernel) -> set[int]:
    """The bridges that we made, by index."""
    return {link.ifindex for link in kernel.links(BRIDGE, alias=names.ALIAS_PREFIX)}


def is_link(nic: Nic) -> bool:
    """Whether another VM is at the other end."""
    return nic.peer not in ("", names.HOST_STEM)


def link_alias(vm: str, nic: Nic) -> str:
    client = nic.name == names.UPSTREAM
    return names.link_alias(nic.peer, vm) if client else names.link_alias(vm, nic.peer)


def close(kernel: Kernel, held: Held) -> None:
    """The host itself has no part in what the TAP carries."""
    settings.close(held.nic.tap)
    for address in kernel.addresses(held.link):
        kernel.remove_address(held.link, address)


def open_to_host(kernel: Kernel, held: Held) -> None:
    """The host is at the other end."""
    wanted = {address for address in map(parsed, held.nic.addresses) if address.version == 4 or settings.has_ipv6()}
    if len(wanted) < len(held.nic.addresses):
        complain("net", f"{held.nic.tap}: this kernel has no IPv6")
    versions = frozenset(address.version for address in wanted)
    settings.open_to_host(held.nic.tap, versions, forwards=held.nic.peer == names.HOST_STEM)
    there = {address for address in kernel.addresses(held.link) if not address.is_link_local}
    for address in there - wanted:
        kernel.remove_address(held.link, address)
    for address in sorted(wanted - there):
        kernel.add_address(held.link, address)


def parsed(text: str) -> Address:
    """The address as the kernel spells it."""
    address, _, prefix = text.partition("/")
    family = Address(address, 0).family
    return Address(socket.inet_ntop(family, socket.inet_pton(family, address)), int(prefix))
