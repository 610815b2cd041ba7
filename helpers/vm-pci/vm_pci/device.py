"""One PCI device as sysfs shows it (Documentation/ABI/testing/sysfs-bus-pci of the kernel)."""

import os
from typing import NamedTuple

from vm_pci.place import Place, attribute, entries, link
from vmsilo.failure import EX_NOINPUT, Failure
from vmsilo.pci import is_address

VFIO = "vfio-pci"

# Base class and sub class, in the PCI Code and ID Assignment Specification.
_NETWORK = 0x02
_DISPLAY = 0x03
_HOST_BRIDGE, _ISA_BRIDGE, _PCI_BRIDGE, _CARDBUS_BRIDGE, _HALF_BRIDGE = 0x0600, 0x0601, 0x0604, 0x0607, 0x0609
_BRIDGES = frozenset({_HOST_BRIDGE, _ISA_BRIDGE, _PCI_BRIDGE, _CARDBUS_BRIDGE, _HALF_BRIDGE})

# Drivers that leave the DMA of their device alone, so that the kernel lets VFIO have the rest of the group (those
# with driver_managed_dma set; kernels before 5.18 list them in vfio.c).
_HARMLESS = ("", "pci-stub", "pcieport")

_NEAR_MAX = 4


class Device(NamedTuple):
    address: str
    kind: int  # base class and sub class
    vendor: int
    product: int
    driver: str  # "" = none
    override: str  # the only driver that may have it; "" = any that knows it
    group: str  # number of its IOMMU group; "" = no IOMMU
    boot_vga: bool  # the firmware showed its picture on it
    virtual_function: bool

    @property
    def taken(self) -> bool:
        """Whether a driver of VFIO has it: vfio-pci, or one of its relatives for a certain device."""
        return self.driver.replace("_", "-").endswith(VFIO)

    @property
    def isolated(self) -> bool:
        """Whether it is kept from the host's drivers."""
        return self.taken or self.override == VFIO

    @property
    def harmless(self) -> bool:
        """Whether others of its group can be handed to a VM, whatever becomes of this one."""
        return self.taken or self.driver in _HARMLESS

    @property
    def bridge(self) -> bool:
        """Whether it connects buses, rather than to do something by itself."""
        return self.kind in _BRIDGES

    @property
    def network_card(self) -> bool:
        return self.kind >> 8 == _NETWORK and not self.virtual_function

    @property
    def display(self) -> bool:
        return self.kind >> 8 == _DISPLAY


def find(place: Place, address: str) -> Device | None:
    """The device, None if there is none of that address."""
    path = f"{place.devices}/{address}"
    if not os.path.isdir(path):
        return None
    override = attribute(path + "/driver_override")
    return Device(
        address=address,
        kind=_number(path + "/class") >> 8,
        vendor=_number(path + "/vendor"),
        product=_number(path + "/device"),
        driver=link(path + "/driver"),
        override="" if override == "(null)" else override,
        group=link(path + "/iommu_group"),
        boot_vga=attribute(path + "/boot_vga") == "1",
        virtual_function=os.path.islink(path + "/physfn"),
    )


def get(place: Place, address: str) -> Device:
    """The device. Raises Failure, which names those near the address, if there is none."""
    device = find(place, address)
    if device is None:
        near = nearest(address, [one.address for one in everything(place)])
        hint = "near it are " + ", ".join(near) if near else f"{place.devices} is empty"
        raise Failure(f"there is no PCI device {address}", hint, EX_NOINPUT)
    return device


def everything(place: Place) -> list[Device]:
    """All devices, by address."""
    found = [find(place, name) for name in entries(place.devices) if is_address(name)]
    return [device for device in found if device is not None]


def of_group(place: Place, group: str) -> list[Device]:
    """The devices of an IOMMU group, which the hardware can't keep apart from each other."""
    found = [find(place, name) for name in entries(f"{place.sys}/kernel/iommu_groups/{group}/devices")]
    return [device for device in found if device is not None]


def nearest(address: str, known: list[str]) -> list[str]:
    """The few of the *known* addresses that have the most in common with *address*, from the left."""

    def differs(other: str) -> tuple[int, str]:
        same = next((at for at, pair in enumerate(zip(address, other, strict=False)) if pair[0] != pair[1]), 0)
        return -same, other

    return sorted(known, key=differs)[:_NEAR_MAX]


def _number(path: str) -> int:
    try:
        return int(attribute(path), 16)
    except ValueError:
        return 0
