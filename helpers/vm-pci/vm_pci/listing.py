"""vm-pci list: the devices, in which company they are, and whose they are."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from vm_pci import catalogue, grant
from vm_pci import device as devices
from vm_pci.place import Place
from vmsilo.plan import Plan


class Row(NamedTuple):
    """A device; vm-pci(8) describes the fields, which are also the keys of the JSON form."""

    address: str
    group: int | None
    driver: str | None
    isolated: bool
    configured: str | None  # the VM in whose file it stands
    holder: str | None  # the VM that has it now
    id: str  # vendor:product, as lspci -n shows it
    name: str


def rows(place: Place, plans: Sequence[Plan]) -> list[Row]:
    """All devices but bridges, by address."""
    vm_of = {device.address: plan.vm for plan in plans for device in plan.pci}
    shown = [device for device in devices.everything(place) if not device.bridge]
    names = catalogue.names({(device.vendor, device.product) for device in shown})
    return [
        Row(
            address=device.address,
            group=int(device.group) if device.group.isdigit() else None,
            driver=device.driver or None,
            isolated=device.isolated,
            configured=vm_of.get(device.address),
            holder=grant.holder(place, device.address) or None,
            id=f"{device.vendor:04x}:{device.product:04x}",
            name=names.get((device.vendor, device.product)) or catalogue.kind(device.kind),
        )
        for device in shown
    ]


def as_json(found: Sequence[Row]) -> str:
    return json.dumps([row._asdict() for row in found], indent=1, ensure_ascii=False) + "\n"


def as_table(found: Sequence[Row]) -> str:
    """Aligned columns under a heading."""
    cells = [("DEVICE", "GROUP", "DRIVER", "ISOLATED", "VM", "ID", "NAME")]
    cells += [
        (
            row.address,
            "-" if row.group is None else str(row.group),
            row.driver or "-",
            "yes" if row.isolated else "no",
            _vm(row),
            row.id,
            row.name,
        )
        for row in found
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    return "\n".join(lines) + "\n"


def _vm(row: Row) -> str:
    if row.holder:
        return f"{row.holder} (has it)"
    return row.configured or "-"
