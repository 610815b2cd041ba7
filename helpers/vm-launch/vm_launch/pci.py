"""PCI devices of the host, which vm-pci has handed to this VM before it started."""

import errno
import os

from vmsilo import paths
from vmsilo.failure import EX_TEMPFAIL, EX_UNAVAILABLE, Failure
from vmsilo.plan import Plan


def groups(plan: Plan) -> tuple[str, ...]:
    """The IOMMU groups of the devices, each once. Raises Failure if the hypervisor could not open one."""
    found = dict.fromkeys(group_of(device.address) for device in plan.pci)
    for group in found:
        try_to_open(group)
    return tuple(found)


def sysfs(address: str) -> str:
    """The directory of the device, in the form that every hypervisor takes: it is a link, and has no slash behind."""
    return f"{paths.PCI_DEVICES}/{address}"


def group_of(address: str) -> str:
    try:
        return os.readlink(sysfs(address) + "/iommu_group").rpartition("/")[2]
    except OSError as error:
        raise Failure(f"PCI device {address} has no IOMMU group: {error.strerror}", code=EX_UNAVAILABLE) from None


def try_to_open(group: str) -> None:
    path = f"{paths.VFIO}/{group}"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hint = "another program has it open" if error.errno == errno.EBUSY else "see vm-pci(8)"
        raise Failure(f"cannot open {path}: {error.strerror}", hint, EX_TEMPFAIL) from None
