"""Taking a device from the host's drivers, and giving it back.

``driver_override`` names the only driver that may have a device, whichever others know it: it can be set before any
driver is loaded, and outlasts all that are. The kernel looks for a driver again when told to (``drivers_probe``).
"""

import os

from vm_pci import device as devices
from vm_pci import guard
from vm_pci.device import VFIO, Device
from vm_pci.place import Place, entries
from vmsilo.failure import EX_OSERR, EX_UNAVAILABLE, Failure
from vmsilo.plan import IsolatedDevice

# Whatever is written there first has to be more than nothing: a line without text clears it.
_NO_OVERRIDE = "\n"


def isolate(place: Place, wanted: IsolatedDevice) -> str:
    """Take the device from the host: what was done. Raises Failure if that can't or must not be."""
    device = devices.get(place, wanted.address)
    if device.taken:
        if not device.override:  # it was given to VFIO by other means, which say nothing of a later rebinding
            override(place, device, device.driver)
        return "is isolated already"
    guard.check(place, device, force=wanted.force)
    take(place, device)
    return f"isolated, taken from {device.driver}" if device.driver else "isolated"


def take(place: Place, device: Device) -> None:
    """Bind the device to vfio-pci. Raises Failure, with the device back where it was, if that can't be."""
    if not device.group:
        raise no_iommu(place, device)
    if not os.path.isdir(f"{place.sys}/bus/pci/drivers/{VFIO}"):
        load_driver()
    if not os.path.isdir(f"{place.sys}/bus/pci/drivers/{VFIO}"):
        raise Failure(f"this kernel has no driver {VFIO}", f"modprobe {VFIO} says why", EX_UNAVAILABLE)
    override(place, device, VFIO)
    try:
        rebind(place, device)
    except Failure:
        override(place, device, _NO_OVERRIDE)
        raise
    now = devices.get(place, device.address)
    if not now.taken:
        free(place, now)
        was = f", which {device.driver} had," if device.driver else ""
        raise Failure(f"{VFIO} did not take {device.address}{was}", "the kernel's log says why: dmesg", EX_OSERR)


def free(place: Place, device: Device) -> Device:
    """Let the host's drivers have the device: how it is then."""
    override(place, device, _NO_OVERRIDE)
    rebind(place, device)
    return devices.get(place, device.address)


def override(place: Place, device: Device, driver: str) -> None:
    """Let no driver have the device but the one named."""
    _write(place, f"{place.devices}/{device.address}/driver_override", driver)


def rebind(place: Place, device: Device) -> None:
    """Take the device from its driver, if it has one, and have the kernel look for a driver again."""
    if device.driver:
        _write(place, f"{place.devices}/{device.address}/driver/unbind", device.address)
    try:
        _write(place, f"{place.sys}/bus/pci/drivers_probe", device.address)
    except Failure:
        pass  # a driver that refuses the device: the caller looks whether it has one


def load_driver() -> None:
    """Have modprobe(8) load vfio-pci; where that fails, there is no such driver afterwards."""
    try:
        child = os.posix_spawnp("modprobe", ["modprobe", "-q", VFIO], os.environ)
        os.waitpid(child, 0)
    except OSError:
        pass


def no_iommu(place: Place, device: Device) -> Failure:
    """The failure of a device that nothing keeps from the host's memory."""
    if entries(f"{place.sys}/class/iommu"):
        return Failure(f"{device.address} is behind no IOMMU, and could reach all of the host's memory")
    return Failure(
        f"the kernel uses no IOMMU, without which {device.address} could reach all of the host's memory",
        "switch VT-d or AMD-Vi on in the firmware, and boot with intel_iommu=on if the processor is Intel's",
    )


def _write(place: Place, path: str, text: str) -> None:
    try:
        place.write(path, text)
    except OSError as error:
        what = text.strip() or "nothing"
        raise Failure(f"cannot write {what} to {path}: {error.strerror}", code=EX_OSERR) from None
