"""The file systems that vm-pci works on. Tests put others in their place."""

import os
from collections.abc import Callable
from typing import NamedTuple

from vmsilo import paths

# Of a file in sysfs; the kernel's are one page at most.
_ATTRIBUTE_MAX = 4096


def write(path: str, text: str) -> None:
    """Write to an attribute of sysfs, in one call as the kernel wants it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class Place(NamedTuple):
    """Where things are."""

    sys: str = "/sys"
    proc: str = "/proc"
    dev: str = "/dev"
    plans: str = paths.GENERATOR_DIR
    write: Callable[[str, str], None] = write

    @property
    def devices(self) -> str:
        """The directory with an entry for each PCI device."""
        return f"{self.sys}/bus/pci/devices"

    def in_dev(self, path: str) -> str:
        """Where the file is that is *path*, below /dev, to everybody."""
        return self.dev + path.removeprefix("/dev")


def attribute(path: str) -> str:
    """The text of a file in sysfs, "" if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(_ATTRIBUTE_MAX).decode(errors="replace").strip()
    except OSError:
        return ""


def entries(directory: str) -> list[str]:
    """The names in a directory, sorted; none if there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def link(path: str) -> str:
    """The last part of what a symbolic link points to, "" if there is none."""
    try:
        return os.readlink(path).rpartition("/")[2]
    except OSError:
        return ""
