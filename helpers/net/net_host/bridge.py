"""Bridges, where the TAPs of two VMs meet, or that the user named.

Several processes may make, join and remove the same bridge at once, with nothing between them but the kernel, in
which each step is done or not. The name is where they meet:

- A bridge is made under a name for a moment. It gets its own when it is ready, which only one of several can get; the
  others take that one.
- Who has made a TAP its port looks whether the bridge still has the name, and begins anew if not.
- Who removes one takes its name away first, and looks then whether it has ports. If so, it gets its name back; or,
  if there is another of that name by then, its ports go there.
"""

import errno
import time

from net_host import mark, settings
from net_host.rtnetlink import BRIDGE, Kernel, Link
from net_host.tap import taken
from vmsilo import names
from vmsilo.failure import EX_OSERR, EX_TEMPFAIL, Failure
from vmsilo.nft import INTERFACE_GROUP

PATIENCE = 10.0  # seconds; each turn means that another process has done something


def join(kernel: Kernel, tap: Link, name: str, alias: str) -> Link:
    """Make the TAP a port of the bridge *name*, which is made if it isn't there.

    *alias* is that of the bridge if we make it. Raises Failure, OSError.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        bridge = find_or_make(kernel, name, alias)
        if bridge is None:
            continue
        if tap.port_of != bridge.ifindex:
            kernel.set_up(tap, up=False)  # until the rules know where it is
        try:
            kernel.make_port(tap, bridge)
        except OSError:
            if _is(kernel.link(name), bridge):
                raise
            continue
        port = kernel.link(tap.name)
        if _is(kernel.link(name), bridge) and port is not None and port.port_of == bridge.ifindex:
            return bridge
    raise Failure(f"the bridge {name} comes and goes", code=EX_TEMPFAIL)


def find_or_make(kernel: Kernel, name: str, alias: str) -> Link | None:
    """The bridge of that name; None if others were in the way, and it is worth another try."""
    there = kernel.link(name)
    if there is not None:
        if there.name != name or there.kind != BRIDGE or not may_join(there, alias):
            raise taken(name, there)
        return there
    moment = mark.name_for_a_moment()
    kernel.make_bridge(moment, mark.mac(name), INTERFACE_GROUP)
    made = kernel.link(moment)
    if made is None:
        return None
    try:
        kernel.set_alias(made, alias)
        kernel.rename(made, name)
    except OSError as error:
        kernel.remove(made)
        if error.errno in (errno.EEXIST, errno.ENODEV):
            return None
        raise
    return made._replace(name=name, alias=alias)


def may_join(bridge: Link, alias: str) -> bool:
    """Whether a bridge that is there is the one meant: a link's only our own, a user's whoever made it."""
    if alias == names.BRIDGE_ALIAS:
        return bridge.alias == alias or not bridge.alias.startswith(names.ALIAS_PREFIX)
    return bridge.alias == alias


def close(kernel: Kernel, bridge: Link) -> None:
    """Settings of a bridge of ours, which is up from here on. Raises OSError."""
    settings.close(bridge.name)
    kernel.set_up(bridge, up=True)


def strangers(kernel: Kernel, bridge: Link, vms: tuple[str, str]) -> list[str]:
    """Ports of a link's bridge that are of neither VM."""
    known = tuple(names.tap_alias(vm, "") for vm in vms)
    return [port.name for port in kernel.ports(bridge) if not port.alias.startswith(known)]


def sweep(kernel: Kernel) -> None:
    """Remove bridges that a process has left half done, where they have no ports. Raises OSError.

    Who is about to make or remove one of these, does without it. They go by name: the moment may be over.
    """
    for bridge in kernel.links(BRIDGE, name=mark.PREFIX):
        if mark.is_for_a_moment(bridge.name) and not kernel.ports(bridge):
            kernel.remove_if_named(bridge.name)


def remove_of(kernel: Kernel, vm: str) -> None:
    """Remove bridges of the VM's links, and those that users named, where they have no ports. Raises OSError."""
    for bridge in kernel.links(BRIDGE, alias=names.ALIAS_PREFIX):
        if bridge.alias == names.BRIDGE_ALIAS or vm in bridge.alias.split(" ")[1:]:
            remove(kernel, bridge)


def adopt(kernel: Kernel, bridge: Link) -> None:
    """Take in the ports of a link's bridge that somebody was about to remove, and has left so. Raises OSError.

    One that is being made has none. *bridge* is there for good: it has a port of ours.
    """
    for other in kernel.links(BRIDGE, name=mark.PREFIX):
        if other.alias == bridge.alias and mark.is_for_a_moment(other.name):
            ports = kernel.ports(other)
            if _is(kernel.link(other.name), other):  # and so it was when it had them
                _move(kernel, ports, bridge)


def remove(kernel: Kernel, bridge: Link) -> None:
    """Remove a bridge of ours unless it has ports. Raises OSError."""
    moment = mark.name_for_a_moment()
    try:
        if kernel.ports(bridge):
            return
        _rename(kernel, bridge, moment)
        ports = kernel.ports(bridge)
        while ports and not _give_back(kernel, bridge, ports):
            pass
    except OSError as error:
        if error.errno != errno.ENODEV:  # somebody else was faster
            raise
    # By the name that it has from us: whoever has given it another one since, does the same.
    kernel.remove_if_named(moment)


def _give_back(kernel: Kernel, bridge: Link, ports: list[Link]) -> bool:
    """Let a bridge that has got *ports* meanwhile have its name again, or those go to the one that has it."""
    try:
        kernel.rename(bridge, bridge.name)
        kernel.set_up(bridge, up=bridge.up)
        return True
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    other = kernel.link(bridge.name)
    if other is None:
        return False
    _move(kernel, ports, other)
    return not kernel.ports(bridge)


def _move(kernel: Kernel, ports: list[Link], bridge: Link) -> None:
    """Make them ports of that bridge, unless one of the two has gone."""
    for port in ports:
        try:
            kernel.make_port(port, bridge)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise


def _rename(kernel: Kernel, bridge: Link, name: str) -> None:
    try:
        kernel.rename(bridge, name)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        kernel.set_up(bridge, up=False)  # an older kernel renames none that is up
        kernel.rename(bridge, name)


def _is(link: Link | None, other: Link) -> bool:
    return link is not None and link.ifindex == other.ifindex and link.name == other.name


def refuse_strangers(kernel: Kernel, bridge: Link, vms: tuple[str, str]) -> None:
    """A link is the two VMs' alone. Raises Failure."""
    if others := strangers(kernel, bridge, vms):
        who = ", ".join(others)
        raise Failure(f"{who} is a port of {bridge.name}, which is for {' and '.join(vms)} alone", code=EX_OSERR)
