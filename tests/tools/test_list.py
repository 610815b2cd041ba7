"""vm-list: what it prints."""

import json
import re

import pytest

from tools.conftest import Systemd
from vmsilo.amounts import duration, size


def test_table(systemd: Systemd) -> None:
    result = systemd.run("vm-list")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.sub(r"3min 2\ds", "3min 20s", result.stdout).splitlines() == [
        "NAME   STATE     HYPERVISOR        MEMORY    UPTIME",
        "a-b    failed    cloud-hypervisor       -         -  no image called 'debain'",
        "demo   stopped   qemu                   -         -",
        "gone   running   -                      -  3min 20s  runs although its file is gone",
        "slow   starting  qemu                   -         -  booting the guest",
        "up     running   crosvm              512M  3min 20s",
        "wrong  broken    -                      -         -  wrong.toml:3:1: memory: expected a whole number",
    ]


def test_json(systemd: Systemd) -> None:
    result = systemd.run("vm-list", "--json")
    found = {vm["name"]: vm for vm in json.loads(result.stdout)}
    assert list(found) == sorted(found)
    assert found["up"].pop("uptime") == pytest.approx(200, abs=9)
    assert found["up"] == {
        "name": "up",
        "state": "running",
        "hypervisor": "crosvm",
        "memory": 536870912,
        "message": "",
        "lost": [],
    }
    assert found["wrong"] == {
        "name": "wrong",
        "state": "broken",
        "hypervisor": None,
        "memory": None,
        "uptime": None,
        "message": "wrong.toml:3:1: memory: expected a whole number",
        "lost": [],
    }


def test_guest_controls_no_terminal(systemd: Systemd) -> None:
    systemd.change("vmsilo-slow-vm.service", StatusText="\x1b]0;owned\x07 100%\r")
    out = systemd.run("vm-list").stdout
    assert "100%" in out
    assert not set("\x1b\x07\r") & set(out)


def test_what_is_not_as_it_should_be(systemd: Systemd) -> None:
    systemd.change("vmsilo-up-vm.service", StatusText="ready")
    assert listed(systemd, "up")["message"] == ""
    systemd.change("vmsilo-up-vm.service", StatusText="ready; no core scheduling in this kernel")
    assert listed(systemd, "up")["message"] == "no core scheduling in this kernel"


def test_shares_that_are_lost(systemd: Systemd) -> None:
    """Of a VM that runs; what else is not as it should be is told as well."""
    units = systemd.units
    for vm, tag, state in (
        ("up", "music", "failed"),
        ("up", "data", "failed"),
        ("up", "home", "active"),
        ("demo", "data", "failed"),
    ):
        units[f"vmsilo-{vm}-virtiofs-{tag}.service"] = {
            "ActiveState": state,
            "Description": f"Shared directory {tag} of VM {vm}: sandbox off",
        }
    systemd.path.write_text(json.dumps(units))
    assert listed(systemd, "up")["lost"] == ["data", "music"]
    assert listed(systemd, "up")["message"] == "share data lost; share music lost"
    assert (listed(systemd, "demo")["lost"], listed(systemd, "demo")["message"]) == ([], "")
    systemd.change("vmsilo-up-vm.service", StatusText="ready; no core scheduling in this kernel")
    assert listed(systemd, "up")["message"] == "share data lost; share music lost; no core scheduling in this kernel"


def listed(systemd: Systemd, name: str) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(systemd.run("vm-list", "--json").stdout)
    return next(vm for vm in found if vm["name"] == name)


def test_no_vm(systemd: Systemd) -> None:
    systemd.path.write_text("{}")
    result = systemd.run("vm-list")
    assert (result.returncode, result.stdout) == (0, "")
    assert "no VM is configured" in result.stderr
    assert json.loads(systemd.run("vm-list", "--json").stdout) == []


def test_usage(systemd: Systemd) -> None:
    assert systemd.run("vm-list", "demo").returncode == 64
    assert systemd.run("vm-list", "--jason").returncode == 64
    assert systemd.run("vm-list", "--help").stdout == "usage: vm-list [--json]\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.9, "0s"), (59.9, "59s"), (60, "1min 0s"), (3600, "1h 0min"), (90061, "1d 1h")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0B"), (1023, "1023B"), (4096, "4K"), (512 << 20, "512M"), (1536 << 20, "1.5G")],
)
def test_size(count: int | None, text: str) -> None:
    assert size(count) == text
