"""QEMU as on a host with all that helps it: KVM, behind every wall, and the kernel's vsock."""

import json
from collections.abc import Iterator

import pytest
from lab import config

from machine.computer import Machine
from vmsilo import names, paths

VM = "by-kvm"
UNIT = names.vm_unit(VM)
SLOW = 300.0  # seconds; all is emulated


@pytest.fixture(scope="module", autouse=True)
def vm(machine: Machine) -> Iterator[None]:
    """A VM whose guest has begun to run."""
    machine.run("udevadm", "settle", timeout=SLOW)  # which loads the driver of the processor's virtualization
    with machine.configured({VM: config.vm("minimal", "[qemu]", 'machine = "q35,accel=kvm"')}):
        machine.begin(VM, SLOW)
        yield


def threads(machine: Machine) -> list[str]:
    """Names of the hypervisor's threads."""
    return machine.run("ps", "-L", "-o", "comm=", "-p", str(machine.main_pid(UNIT))).out.split("\n")


def test_kvm_runs_the_guest(machine: Machine) -> None:
    assert machine.ask(VM, "query-kvm") == {"enabled": True, "present": True}
    assert "CPU 0/KVM" in threads(machine)


def test_no_memory_is_writable_and_executable(machine: Machine) -> None:
    """Where there is KVM alone, and nothing is translated."""
    assert machine.show(UNIT, "MemoryDenyWriteExecute") == {"MemoryDenyWriteExecute": "yes"}
    maps = machine.read(f"/proc/{machine.main_pid(UNIT)}/maps").splitlines()
    assert maps
    assert [line for line in maps if "w" in line.split()[1] and "x" in line.split()[1]] == []


def test_the_kernel_carries_vsock(machine: Machine) -> None:
    assert any(name.startswith("vhost-") for name in threads(machine))
    plan = json.loads(machine.read(f"{paths.vm_dir(VM)}/{paths.RUNNING_PLAN}"))
    assert plan["vsock"] == ""
    assert machine.show(names.vsock_unit(VM), "ConditionResult", "ActiveState") == {
        "ConditionResult": "no",
        "ActiveState": "inactive",
    }


def test_nothing_was_refused(machine: Machine) -> None:
    """No call that the policies forget: QEMU would tell, or end."""
    said = machine.journal("--unit", UNIT, "-o", "cat")
    assert "not permitted" not in said
    assert machine.state(UNIT) in ("activating", "active")
