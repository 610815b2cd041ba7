"""Machines on record, made into trees that look like /sys, /proc and /dev, and a kernel that answers writes there.

A record is a text file, one fact a line, ``#`` to the end of a line is a comment:

    ADDRESS CLASS VENDOR:PRODUCT DRIVER GROUP [fact...]   a PCI device, by address without the domain 0000;
                                                          "-" is no driver, no group
    stacked NAME on DEVICE...                             a block device made of others (device mapper, RAID)
    btrfs ID on DEVICE...                                 a file system over several devices
    mounted POINT SOURCE TYPE                             a file system; SOURCE is a block device's name or free text
    swap DEVICE

The facts about a device: ``under=ADDRESS`` the bridge it is behind; ``net=NAME`` an interface; ``disk=NAME,PART,...``
a disk with its partitions; ``subsystem=NUMBER`` that disk is one of an NVMe subsystem with several ways to it;
``fb=NAME`` a frame buffer; ``physfn=ADDRESS`` it is a virtual function; ``boot_vga``; ``early`` its driver is in the
initramfs, and has the device before anything of ours runs.
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

from vm_pci.place import Place

RECORDS = Path(__file__).parent / "machines"
BRIDGES = ("0604", "0607", "0609")  # whose registers are laid out otherwise, which is why vfio-pci refuses them
VFIO_MAJOR = 511
MISC = "10:196"


class Record(NamedTuple):
    address: str
    kind: str
    vendor: str
    product: str
    driver: str
    group: str
    facts: dict[str, str]

    def directory(self, of: "dict[str, Record]") -> str:
        """Where the device is below /sys/devices: in its bridge's directory."""
        above = self.facts.get("under", "")
        if above:
            return f"{of[full(above)].directory(of)}/{self.address}"
        return f"pci{self.address.rpartition(':')[0]}/{self.address}"


def full(address: str) -> str:
    return address if address.count(":") == 2 else f"0000:{address}"


class Machine:
    """A machine on record under *top*: before its drivers are loaded, apart from early ones, or as it runs."""

    def __init__(self, top: Path, name: str, *, booted: bool = True, iommu: bool = True) -> None:
        self.top = top
        self.sys = top / "sys"
        self.records: dict[str, Record] = {}
        self.numbers: dict[str, str] = {}
        self.mounted: list[tuple[str, str, str]] = []
        self.swaps: list[str] = []
        (top / "dev").mkdir(parents=True)
        (top / "plans").mkdir()
        later = []
        for line in (RECORDS / f"{name}.machine").read_text().splitlines():
            words = line.partition("#")[0].split()
            if words and words[0] in ("stacked", "btrfs", "mounted", "swap"):
                later.append(words)
            elif words:
                self._record(words, iommu=iommu)
        for name_of_bus in ("bus/pci/devices", "bus/pci/drivers", "class/block", "dev/block", "class/net"):
            (self.sys / name_of_bus).mkdir(parents=True, exist_ok=True)
        (self.sys / "bus/pci/drivers_probe").touch()
        for record in self.records.values():
            self._device(record)
        if iommu:
            (self.sys / "class/iommu/dmar0").mkdir(parents=True)
        for words in later:
            self._fact(words)
        self._proc()
        self.kernel = Kernel(self, booted=booted)
        self.place = Place(
            sys=str(self.sys),
            proc=str(top / "proc"),
            dev=str(top / "dev"),
            plans=str(top / "plans"),
            write=self.kernel.write,
        )

    def path(self, address: str) -> Path:
        """The directory of a device, by its shorter address."""
        return self.sys / "bus/pci/devices" / full(address)

    def driver(self, address: str) -> str:
        link = self.path(address) / "driver"
        return link.readlink().name if link.is_symlink() else ""

    def override(self, address: str) -> str:
        text = (self.path(address) / "driver_override").read_text().strip()
        return "" if text == "(null)" else text

    def drivers(self) -> dict[str, str]:
        return {address: self.driver(address) for address in self.records}

    def _record(self, words: list[str], *, iommu: bool) -> None:
        address, kind, numbers, driver, group, *facts = words
        vendor, _, product = numbers.partition(":")
        split = dict(fact.partition("=")[::2] for fact in facts)
        known = "" if driver == "-" else driver
        number = "" if group == "-" or not iommu else group
        self.records[full(address)] = Record(full(address), kind, vendor, product, known, number, split)

    def _device(self, record: Record) -> None:
        directory = self.sys / "devices" / record.directory(self.records)
        directory.mkdir(parents=True, exist_ok=True)
        self._link(self.path(record.address), directory)
        (directory / "class").write_text(f"0x{record.kind}00\n")
        (directory / "vendor").write_text(f"0x{record.vendor}\n")
        (directory / "device").write_text(f"0x{record.product}\n")
        (directory / "driver_override").write_text("(null)\n")
        if record.kind.startswith("03"):
            (directory / "boot_vga").write_text(f"{int('boot_vga' in record.facts)}\n")
        if record.group:
            group = self.sys / "kernel/iommu_groups" / record.group
            self._link(directory / "iommu_group", group)
            self._link(group / "devices" / record.address, directory)
        facts = record.facts
        if "physfn" in facts:
            (directory / "physfn").symlink_to(f"../{full(facts['physfn'])}")
        if "net" in facts:
            (directory / "net" / facts["net"]).mkdir(parents=True)
            self._link(self.sys / "class/net" / facts["net"], directory / "net" / facts["net"])
        if "fb" in facts:
            buffer = directory / "graphics" / facts["fb"]
            self._link(buffer / "device", directory)
            self._link(self.sys / "class/graphics" / facts["fb"], buffer)
        if "disk" in facts:
            self._disk(directory, facts)

    def _disk(self, directory: Path, facts: dict[str, str]) -> None:
        disk, *partitions = facts["disk"].split(",")
        place = directory / "host0"
        if "subsystem" in facts:
            controller = directory / "nvme" / f"nvme{facts['subsystem']}"
            place = self.sys / "devices/virtual/nvme-subsystem" / f"nvme-subsys{facts['subsystem']}"
            self._link(place / controller.name, controller)
        for path in (place / disk, *(place / disk / partition for partition in partitions)):
            self._block(path)

    def _block(self, path: Path) -> None:
        path.mkdir(parents=True)
        number = f"{8 + len(self.numbers)}:0"
        self.numbers[path.name] = number
        self._link(self.sys / "class/block" / path.name, path)
        self._link(self.sys / "dev/block" / number, path)
        (self.top / "dev" / path.name).touch()

    def _fact(self, words: list[str]) -> None:
        match words:
            case ["stacked", name, "on", *below]:
                directory = self.sys / "devices/virtual/block" / name
                self._block(directory)
                for one in below:
                    self._link(directory / "slaves" / one, (self.sys / "class/block" / one).resolve())
            case ["btrfs", name, "on", *below]:
                for one in below:
                    directory = (self.sys / "class/block" / one).resolve()
                    self._link(self.sys / "fs/btrfs" / name / "devices" / one, directory)
            case ["mounted", point, source, kind]:
                self.mounted.append((point, source, kind))
            case ["swap", device]:
                self.swaps.append(device)
            case _:
                raise AssertionError(f"not understood: {words}")

    def _proc(self) -> None:
        (self.top / "proc/1").mkdir(parents=True)
        lines = ["22 1 0:21 / /proc rw - proc proc rw"]
        for point, source, kind in self.mounted:
            own = kind in ("btrfs", "zfs")  # a number of its own, which no block device has
            number = "0:40" if own else self.numbers[source]
            path = source if kind == "zfs" else f"/dev/{source}"
            lines.append(f"30 22 {number} / {point} rw,relatime shared:1 - {kind} {path} rw")
        (self.top / "proc/1/mountinfo").write_text("\n".join(lines) + "\n")
        rows = ["Filename\tType\tSize\tUsed\tPriority", *(f"/dev/{name} partition 1 0 -2" for name in self.swaps)]
        (self.top / "proc/swaps").write_text("\n".join(rows) + "\n")

    def _link(self, link: Path, target: Path) -> None:
        link.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))


