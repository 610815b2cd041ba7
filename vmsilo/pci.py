"""Addresses of PCI devices: the spellings that people use, and the one that the kernel names its files by."""

EXPECTED = 'a PCI address, like "01:00.0" or "0000:01:00.0"'

_HEX = frozenset("0123456789abcdef")
_SYSFS = "/sys/"
_UDEV = "pci-"  # ID_PATH of udev, such as in /dev/disk/by-path
_DEVICES_MAX = 32  # of a bus


def full_address(text: str) -> str | None:
    """The address that *text* means, such as ``0000:01:00.0``, or None if it means none.

    Taken are lspci(8)'s two forms, with and without the domain, in either case; a path below /sys that ends in an
    address; and udev's ``pci-0000:01:00.0``. Domains of more than four digits are the kernel's own.
    """
    if text.startswith(_SYSFS):
        text = text.rstrip("/").rpartition("/")[2]
    head, dot, function = text.lower().removeprefix(_UDEV).partition(".")
    parts = head.split(":")
    if len(parts) == 2:
        parts.insert(0, "0000")
    if not dot or len(parts) != 3 or not all(parts) or not all(map(_HEX.issuperset, parts)):
        return None
    domain, bus, device = parts
    if not 4 <= len(domain) <= 8 or len(bus) != 2 or len(device) != 2 or int(device, 16) >= _DEVICES_MAX:
        return None
    if len(function) != 1 or function not in "01234567":
        return None
    return f"{int(domain, 16):04x}:{bus}:{device}.{function}"


def is_address(text: str) -> bool:
    """Whether *text* is an address in the kernel's form."""
    return full_address(text) == text
