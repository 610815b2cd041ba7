"""What vm-launch does about PCI devices: see that they were handed over."""

import pytest

from launch.hosts import minimal_plan
from vm_launch import pci
from vmsilo.failure import Failure
from vmsilo.plan import PciDevice

NOBODY_S = "ffff:ff:1f.7"  # no machine has so many buses


def test_no_devices() -> None:
    assert pci.groups(minimal_plan()) == ()


def test_device_without_a_group() -> None:
    with pytest.raises(Failure, match=f"PCI device {NOBODY_S} has no IOMMU group: No such file"):
        pci.groups(minimal_plan(pci=(PciDevice(NOBODY_S, ()),)))


def test_group_that_was_not_handed_over() -> None:
    with pytest.raises(Failure, match=r"cannot open /dev/vfio/none: No such file .*see vm-pci\(8\)"):
        pci.try_to_open("none")
