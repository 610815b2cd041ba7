"""guest-network: what a running guest is told of its network, in a directory that stands for the guest.

Rules and settings of the kernel are those of a network namespace, and really made; systemd's own commands are only
written down: there is no systemd of a guest here, and the lab has real ones.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules import facts
from rules.spaces import Space

from guest_network.change import NFT, SYSCTL, Guest, run
from guest_network.wanted import KINDS, read
from vmsilo import guest_network
from vmsilo.failure import Failure
from vmsilo_generator.rules import gateway

LINK = "network.link.50-vmsilo-red"
NETWORK = "network.network.50-vmsilo-red"
ONE = gateway.in_guest([facts.link("red", "netvm", 1)])
TWO = gateway.in_guest([facts.link("red", "netvm", 1), facts.link("blue", "netvm", 2)])

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")


def wanted(**credentials: str) -> bytes:
    """With the names of credentials as Python can spell them."""
    return json.dumps(
        {key.replace("__", "-").replace("_", "."): value for key, value in credentials.items()}
    ).encode()


class Machine:
    """A guest: its files, its network namespace, and the commands that systemd would have got."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.space = Space("guest")
        self.said: list[str] = []
        self.given = root / "run/credentials/@system"
        self.given.mkdir(parents=True)
        self.guest = Guest(root, self.run)

    def run(self, command: Sequence[str]) -> str:
        if command[0] == NFT:
            with self.space.entered():
                return run(command)
        if command[0] == SYSCTL:
            self.space.set(*self.settings(Path(command[-1])))
            return ""
        self.said.append(" ".join(command))
        return ""

    @staticmethod
    def settings(path: Path) -> list[str]:
        lines = [line.replace(" ", "").partition("=") for line in path.read_text().splitlines()]
        return [f"{key.removeprefix('net.').replace('.', '/')}={value}" for key, _, value in lines]

    def change(self, **credentials: str) -> list[str]:
        """What systemd is told when this is wanted."""
        self.said.clear()
        self.guest.change(read(wanted(**credentials)))
        return list(self.said)

    def file(self, name: str) -> str | None:
        path = self.root / "run/systemd/network" / name
        return path.read_text() if path.exists() else None

    def rules(self) -> str:
        return self.space.run("nft", "list", "ruleset")

    def forwards(self) -> str:
        with self.space.entered():
            return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.space.close()


FORWARD = guest_network.sysctl((4,))


@needs_root
def test_a_first_client(machine: Machine) -> None:
    said = machine.change(
        network_link_50__vmsilo__red="[Link]\n",
        network_network_50__vmsilo__red="[Network]\n",
        vmsilo_rules=ONE,
        vmsilo_sysctl=FORWARD,
        vmsilo_unbound="server:\n",
    )
    assert "chain red-from" in machine.rules()
    assert machine.forwards() == "1"
    assert (machine.file("50-vmsilo-red.link"), machine.file("50-vmsilo-red.network")) == ("[Link]\n", "[Network]\n")
    assert "networkctl reload" in said
    assert said.index("udevadm control --reload") < said.index("networkctl reload")
    assert said[-2:] == ["systemctl stop vmsilo-unbound.service", "systemctl start vmsilo-unbound.service"]


@needs_root
def test_the_second_time_nothing_is_done(machine: Machine) -> None:
    everything = {
        "network_network_50__vmsilo__red": "[Network]\n",
        "network_dns": "127.0.0.1",
        "vmsilo_rules": ONE,
        "vmsilo_sysctl": FORWARD,
    }
    machine.change(**everything)
    assert machine.change(**everything) == []


@needs_root
def test_what_it_was_started_with_is_not_done_again(machine: Machine) -> None:
    for name, value in ((guest_network.RULES, ONE), (guest_network.SYSCTL, FORWARD), (NETWORK, "[Network]\n")):
        (machine.given / name).write_text(value)
    networkd = machine.root / "run/systemd/network"
    networkd.mkdir(parents=True)
    (networkd / "50-vmsilo-red.network").write_text("[Network]\n")
    assert (
        machine.change(network_network_50__vmsilo__red="[Network]\n", vmsilo_rules=ONE, vmsilo_sysctl=FORWARD) == []
    )
    assert machine.rules() == ""


