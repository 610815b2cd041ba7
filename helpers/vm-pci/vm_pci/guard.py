"""What the host can't do without: the disk it runs from, the screen of its console, its way to the network."""

import os

from vm_pci import disks
from vm_pci.device import Device, everything
from vm_pci.place import Place, entries
from vmsilo.failure import EX_NOPERM, Failure
from vmsilo.pci import is_address


def check(place: Place, device: Device, *, force: bool) -> None:
    """Raise Failure if *device* has to stay with the host, which *force* overrules as far as it can be."""
    if device.bridge:
        raise Failure(f"{device.address} is a bridge", "name the devices behind it", EX_NOPERM)
    if force:
        return
    reason = needed(place, device)
    if reason:
        raise Failure(
            f"{device.address} stays with the host: {reason}",
            "to take it all the same, write force = true beside it in the VM's pciDevices",
            EX_NOPERM,
        )


def needed(place: Place, device: Device) -> str:
    """Why the host needs the device, "" if it does not."""
    use = disks.in_use(place).get(device.address)
    if use:
        return use
    if device.display and (device.boot_vga or device.address in _consoles(place)):
        return "it is the graphics card of the console"
    if device.network_card and not _other_network_card(place, device):
        return "it is the only network card that the host has left"
    return ""


def _other_network_card(place: Place, device: Device) -> bool:
    """Whether the host keeps a network card. Drivers don't count: early in the boot there are none yet."""
    return any(
        other.network_card and not other.isolated and other.address != device.address for other in everything(place)
    )


def _consoles(place: Place) -> set[str]:
    """The devices behind the frame buffers of the kernel's console."""
    found = set()
    for name in entries(f"{place.sys}/class/graphics"):
        path = os.path.realpath(f"{place.sys}/class/graphics/{name}/device")
        found |= {part for part in path.split("/") if is_address(part)}
    return found
