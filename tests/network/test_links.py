"""What is derived from names: the same whoever else there is, and nothing twice unless it is reported."""

import ipaddress
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from test_resolve import HOST, a_vm

from vmsilo.names import HOST_NETVM, is_vm_name
from vmsilo_generator.model import Vm
from vmsilo_generator.network import links, plans
from vmsilo_generator.network.facts import Firewall, Interface, Network
from vmsilo_generator.syntax import INTERFACE_NAME_MAX

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,23}", fullmatch=True).filter(is_vm_name)
OPEN = Firewall(rules=(), allow=True, enforce_dns=False)


def network(netvm: str, *, ipv6: bool = True, interfaces: tuple[Interface, ...] = ()) -> Network:
    return Network(
        netvm=netvm, is_netvm=True, subnet="", ipv6=ipv6, nameservers=(), interfaces=interfaces, firewall=OPEN
    )


def interface(name: str) -> Interface:
    return Interface(
        name=name, mac="", tap="", host_address="", bridge="", dhcp=False,
        addresses=(), routes=(), addresses6=(), routes6=(), anti_spoofing=True,
    )  # fmt: skip


@st.composite
def households(draw: st.DrawFn) -> list[Vm]:
    """VMs each of which has the host, one before it, or nobody for its netvm."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    vms: list[Vm] = []
    for name in names:
        netvm = draw(st.sampled_from(["", HOST_NETVM, *[vm.name for vm in vms]]))
        interfaces = draw(st.lists(st.sampled_from(["lan", "wan", "dmz"]), max_size=3, unique=True))
        chosen = network(netvm, ipv6=draw(st.booleans()), interfaces=tuple(map(interface, interfaces)))
        vms.append(a_vm(name, network=chosen))
    return vms


@given(households(), NAMES)
def test_one_more_changes_nobody(vms: list[Vm], other: str) -> None:
    """A netvm gets an interface more at its end; all that was there stays as it was, address and name."""
    before = plans.decide(vms, HOST)
    if other in before:
        return
    after = plans.decide([*vms, a_vm(other, network=network(vms[0].name))], HOST)
    for name, decided in before.items():
        assert set(decided.network.nics) <= set(after[name].network.nics)
        assert [nic for nic in after[name].network.nics if nic.peer != other] == list(decided.network.nics)
        if name != vms[0].name:
            assert after[name] == decided


@given(households(), st.randoms())
def test_order_does_not_matter(vms: list[Vm], chance: random.Random) -> None:
    mixed = list(vms)
    chance.shuffle(mixed)
    for name, decided in plans.decide(vms, HOST).items():
        assert sorted(plans.decide(mixed, HOST)[name].network.nics) == sorted(decided.network.nics)


@given(households())
def test_names_fit_and_addresses_pair(vms: Sequence[Vm]) -> None:
    for link in links.links(vms, HOST):
        for name in (link.client_tap, link.netvm_interface, link.netvm_tap, link.bridge):
            assert len(name.encode()) <= INTERFACE_NAME_MAX
        client, netvm = (ipaddress.IPv4Address(a) for a in (link.client_address, link.netvm_address))
        assert int(client) % 2 == 0
        assert int(netvm) == int(client) + 1
        assert client in ipaddress.IPv4Network(HOST.netvm_range)
        if link.client_address6:
            pair = [ipaddress.IPv6Address(a) for a in (link.client_address6, link.netvm_address6)]
            assert int(pair[1]) == int(pair[0]) + 1
            assert pair[0] in ipaddress.IPv6Network(HOST.netvm_range6)


@given(households())
def test_ipv6_ends_where_one_on_the_way_has_none(vms: Sequence[Vm]) -> None:
    by_name = {vm.name: vm.network for vm in vms if vm.network is not None}
    for link in links.links(vms, HOST):
        way = [link.client]
        while way[-1] != HOST_NETVM and by_name[way[-1]].netvm:
            way.append(by_name[way[-1]].netvm)
        has = all(by_name[name].ipv6 for name in way if name != HOST_NETVM)
        assert bool(link.client_address6) == has


@given(NAMES, NAMES)
def test_cut_names_stay_apart(one: str, other: str) -> None:
    """Not for certain, which is why clashes are reported; but the hash is of the whole name."""
    if one != other:
        assert links.interface_to(one) != links.interface_to(other) or one[:9] == other[:9]


def test_a_mac_is_of_one_card_that_nobody_sells() -> None:
    octets = links.derived_mac("banking/upstream").split(":")
    assert len(octets) == 6
    assert int(octets[0], 16) & 0b11 == 0b10


def test_a_client_may_be_called_like_what_is_there_already() -> None:
    assert [links.interface_to(name) for name in ("lo", "all", "default", "upstream")] == [
        f"{name}_{links.interface_to(name).partition('_')[2]}" for name in ("lo", "all", "default", "upstream")
    ]
    assert links.interface_to("banking") == "banking"
