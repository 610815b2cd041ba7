"""PCI devices of the host in the configuration. Loaded only where one is configured."""

from typing import Any

from vmsilo.pci import full_address
from vmsilo.plan import PciDevice, Setting
from vmsilo_generator.options import DEFAULTS, UNSET
from vmsilo_generator.reader import Key, Reader, Values, found, shown

_OURS = ("path", "force")  # the keys that no hypervisor gets

# Which further keys a hypervisor knows. It would tell of a wrong one itself, at the start; cloud-hypervisor alone
# passes over what it does not know, so its list is complete.
_CLOUD_HYPERVISOR: dict[str, type[Any]] = {
    "iommu": bool,
    "id": str,
    "pci_segment": int,
    "pci_device_id": int,
    "x_nv_gpudirect_clique": int,
}
_CROSVM = ("guest-address", "iommu")
# What says in QEMU's words which device it is.
_QEMU_DEVICE = ("driver", "host", "sysfsdev", "fd")

_KINDS: dict[type[Any], str] = {bool: "true or false", str: "text", int: "a whole number"}


def judge_isolated(values: Values, reader: Reader) -> None:
    """Note a device that stands in the list twice, in two spellings."""
    seen: dict[str | None, str] = {}
    for index, text in enumerate(values["isolatedPciDevices"]):
        first = seen.setdefault(full_address(text), text)
        if text and first != text:
            reader.fault(("isolatedPciDevices", index), f"this device is in the list already, as {shown(first)}")


def isolated(values: Values) -> tuple[str, ...]:
    """The addresses in isolatedPciDevices, none of which has a fault."""
    return tuple([full_address(text) or "" for text in values["isolatedPciDevices"]])


def judge(values: Values, reader: Reader) -> None:
    """Note a device that is there twice, and the keys that the hypervisor has no use for."""
    hypervisor = "" if reader.faulty("hypervisor") else values.get("hypervisor", DEFAULTS["hypervisor"])
    seen: dict[str | None, int] = {}
    for index, device in enumerate(values["pciDevices"]):
        if device is UNSET:
            continue
        first = seen.setdefault(full_address(device["path"]), index)
        if first != index:
            message = f"this device stands in pciDevices twice, first as number {first + 1}: remove one"
            reader.fault(("pciDevices", index, "path"), message)
        for name, value in device.items():
            if name not in _OURS:
                _judge_setting(name, value, hypervisor, ("pciDevices", index, name), reader)


def devices(values: Values) -> tuple[PciDevice, ...]:
    """The devices in pciDevices, none of which has a fault."""
    return tuple(
        [
            PciDevice(
                address=full_address(device["path"]) or "",
                settings=tuple([Setting(name, value) for name, value in device.items() if name not in _OURS]),
                force=device.get("force", False),
            )
            for device in values["pciDevices"]
        ]
    )


def _judge_setting(name: str, value: Any, hypervisor: str, key: Key, reader: Reader) -> None:
    if hypervisor == "qemu":
        if name in _QEMU_DEVICE:
            reader.fault(key, "path says which device it is: remove this", of_key=True)
        elif name in _CROSVM:
            reader.fault(key, "qemu has no such setting: remove it, or set another hypervisor", of_key=True)
    elif hypervisor == "cloud-hypervisor":
        kind = _CLOUD_HYPERVISOR.get(name)
        if kind is None:
            known = ", ".join(_CLOUD_HYPERVISOR)
            message = f"cloud-hypervisor has no such setting, it has {known}: remove it, or set another hypervisor"
            reader.fault(key, message, of_key=True)
        elif type(value) is not kind and not (kind is bool and value in ("on", "off")):
            reader.fault(key, f"expected {_KINDS[kind]}, found {found(value)}")
