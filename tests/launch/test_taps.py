"""TAPs of the host: found, checked and opened, in a network namespace of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.hosts import ROOT, Host, minimal_plan
from launch.test_lend import Manager
from vm_launch import taps
from vmsilo.plan import Network, Nic, Plan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")

NIC = Nic("lan", "52:54:00:12:34:56", "demo-0", "", (), "")

# Opens the TAP as `lend` does, and says what became of it.
_OPEN = """
import os, sys
sys.path[:0] = sys.argv[1].split(":")
from vm_launch import taps
from vmsilo.failure import Failure
from vmsilo.plan import Nic
try:
    tap = taps.open_tap(Nic("lan", "52:54:00:12:34:56", sys.argv[2], "", (), ""), "demo")
except Failure as failure:
    print(failure)
else:
    print("flags %x" % taps.flags(tap))
"""


class Place:
    """A network namespace, and a sysfs of it."""

    def __init__(self) -> None:
        shell = "mount -t sysfs sysfs /sys && echo ready && exec cat"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.holder.stdout
        assert self.holder.stdout.readline() == b"ready\n"

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--", *argv]

    def run(self, *argv: str) -> str:
        return subprocess.run(self.argv(*argv), check=True, capture_output=True, text=True, timeout=60).stdout

    def ip(self, line: str) -> None:
        self.run("ip", *line.split())

    def add_tap(self, name: str, alias: str) -> None:
        self.ip(f"tuntap add {name} mode tap user 0")
        self.run("ip", "link", "set", name, "alias", alias)

    def open(self, tap: str) -> str:
        modules = f"{ROOT}:{ROOT}/helpers/vm-launch"
        return self.run(sys.executable, "-c", _OPEN, modules, tap).strip()

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


def with_nics(*nics: Nic) -> Network:
    return Network(nics, "", (), ())


def test_a_tap_of_ours(place: Place) -> None:
    place.add_tap("demo-0", "vmsilo demo lan")
    # TAP, frames alone, with headers for offloads, persistent.
    assert place.open("demo-0") == "flags 5802"


@pytest.mark.parametrize(
    ("alias", "said"),
    [
        ("", "the interface demo-0 of the host is none of vmsilo's (remove it, or give lan another TAP)"),
        ("office", 'the interface demo-0 of the host is "office" (remove it, or give lan another TAP)'),
        (
            "vmsilo other lan",
            'the interface demo-0 of the host is "vmsilo other lan" (remove it, or give lan another TAP)',
        ),
    ],
)
def test_a_tap_of_somebody_else(place: Place, alias: str, said: str) -> None:
    place.add_tap("demo-0", alias)
    assert place.open("demo-0") == said


def test_no_tap(place: Place) -> None:
    """It is not made either."""
    said = "there is no TAP demo-0 for the interface lan (systemctl restart vmsilo-demo-net.service)"
    assert place.open("demo-0") == said
    assert "demo-0" not in place.run("ip", "link")


def test_something_else_of_that_name(place: Place) -> None:
    place.ip("link add demo-0 type veth peer name other")
    place.run("ip", "link", "set", "demo-0", "alias", "vmsilo demo lan")
    assert place.open("demo-0").startswith("the interface demo-0 is no TAP with a single queue (remove it: ")


def test_a_tap_in_use(place: Place) -> None:
    place.add_tap("demo-0", "vmsilo demo lan")
    holder = subprocess.Popen(
        place.argv("socat", "TUN,tun-device=/dev/net/tun,tun-name=demo-0,tun-type=tap,iff-no-pi", "PIPE")
    )
    try:
        for _ in range(100):
            if (said := place.open("demo-0")) != "flags 5802":
                break
        assert said == "the TAP demo-0 is in use (another program has it open)"
    finally:
        holder.kill()
        holder.wait()


def plan_with_nic(host: Host, **changes: object) -> Path:
    return host.plan(network=with_nics(NIC), **changes)


def lend(host: Host, place: Place, plan: Path, notify: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        place.argv(*host.command("lend", plan)),
        env=host.environment(NOTIFY_SOCKET=str(notify)),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_lend(host: Host, place: Place, tmp_path: Path) -> None:
    """What is stored works without any right, in any namespace."""
    place.add_tap("demo-0", "vmsilo demo lan")
    place.ip("link set demo-0 up")
    manager = Manager(tmp_path / "notify")
    try:
        result = lend(host, place, plan_with_nic(host), tmp_path / "notify")
        assert (result.returncode, result.stderr) == (0, "")
        assert list(manager.kept) == ["tap-1"]
        tap = manager.kept["tap-1"]
        assert taps.flags(tap) & 0x5802 == 0x5802
        os.write(tap, bytes(10) + b"\xff" * 6 + b"\x52\x54\0\x12\x34\x56" + b"\x88\xb5" + bytes(46))
        assert "RX" in (shown := place.run("ip", "-s", "link", "show", "demo-0"))
        assert shown.split("RX:")[1].split("\n")[1].split()[1] == "1"
    finally:
        manager.close(tmp_path / "notify")


def test_lend_to_one_that_asks_for_the_mtu(host: Host, place: Place, tmp_path: Path) -> None:
    """There is a namesake beside it; here host and unit are one, so the TAP itself is taken for it."""
    place.add_tap("demo-0", "vmsilo demo lan")
    place.ip("link set demo-0 mtu 1400")
    manager = Manager(tmp_path / "notify")
    try:
        result = lend(host, place, plan_with_nic(host, hypervisor="crosvm"), tmp_path / "notify")
        assert (result.returncode, result.stderr) == (0, "")
        assert "mtu 1400" in place.run("ip", "link", "show", "demo-0")
    finally:
        manager.close(tmp_path / "notify")


def test_a_namesake(place: Place) -> None:
    """Made twice, it is one."""
    code = "import sys; sys.path[:0] = sys.argv[1].split(':')\nfrom vm_launch import taps\n"
    code += "for mtu in (1500, 1400): taps.make_namesake('demo-0', mtu=mtu)"
    place.run(sys.executable, "-c", code, f"{ROOT}:{ROOT}/helpers/vm-launch")
    assert "mtu 1400" in (shown := place.run("ip", "-d", "link", "show", "demo-0"))
    assert "persist on" in shown
    assert "state DOWN" in shown


def test_nothing_is_lent_where_there_is_no_tap(host: Host, place: Place, tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    try:
        result = lend(host, place, plan_with_nic(host), tmp_path / "notify")
        assert (result.returncode, result.stderr) == (
            69,
            "vm-launch: there is no TAP demo-0 for the interface lan (systemctl restart vmsilo-demo-net.service)\n",
        )
        assert manager.kept == {}
    finally:
        manager.close(tmp_path / "notify")


def test_places() -> None:
    plan: Plan = minimal_plan(network=with_nics(NIC, NIC._replace(tap="demo-1")))
    assert [place.name for place in taps.places(plan)] == ["tap-1", "tap-2"]