@needs_root
def test_a_client_comes_and_one_goes(machine: Machine) -> None:
    """Chains of the one that is gone do not stay."""
    machine.change(vmsilo_rules=TWO, vmsilo_sysctl=FORWARD, network_network_50__vmsilo__blue="[Network]\n")
    assert "chain blue-from" in machine.rules()
    machine.change(vmsilo_rules=ONE, vmsilo_sysctl=FORWARD)
    assert "blue" not in machine.rules()
    assert machine.file("50-vmsilo-blue.network") is None


@needs_root
def test_the_addresses_of_names_stay(machine: Machine) -> None:
    """Rules are put in place of others; what name servers have said is as true as before."""
    firewall = facts.OPEN._replace(rules=(facts.allow("example.org"),), allow=False)
    link = facts.link("red", "netvm", 1, firewall)
    machine.change(vmsilo_rules=gateway.in_guest([link]), vmsilo_sysctl=FORWARD)
    machine.space.nft("add element inet vmsilo red.example.org.ip4 { 192.0.2.1 timeout 1h }")
    machine.change(vmsilo_rules=gateway.in_guest([link, facts.link("blue", "netvm", 2)]), vmsilo_sysctl=FORWARD)
    assert "192.0.2.1" in machine.rules()


@needs_root
def test_rules_that_nft_does_not_take_change_nothing(machine: Machine) -> None:
    machine.change(vmsilo_rules=ONE, vmsilo_sysctl=FORWARD)
    before = machine.rules()
    with pytest.raises(Failure, match="nft failed"):
        machine.change(
            vmsilo_rules="no rules\n", vmsilo_sysctl=FORWARD, network_network_50__vmsilo__red="[Network]\n"
        )
    assert machine.rules() == before
    assert machine.file("50-vmsilo-red.network") is None
    assert machine.said == []


@needs_root
def test_without_clients_nothing_passes(machine: Machine) -> None:
    machine.change(vmsilo_rules=ONE, vmsilo_sysctl=FORWARD)
    machine.change(vmsilo_unbound="server:\n")
    assert machine.forwards() == "0"
    assert machine.change(vmsilo_unbound="server:\n") == []


@needs_root
def test_a_name_server_that_is_not_wanted_any_more_stops(machine: Machine) -> None:
    machine.change(vmsilo_unbound="server:\n")
    assert machine.change() == ["systemctl stop vmsilo-unbound.service"]


@needs_root
def test_others_files_are_not_ours(machine: Machine) -> None:
    networkd = machine.root / "run/systemd/network"
    networkd.mkdir(parents=True)
    (networkd / "10-mine.network").write_text("mine")
    machine.change(network_network_50__vmsilo__red="[Network]\n")
    machine.change()
    assert os.listdir(networkd) == ["10-mine.network"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"[]", "JSON object"),
        (b'{"network.dns": 1}', "expected text"),
        (b'{"network.dns": "\\u0000"}', "expected text"),
        (b'{"vmsilo.rules": ""}', "both of"),
        (b'{"network.link.../../etc/passwd": ""}', "no credential of a network"),
        (b'{"network.link..hidden": ""}', "no credential of a network"),
        (b'{"network.link.": ""}', "no credential of a network"),
        (b'{"passwd.hashed-password.root": ""}', "no credential of a network"),
        (b'{"network.netdev.x": ""}', "no credential of a network"),
        (b"[" * 100_000, "nested|Expecting"),
    ],
)
def test_what_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


@given(st.dictionaries(st.text() | st.sampled_from([f"{kind}x" for kind in KINDS]), st.text()))
def test_no_file_is_elsewhere(credentials: dict[str, str]) -> None:
    try:
        found = read(json.dumps(credentials).encode())
    except ValueError:
        return
    assert all("/" not in name and name[0] != "." for name in found.files)
