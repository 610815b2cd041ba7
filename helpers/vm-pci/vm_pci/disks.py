"""PCI devices behind what is mounted: through partitions, device mapper, RAID and several disks."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from vm_pci.place import Place, attribute, entries
from vmsilo.pci import is_address

_STORAGE = "01"  # base class, as a file in sysfs writes it behind 0x


class Mount(NamedTuple):
    """A mounted file system, see proc(5) on mountinfo."""

    number: str  # of the device, major:minor; the major number 0 stands for none
    point: str
    kind: str
    source: str


def in_use(place: Place) -> dict[str, str]:
    """The PCI devices that carry a mounted file system or swap space, each with what it is, as a sentence."""
    found: dict[str, str] = {}
    for mount in mounts(place):
        for name in block_devices(place, mount):
            for address in behind(place, name):
                found.setdefault(address, f"the file system at {mount.point} is on it")
        if mount.kind == "zfs" or (mount.kind == "overlay" and mount.point == "/"):
            # ZFS' pools don't show in sysfs, nor what a live system's root is a layer over: it may be on any disk.
            for address in _storage(place):
                found.setdefault(address, f"the file system at {mount.point}, of type {mount.kind}, may be on it")
    for swap in swaps(place):
        for address in behind(place, _name(place, swap)):
            found.setdefault(address, f"the swap space {swap} is on it")
    return found


def mounts(place: Place) -> list[Mount]:
    """What is mounted, the root first and each deeper than the one before, so that the first to fit says most."""
    found = []
    # Those of the host, whatever its service manager lets us see.
    for line in _lines(f"{place.proc}/1/mountinfo"):
        fields, separator, rest = line.partition(" - ")
        before, behind_dash = fields.split(" "), rest.split(" ")
        if separator and len(before) >= 6 and len(behind_dash) >= 2:
            point, source = _unescaped(before[4]), _unescaped(behind_dash[1])
            found.append(Mount(before[2], point, behind_dash[0], source))
    return sorted(found, key=lambda mount: (mount.point.count("/"), mount.point))


def swaps(place: Place) -> list[str]:
    """The swap spaces that are partitions."""
    rows = [line.split() for line in _lines(f"{place.proc}/swaps")]
    return [_unescaped(row[0]) for row in rows if len(row) > 1 and row[1] == "partition"]


def block_devices(place: Place, mount: Mount) -> Iterator[str]:
    """The names of the block devices that the file system is on."""
    if not mount.number.startswith("0:"):
        yield os.path.basename(os.path.realpath(f"{place.sys}/dev/block/{mount.number}"))
        return
    # A file system with numbers of its own: btrfs has one device here and its others in sysfs, bcachefs has all
    # of them here.
    for source in mount.source.split(":"):
        if source.startswith("/dev/"):
            name = _name(place, source)
            yield name
            yield from _siblings(place, name)


def behind(place: Place, name: str) -> set[str]:
    """The addresses of all PCI devices between the block device and the processor."""
    path = os.path.realpath(f"{place.sys}/class/block/{name}")
    found = {part for part in path.split("/") if is_address(part)}
    # A partition's directory is in its disk's.
    for directory in (path, os.path.dirname(path)):
        for lower in entries(directory + "/slaves"):
            found |= behind(place, lower)
    # A disk that has, or could have, several ways to it belongs to none of its controllers.
    for part in _subsystem(path):
        found |= {one for one in os.path.realpath(part).split("/") if is_address(one)}
    return found


def _subsystem(path: str) -> list[str]:
    """The links to the controllers of an NVMe subsystem that *path* is in."""
    head, separator, tail = path.partition("/nvme-subsystem/")
    if not separator:
        return []
    directory = head + separator + tail.partition("/")[0]
    links = [f"{directory}/{name}" for name in entries(directory)]
    return [one for one in links if os.path.islink(one) and os.path.basename(one).startswith("nvme")]


def _siblings(place: Place, name: str) -> Iterator[str]:
    """The other block devices of the btrfs that *name* is one of."""
    for system in entries(f"{place.sys}/fs/btrfs"):
        names = entries(f"{place.sys}/fs/btrfs/{system}/devices")
        if name in names:
            yield from names


def _storage(place: Place) -> list[str]:
    names = [name for name in entries(place.devices) if is_address(name)]
    return [name for name in names if attribute(f"{place.devices}/{name}/class")[2:4] == _STORAGE]


def _name(place: Place, path: str) -> str:
    """The kernel's name of the block device at *path*, which may be a link of udev's."""
    return os.path.basename(os.path.realpath(place.in_dev(path)))


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _unescaped(text: str) -> str:
    """*text* without the octal escapes that spaces and their like have there."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
