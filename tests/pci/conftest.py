"""Machines on record, and what is configured on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from launch.hosts import minimal_plan

from pci.machine import Machine, full
from vm_pci.main import main
from vmsilo import names, plan
from vmsilo.plan import HostPlan, IsolatedDevice, PciDevice, Plan

Make = Callable[..., Machine]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A machine by the name of its record."""

    def made(name: str, *, booted: bool = True, iommu: bool = True) -> Machine:
        return Machine(tmp_path / name, name, booted=booted, iommu=iommu)

    return made


def device(address: str, *, force: bool = False) -> PciDevice:
    return PciDevice(full(address), (), force)


def configure(machine: Machine, *isolated: str, force: tuple[str, ...] = (), **vms: tuple[str, ...]) -> None:
    """Write plans: the devices *isolated*, and those of each VM."""
    listed = tuple(IsolatedDevice(full(one), one in force) for one in isolated)
    host = HostPlan("alice", bash_integration=True, isolated=listed)
    (machine.top / "plans" / names.HOST_PLAN_FILE).write_text(plan.dumps(host))
    for vm, addresses in vms.items():
        made = vm_plan(vm, *[device(one, force=one in force) for one in addresses])
        (machine.top / "plans" / names.plan_file(vm)).write_text(plan.dumps(made))


def vm_plan(vm: str, *devices: PciDevice) -> Plan:
    return minimal_plan(vm=vm)._replace(pci=devices)


def call(machine: Machine, *arguments: str) -> int:
    """vm-pci, on the machine."""
    return main(arguments, machine.place)


def attach(machine: Machine, vm: str) -> int:
    return call(machine, "attach", str(machine.top / "plans" / names.plan_file(vm)))
