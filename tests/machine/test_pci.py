"""PCI devices, really bound to vfio-pci behind an emulated IOMMU, and handed to a real hypervisor."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import config
from lab.tree import USER

from machine import hardware
from machine.computer import Machine
from vmsilo import names, paths

SLOW = 400.0  # seconds; all is emulated, and what the guest does once more
BOOT_DISK = "0000:00:03.0"  # as the kernel numbers the first of QEMU's disks


@pytest.fixture(autouse=True)
def settled(machine: Machine) -> None:
    """The host's drivers have what they get."""
    machine.run("udevadm", "settle", timeout=SLOW)


def listed(machine: Machine) -> dict[str, dict[str, Any]]:
    """What vm-pci says of each device."""
    rows = json.loads(machine.run("vm-pci", "list", "--json").out)
    return {row["address"]: row for row in rows}


def drivers(machine: Machine, *addresses: str) -> list[str]:
    """The drivers of the devices, from sysfs."""
    links = [f"{paths.PCI_DEVICES}/{address}/driver" for address in addresses]
    script = 'for link; do basename "$(readlink "$link" || echo none)"; done'
    return machine.run("sh", "-c", script, "sh", *links).out.split()


@contextmanager
def isolated(machine: Machine, *addresses: str, **vms: str) -> Iterator[None]:
    """A configuration for a while, with what was isolated at the boot and more; afterwards all is released."""
    kept = json.dumps([hardware.TAKEN_AT_BOOT, *addresses])
    machine.configure({"host": f"{config.HOST}isolatedPciDevices = {kept}\n"})
    try:
        with machine.configured(vms):
            yield
    finally:
        machine.configure({"host": f'{config.HOST}isolatedPciDevices = ["{hardware.TAKEN_AT_BOOT}"]\n'})
        machine.run("vm-pci", "release")


def vm(*addresses: str) -> str:
    return config.vm("minimal", *[f'[[pciDevices]]\npath = "{address}"' for address in addresses])


def test_isolated_at_the_boot_before_drivers_were_loaded(machine: Machine) -> None:
    assert drivers(machine, hardware.TAKEN_AT_BOOT, hardware.NETWORK) == ["vfio-pci", "e1000e"]
    said = machine.run("journalctl", "-b", "-o", "cat", "-u", names.PCI_ISOLATION_UNIT).out
    assert f"{hardware.TAKEN_AT_BOOT}: isolated\n" in said  # and taken from nobody
    mark = "ActiveEnterTimestampMonotonic"
    ours = machine.show(names.PCI_ISOLATION_UNIT, mark)[mark]
    coldplug = machine.show("systemd-udev-trigger.service", mark)[mark]
    assert 0 < int(ours) < int(coldplug)


def test_what_has_a_driver_is_taken_and_given_back(machine: Machine) -> None:
    with isolated(machine, hardware.NETWORK):
        assert machine.run("vm-pci", "isolate").out == (
            f"{hardware.TAKEN_AT_BOOT}: is isolated already\n{hardware.NETWORK}: isolated, taken from e1000e\n"
        )
        assert drivers(machine, hardware.NETWORK) == ["vfio-pci"]
        assert listed(machine)[hardware.NETWORK]["isolated"]
        assert f"{hardware.NETWORK}: is isolated already\n" in machine.run("vm-pci", "isolate").out
        assert machine.run("vm-pci", "release", hardware.NETWORK).out == f"{hardware.NETWORK}: given back to e1000e\n"
        assert drivers(machine, hardware.NETWORK, hardware.TAKEN_AT_BOOT) == ["e1000e", "vfio-pci"]


def test_no_longer_listed_is_given_back_by_a_release_alone(machine: Machine) -> None:
    with isolated(machine, hardware.PLAIN):
        machine.run("vm-pci", "isolate")
        machine.configure({"host": f'{config.HOST}isolatedPciDevices = ["{hardware.TAKEN_AT_BOOT}"]\n'})
        machine.run("vm-pci", "isolate")
        assert drivers(machine, hardware.PLAIN) == ["vfio-pci"]
        assert machine.run("vm-pci", "release").out == f"{hardware.PLAIN}: given back; no driver took it\n"
        assert drivers(machine, hardware.PLAIN, hardware.TAKEN_AT_BOOT) == ["none", "vfio-pci"]


def test_boot_disk_stays(machine: Machine) -> None:
    with isolated(machine, BOOT_DISK):
        done = machine.run("vm-pci", "isolate", check=False)
        assert done.code
        assert f"{BOOT_DISK} stays with the host: the file system at " in done.err
        assert drivers(machine, BOOT_DISK) == ["virtio-pci"]


@pytest.mark.parametrize(
    ("given", "missing"), [hardware.FUNCTIONS, hardware.BRIDGED], ids=["functions", "behind a bridge"]
)
def test_incomplete_group(machine: Machine, given: str, missing: str) -> None:
    with isolated(machine, given, incomplete=vm(given)):
        done = machine.run("vm-start", "incomplete", user=USER, check=False, timeout=SLOW)
        assert done.code
        assert f" of {given} also has {missing} (e1000) (a group goes to a VM as a whole" in done.err
        assert drivers(machine, missing) == ["e1000"]
        assert not machine.exists(paths.pci_grant("incomplete"))


def test_hypervisor_has_the_devices(machine: Machine) -> None:
    """Two functions of one card, which were not isolated before the start, and a device that no driver wants."""
    devices = (*hardware.FUNCTIONS, hardware.PLAIN)
    with isolated(machine, *devices, passed=vm(*devices)):
        machine.begin("passed", SLOW)
        # The firmware numbers the buses first.
        machine.wait_for(lambda: 0x11E8 in dict(functions(machine.ask("passed", "query-pci"))).values(), SLOW)
        found = dict(functions(machine.ask("passed", "query-pci")))
        cards = sorted(place for place, product in found.items() if product == 0x100E)
        assert [function for _bus, _slot, function in cards] == [0, 1]
        assert cards[0][:2] == cards[1][:2]  # together, as they were
        # It locks the guest's memory, and sees no other nodes than its own.
        process = machine.main_pid(names.vm_unit("passed"))
        assert int(machine.run("sh", "-c", f"grep VmLck /proc/{process}/status").out.split()[1]) >= 256 << 10
        nodes = machine.run("ls", f"/proc/{process}/root/dev/vfio").out.split()
        groups = {str(listed(machine)[device]["group"]) for device in devices}
        assert set(nodes) == {"vfio", *groups, *devices}
        assert {row["holder"] for address, row in listed(machine).items() if address in devices} == {"passed"}
        refused = machine.run("vm-pci", "release", hardware.PLAIN, check=False)
        assert f"VM passed has {hardware.PLAIN}" in refused.err
        machine.stop("passed")
        machine.wait_for(lambda: not machine.exists(paths.pci_grant("passed")))
        assert drivers(machine, *devices) == ["vfio-pci"] * 3
    assert drivers(machine, *devices) == ["e1000", "e1000", "none"]


def functions(buses: Iterable[dict[str, Any]]) -> Iterator[tuple[tuple[int, int, int], int]]:
    """Bus, slot and function of each function that QEMU tells of, with its device id."""
    for bus in buses:
        for found in bus.get("devices", ()):
            yield (found["bus"], found["slot"], found["function"]), found["id"]["device"]
            yield from functions([found.get("pci_bridge", {})])
