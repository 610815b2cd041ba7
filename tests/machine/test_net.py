"""Networks on a computer with udev and a program that manages every interface that it may."""

import json
from collections.abc import Iterator

import pytest
from lab.networks import interfaces, plan_of, planned
from net.world import bridge_of, downstream, guarding, own, to_host, upstream

from machine.computer import Machine

# One that would have all of ours.
GREEDY = """\
[Match]
Kind=tun bridge

[Network]
ConfigureWithoutCarrier=yes
Address=192.0.2.77/24
LLDP=yes
IPv6AcceptRA=yes
"""

OURS = ("mnc_up", "mnn.mnc", "mnn_up", "mnc-0", "mnlan", "br_mnn.mnc")


@pytest.fixture(scope="module")
def network(machine: Machine) -> Iterator[Machine]:
    machine.write("/run/systemd/network/50-greedy.network", GREEDY)
    machine.systemctl("start", "systemd-networkd.service")
    machine.run("ip", "link", "add", "foreign", "type", "bridge")
    client = plan_of(
        "mnc",
        upstream("mnc", "mnn"),
        own("lan", "mnc-0", "mnlan"),
        rules=guarding("mnc", "mnc_up", "mnc-0", bridge_of("mnn", "mnc")),
    )
    netvm = plan_of("mnn", downstream("mnn", "mnc"), to_host("mnn", "10.200.5.3/31", "fd00::1/127"), forward=(4, 6))
    try:
        with planned(machine, [client, netvm]) as units:
            machine.systemctl("start", *units)
            machine.run("udevadm", "settle", "--timeout=60")
            yield machine
    finally:
        machine.run("ip", "link", "delete", "foreign", check=False)
        machine.systemctl("stop", "systemd-networkd.service", "systemd-networkd.socket", check=False)
        machine.run("rm", "-f", "/run/systemd/network/50-greedy.network")


def properties(machine: Machine, name: str) -> set[str]:
    lines = machine.run("udevadm", "info", "--query=property", f"/sys/class/net/{name}").out.splitlines()
    return {line for line in lines if line.startswith(("NM_UNMANAGED", "ID_NET_MANAGED_BY", "ID_NET_LINK_FILE"))}


@pytest.mark.parametrize("name", OURS)
def test_udev_tells_others_whose_it_is(network: Machine, name: str) -> None:
    assert properties(network, name) == {
        "NM_UNMANAGED=1",
        "ID_NET_MANAGED_BY=vmsilo",
        "ID_NET_LINK_FILE=/usr/lib/systemd/network/05-vmsilo.link",
    }


def test_udev_says_nothing_of_others(network: Machine) -> None:
    assert properties(network, "foreign") == {"ID_NET_LINK_FILE=/usr/lib/systemd/network/99-default.link"}


def test_networkd_leaves_ours_alone(network: Machine) -> None:
    def state(name: str) -> str:
        status = json.loads(network.run("networkctl", "--json=short", "status", name).out)
        return str(status["AdministrativeState"])

    network.wait_for(lambda: state("foreign") in ("configured", "degraded", "configuring"), timeout=60)
    assert {name: state(name) for name in OURS} == dict.fromkeys(OURS, "unmanaged")


def test_addresses_are_those_that_were_given(network: Machine) -> None:
    network.wait_for(lambda: "192.0.2.77" in json.dumps(interfaces(network)["foreign"]))
    found = interfaces(network)
    addresses = {name: str(found[name]["address"]) for name in OURS}
    assert {name for name, address in addresses.items() if not address.startswith("02:")} == set(), addresses
    assert "192.0.2.77" not in json.dumps({name: found[name] for name in OURS})
    assert {found[name].get("altnames") for name in OURS} == {None}
