"""A small systemd to ask, for programs that run as they would for a user."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

COMMANDS = ROOT / "helpers" / "vsock-cmd"
FAKES = Path(__file__).parent


class Systemd:
    """Units in a file, a systemctl on PATH that knows them, and the calls it got."""

    def __init__(self, path: Path, units: dict[str, dict[str, Any]]) -> None:
        self.path = path
        self.path.write_text(json.dumps(units))
        self.environment = {
            "PATH": f"{FAKES}:{os.environ['PATH']}",
            "UNITS": str(path),
            "LANG": "C.UTF-8",
        }

    @property
    def units(self) -> dict[str, dict[str, Any]]:
        units: dict[str, dict[str, Any]] = json.loads(self.path.read_text())
        return units

    def change(self, unit: str, **properties: Any) -> None:
        units = self.units
        units[unit].update(properties)
        self.path.write_text(json.dumps(units))

    @property
    def acts(self) -> list[str]:
        """The calls that change something."""
        calls = Path(f"{self.path}.calls").read_text().splitlines()
        return [call.replace(" --", "") for call in calls if not call.startswith(("show", "list-"))]

    def run(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMANDS / command, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )


def vm(name: str, state: str = "inactive", hypervisor: str = "qemu", **properties: Any) -> dict[str, dict[str, Any]]:
    """The units of a VM in the given state, its socket listening."""
    return {
        f"vmsilo-{name}-vm.service": {
            "ActiveState": state,
            "Description": f"VM {name} ({hypervisor})",
            **properties,
        },
        f"vmsilo-{name}.socket": {"ActiveState": "active"},
        f"vmsilo-{name}-console.socket": {"ActiveState": "active"},
    }


def broken(name: str, message: str) -> dict[str, dict[str, Any]]:
    """What stands for a VM whose file can't be used."""
    return {
        f"vmsilo-{name}.socket": {"ActiveState": "failed", "Description": f"VM {name} is broken: {message}"},
    }


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    """A VM of each kind; those that run do so for 200 s."""
    since = str(int((time.clock_gettime(time.CLOCK_MONOTONIC) - 200) * 1_000_000))
    return Systemd(
        tmp_path / "units.json",
        {
            **vm("demo"),
            **vm("up", "active", "crosvm", ActiveEnterTimestampMonotonic=since, MemoryCurrent="536870912"),
            **vm("slow", "activating", StatusText="booting the guest"),
            **vm("a-b", "failed", "cloud-hypervisor", StatusText="no image called 'debain'", Result="exit-code"),
            **vm(
                "gone",
                "active",
                file=False,
                ActiveEnterTimestampMonotonic=since,
                Description="vmsilo-gone-vm.service",
            ),
            **broken("wrong", "wrong.toml:3:1: memory: expected a whole number"),
        },
    )
