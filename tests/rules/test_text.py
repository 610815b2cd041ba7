"""nft(8) takes whatever script is rendered, and takes it twice."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.facts import link, tap
from rules.spaces import Space
from vmsilo.names import HOST_NETVM
from vmsilo_generator.network.facts import Firewall, FirewallRule, Ports
from vmsilo_generator.rules.gateway import in_guest, on_host
from vmsilo_generator.rules.guard import guard

ports = st.one_of(
    st.builds(lambda protocol: Ports(protocol, 0, 0), st.sampled_from(["tcp", "udp", "icmp"])),
    st.builds(
        lambda protocol, first, more: Ports(protocol, first, min(first + more, 65535)),
        st.sampled_from(["tcp", "udp"]),
        st.integers(1, 65535),
        st.one_of(st.just(0), st.integers(0, 3000)),
    ),
)
networks = st.builds(
    lambda number, length: (
        f"{'.'.join(str(octet) for octet in (number >> 32 - length << 32 - length).to_bytes(4))}/{length}"
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 31),
)
targets = st.one_of(
    st.just("*"),
    networks,
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: f"{str(address).rpartition('::')[0] or '2001:db8'}::/{64}"),
    st.sampled_from(["example.org", "a-b.example", "*.example.net", "x" * 63 + ".example." + "y" * 63]),
)
rules = st.builds(FirewallRule, st.booleans(), targets, st.lists(ports, max_size=4).map(tuple))
firewalls = st.builds(Firewall, st.lists(rules, max_size=20).map(tuple), st.booleans(), st.booleans())

each = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def space(new_space: Callable[[str], Space]) -> Space:
    host = new_space("host")
    host.ip(*[f"link add {name} type veth" for name in ("work_up", "net.work", "own-0", "own-1")])
    return host


@each
@given(firewall=firewalls, ipv6=st.booleans())
def test_a_client_of_the_host(space: Space, firewall: Firewall, ipv6: bool) -> None:  # noqa: FBT001
    script = on_host(link("work", HOST_NETVM, 1, firewall, ipv6=ipv6))
    space.nft("flush ruleset")
    space.nft(script)
    space.nft(script)


@each
@given(several=st.lists(st.tuples(firewalls, st.booleans()), min_size=1, max_size=3))
def test_clients_of_a_guest(space: Space, several: list[tuple[Firewall, bool]]) -> None:
    links = [link(f"work{number}", "net", number, one, ipv6=ipv6) for number, (one, ipv6) in enumerate(several)]
    space.nft("flush ruleset")
    space.nft(in_guest(links))
    space.nft(in_guest(links))


@each
@given(
    ipv6=st.booleans(),
    addresses=st.lists(st.ip_addresses().map(str), max_size=3),
    switches=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_guards(space: Space, ipv6: bool, addresses: list[str], switches: tuple[bool, bool, bool]) -> None:  # noqa: FBT001
    any_address, routes, guarded = switches
    own = tap("own-0", *addresses, any_address=any_address, routes=routes, guarded=guarded)
    without = own._replace(tap="own-1", ipv6=False, addresses=())
    for script in (
        guard("work", (link("work", HOST_NETVM, ipv6=ipv6),), (own, without)),
        guard("net", (link("work", "net", ipv6=ipv6),), ()),
    ):
        space.nft(script)
        space.nft(script)


def test_without_taps_there_is_no_table() -> None:
    assert guard("work", (), ()) == ""
