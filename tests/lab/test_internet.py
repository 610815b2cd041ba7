"""The internet that other tests rely on is what they take it for, seen from the lab's host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import boot, config
from lab.host import CONFIG, Host
from lab.internet import world, zones
from lab.internet.world import Internet

PROBE = (Path(__file__).parent / "internet/probe.py").read_bytes()


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    host = boot.boot({}, {f"{CONFIG}/host.toml": config.HOST})
    yield Internet(host)
    host.close()


def probe(lab: Host, *arguments: str) -> str:
    return lab.run("python3", "-IS", "-", *arguments, input=PROBE).out.strip()


@pytest.mark.parametrize("version", [0, 1])
def test_servers_tell_who_asks(internet: Internet, version: int) -> None:
    ours = world.HOST[version]
    for address in (world.WEB[version], world.OTHER_WEB[version], world.FAR[version]):
        assert probe(internet.lab, "get", address) == ours
        assert probe(internet.lab, "echo", address) == ours
        assert probe(internet.lab, "ping", address) == "answered"
    assert probe(internet.lab, "get", world.WEB[version], "/zeros/100000") == "100000 bytes"


@pytest.mark.parametrize("version", [0, 1])
def test_far_takes_smaller_packets(internet: Internet, version: int) -> None:
    """Who sends large ones is told, and no sooner: the server itself says that it takes them."""
    found, made = probe(internet.lab, "put", world.FAR[version], "300000").split()
    assert found == made
    route = internet.lab.run("ip", "route", "get", world.FAR[version]).out
    assert f"mtu {world.FAR_MTU}" in route


def test_names_are_found_from_the_root_down(internet: Internet) -> None:
    lab = internet.lab
    for address in (*zones.ROOT_SERVERS["a"], *zones.ROOT_SERVERS["m"], *zones.TLD_SERVER):
        assert probe(lab, "dns", address, "www.shop.example.") == "NODATA"  # a referral
    for address in zones.SHOP_SERVER:
        assert probe(lab, "dns", address, "www.shop.example.") == world.WEB[0]
        assert probe(lab, "dns", address, "www.shop.example.", "AAAA") == world.WEB[1]
        assert probe(lab, "dns", address, "www.bogus.example.") == world.WEB[0]
        assert probe(lab, "dns", address, "none.shop.example.") == "NXDOMAIN"
    assert internet.anchor.startswith(". ")


def test_a_record_can_be_changed(internet: Internet) -> None:
    server = zones.SHOP_SERVER[0]
    assert probe(internet.lab, "dns", server, "moving.shop.example.") == world.WEB[0]
    internet.move("moving", *world.OTHER_WEB)
    assert probe(internet.lab, "dns", server, "moving.shop.example.") == world.OTHER_WEB[0]
    internet.move("moving", *world.WEB)
