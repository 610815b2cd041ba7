"""Names of devices, from the list that distributions package (pci.ids), and of classes where there is none."""

_FILES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")

# Of the PCI Code and ID Assignment Specification, those that people have in their machines.
_KINDS = {
    0x00ff: "unclassified device",
    0x0100: "SCSI controller", 0x0101: "IDE controller", 0x0104: "RAID controller", 0x0106: "SATA controller",
    0x0107: "SAS controller", 0x0108: "NVMe controller", 0x0200: "Ethernet controller", 0x0280: "network controller",
    0x0300: "VGA controller", 0x0302: "3D controller", 0x0380: "display controller", 0x0400: "video device",
    0x0401: "audio device", 0x0403: "HD audio device", 0x0500: "RAM controller", 0x0580: "memory controller",
    0x0700: "serial controller", 0x0780: "communication controller", 0x0880: "system peripheral",
    0x0c00: "FireWire controller", 0x0c03: "USB controller", 0x0c05: "SMBus", 0x0c80: "serial bus controller",
    0x0d11: "Bluetooth controller", 0x1080: "encryption controller", 0x1180: "signal processing controller",
    0x1200: "processing accelerator",
}  # fmt: skip


def kind(number: int) -> str:
    """What a device of this base and sub class is."""
    return _KINDS.get(number, f"class {number:04x}")


def names(wanted: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The names of the devices with these vendor and product numbers, as far as the list has them."""
    for path in _FILES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return search(file.read(), wanted)
        except OSError:
            continue
    return {}


def search(text: str, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Read the format of pci.ids: a vendor at the start of a line, its products behind one tab."""
    vendors = {vendor for vendor, _ in wanted}
    found: dict[tuple[int, int], str] = {}
    vendor, vendor_name = -1, ""
    for line in text.splitlines():
        if line.startswith("C "):  # classes follow, in the same form
            break
        if line[:1] not in ("", "#", "\t"):
            number, _, name = line.partition("  ")
            vendor, vendor_name = _hex(number), name
        elif vendor in vendors and line[:1] == "\t" and line[1:2] != "\t":
            number, _, name = line[1:].partition("  ")
            if (vendor, _hex(number)) in wanted:
                found[vendor, _hex(number)] = f"{vendor_name} {name}"
    return found


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1
