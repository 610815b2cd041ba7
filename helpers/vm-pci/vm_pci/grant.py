"""Handing devices to a VM: its IOMMU groups are checked, and its hypervisor gets to see their nodes.

VFIO has one node for each group, in a directory that root alone may write to. The hypervisor, who is nobody's user,
finds a directory of its own in that place (BindPaths=), with nodes that anyone could open, but that nobody else can
reach: the directory above is root's alone. So no right has to be given to a user and taken back from it, and the
nodes of other VMs are not there at all.
"""

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from vm_pci import device as devices
from vm_pci import guard, isolation
from vm_pci.device import Device
from vm_pci.place import Place, attribute, entries
from vmsilo import names, paths
from vmsilo.failure import EX_OSERR, EX_TEMPFAIL, EX_UNAVAILABLE, Failure
from vmsilo.plan import IsolatedDevice, PciDevice, Plan

_CONTAINER = "vfio"


class Node(NamedTuple):
    """A character device: its name, and its number in the kernel's spelling, major:minor."""

    name: str
    number: str


def attach(place: Place, plan: Plan, isolated: Sequence[IsolatedDevice]) -> list[str]:
    """Hand the devices of *plan* to its VM: a line about each that had to be taken from the host first.

    *isolated* are those that the host is configured to do without; one of them that shares a group with a device of
    the VM's is taken from the host, too. Raises Failure if anything is missing or wrong.
    """
    told = []
    for wanted in plan.pci:
        device = devices.get(place, wanted.address)
        if not device.taken:
            guard.check(place, device, force=wanted.force)
            isolation.take(place, device)
            told.append(f"{device.address} was taken from {device.driver or 'the host'}")
    for companion in companions(place, plan.pci, isolated):
        told.append(f"{companion.address} {isolation.isolate(place, companion)}")
    with _locked(place):
        check_groups(place, plan)
        _make(place, plan.vm, list(nodes(place, plan.pci)))
    return told


def detach(place: Place, vm: str) -> None:
    """Take back what attach() gave. The devices stay isolated."""
    if os.path.isdir(_directory(place, vm)):
        with _locked(place):
            _remove(_directory(place, vm))


def holder(place: Place, name: str, but: str = "") -> str:
    """The VM, other than *but*, that has the group or device *name*; "" if none has, or it is not ours to know."""
    try:
        vms = entries(place.in_dev(paths.PCI_GRANTS))
    except PermissionError:
        return ""
    for vm in vms:
        if vm != but and os.path.lexists(f"{_directory(place, vm)}/{name}"):
            return vm
    return ""


def companions(
    place: Place, wanted: Sequence[PciDevice], isolated: Sequence[IsolatedDevice]
) -> Iterator[IsolatedDevice]:
    """The devices that share a group with those *wanted* and should be isolated, but are not."""
    by_address = {device.address: device for device in isolated}
    for group in groups(place, wanted):
        for device in devices.of_group(place, group):
            if device.address in by_address and not device.taken:
                yield by_address[device.address]


def groups(place: Place, wanted: Sequence[PciDevice]) -> list[str]:
    """The IOMMU groups of the devices, each once."""
    return list(dict.fromkeys(devices.get(place, device.address).group for device in wanted))


def check_groups(place: Place, plan: Plan) -> None:
    """Raise Failure if a group of the VM's devices is not the VM's alone."""
    faults = []
    for group in groups(place, plan.pci):
        other = holder(place, group, but=plan.vm)
        if other:
            raise Failure(
                f"IOMMU group {group} of {_ours(place, plan, group)} belongs to VM {other} while that runs",
                "one group is for one VM at a time",
                EX_TEMPFAIL,
            )
        missing = [device for device in devices.of_group(place, group) if not device.harmless]
        if missing:
            listed = ", ".join(f"{device.address} ({device.driver})" for device in missing)
            faults.append(f"IOMMU group {group} of {_ours(place, plan, group)} also has {listed}")
    if faults:
        raise Failure(
            "; ".join(faults), "a group goes to a VM as a whole: add them to isolatedPciDevices", EX_UNAVAILABLE
        )


def nodes(place: Place, wanted: Sequence[PciDevice]) -> Iterator[Node]:
    """The nodes for the devices: VFIO's own, and that of each group under the group's number and each address."""
    yield Node(_CONTAINER, _number(f"{place.sys}/class/misc/vfio/dev", "VFIO"))
    for group in groups(place, wanted):
        yield Node(group, _group_number(place, group))
    for device in wanted:
        yield Node(device.address, _group_number(place, devices.get(place, device.address).group))


def _ours(place: Place, plan: Plan, group: str) -> str:
    found: list[Device] = [devices.get(place, device.address) for device in plan.pci]
    return ", ".join(device.address for device in found if device.group == group)


def _group_number(place: Place, group: str) -> str:
    return _number(f"{place.sys}/class/vfio/{group}/dev", f"a node of VFIO for IOMMU group {group}")


def _number(path: str, what: str) -> str:
    number = attribute(path)
    if not number:
        raise Failure(f"this kernel has not made {what}: there is no {path}", "CONFIG_VFIO_GROUP", EX_UNAVAILABLE)
    return number


def _directory(place: Place, vm: str) -> str:
    if not names.is_vm_name(vm):
        raise Failure(f"{vm!r} can't be the name of a VM", names.VM_NAME_RULE)
    return place.in_dev(paths.pci_grant(vm))


def _make(place: Place, vm: str, wanted: Sequence[Node]) -> None:
    """Make the VM's directory with these nodes, in place of one that was left behind."""
    directory = _directory(place, vm)
    try:
        _remove(directory)
        os.mkdir(directory)
        os.chmod(directory, 0o755)
        for node in wanted:
            major, _, minor = node.number.partition(":")
            path = f"{directory}/{node.name}"
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(int(major), int(minor)))
            os.chmod(path, 0o666)  # whatever the umask
    except OSError as error:
        raise Failure(f"cannot make {error.filename}: {error.strerror}", code=EX_OSERR) from None


def _remove(directory: str) -> None:
    """Remove a directory of nodes, if it is there."""
    for name in entries(directory):
        os.unlink(f"{directory}/{name}")
    if os.path.isdir(directory):
        os.rmdir(directory)


@contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Be the only one who looks whose a group is, and makes it somebody's."""
    top = place.in_dev(paths.PCI_GRANTS)
    os.makedirs(top, mode=0o700, exist_ok=True)
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