class Kernel:
    """What the kernel does when drivers are loaded, and about writes to the files that concern them.

    Anything else that is written, or in another form, is a mistake, and told as the kernel would.
    """

    def __init__(self, machine: Machine, *, booted: bool) -> None:
        self.machine = machine
        self.loaded: set[str] = set()
        self.stubborn: set[str] = set()  # devices that no driver of VFIO's gets to work
        self.stuck: set[str] = set()  # devices whose driver does not let go
        self.written: list[tuple[str, str]] = []
        self.load("vfio-pci")
        for record in machine.records.values():
            if record.driver == "pcieport" or "early" in record.facts or booted:
                self.load(record.driver)

    def load(self, driver: str) -> None:
        """Load a driver, which then gets all devices that it knows and nobody has."""
        if not driver:
            return
        self.loaded.add(driver)
        (self.machine.sys / "bus/pci/drivers" / driver).mkdir(exist_ok=True)
        if driver == "vfio-pci":
            self._node("class/misc/vfio", MISC)
        for address in self.machine.records:
            self.probe(address)

    def write(self, path: str, text: str) -> None:
        self.written.append((path, text))
        below = Path(path).relative_to(self.machine.sys).parts
        match below:
            case ("bus", "pci", "devices", address, "driver_override"):
                self._known(address)
                attribute = Path(path)
                attribute.write_text((text.strip() or "(null)") + "\n")
            case ("bus", "pci", "devices", address, "driver", "unbind"):
                self._known(address)
                if text.strip() != address or not self.machine.driver(address):
                    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                if address in self.stuck:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                self._unbind(address)
            case ("bus", "pci", "drivers_probe"):
                self._known(text.strip())
                self.probe(text.strip())
            case _:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def probe(self, address: str) -> None:
        record = self.machine.records[address]
        if self.machine.driver(address):
            return
        wanted = self.machine.override(address) or record.driver
        if wanted not in self.loaded:
            return
        if wanted == "vfio-pci":
            if not record.group or record.kind in BRIDGES or address in self.stubborn:
                return
            self._node(f"class/vfio/{record.group}", f"{VFIO_MAJOR}:{record.group}")
        driver = self.machine.sys / "bus/pci/drivers" / wanted
        (self.machine.path(address) / "driver").symlink_to(
            os.path.relpath(driver, self.machine.path(address).resolve())
        )

    def _unbind(self, address: str) -> None:
        (self.machine.path(address) / "driver").unlink()

    def _known(self, address: str) -> None:
        if address not in self.machine.records:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def _node(self, place: str, number: str) -> None:
        directory = self.machine.sys / place
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "dev").write_text(number + "\n")
