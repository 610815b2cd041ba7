"""What the host can't do without, on machines on record."""

import os

import pytest

from pci.conftest import Make, attach, call, configure
from vm_pci.disks import in_use
from vmsilo.failure import EX_NOPERM

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="vm-pci is root's")

Capture = pytest.CaptureFixture[str]

ROOT = "the file system at / is on it"

# Machine, device, and why it stays.
NEEDED = [
    ("alder-lake-desktop", "05:00.0", ROOT),  # device mapper over a partition
    ("alder-lake-desktop", "06:00.0", "the file system at /mnt/wd is on it"),
    ("alder-lake-desktop", "00:02.0", "it is the graphics card of the console"),
    ("z370-desktop", "00:17.0", ROOT),  # device mapper over RAID
    ("z370-desktop", "05:00.0", "the file system at /home is on it"),  # btrfs
    ("truenas", "00:17.0", "the file system at /, of type zfs, may be on it"),
    ("truenas", "03:00.0", "the file system at /, of type zfs, may be on it"),
    ("ryzen-laptop", "02:00.0", ROOT),  # an NVMe subsystem
    ("ryzen-laptop", "01:00.0", "it is the only network card that the host has left"),
    ("ryzen-laptop", "c1:00.0", "it is the graphics card of the console"),
    ("server", "00:1f.2", ROOT),
    ("server", "10000:01:00.0", "the file system at /srv is on it"),
    ("server", "07:00.0", "it is the graphics card of the console"),
]

# Machine and device that the host can do without.
SPARE = [
    ("alder-lake-desktop", "04:00.0"),
    ("alder-lake-desktop", "03:00.0"),
    ("alder-lake-desktop", "00:17.0"),  # its disk is not mounted
    ("alder-lake-desktop", "08:00.0"),
    ("z370-desktop", "01:00.0"),
    ("z370-desktop", "00:14.0"),
    ("ryzen-laptop", "c1:00.4"),
    ("server", "01:00.0"),
    ("server", "82:10.1"),
    ("server", "84:00.0"),
    ("server", "09:01.0"),
]


@pytest.mark.parametrize("booted", [True, False], ids=["running", "early"])
@pytest.mark.parametrize(("name", "address", "reason"), NEEDED)
def test_stays_with_the_host(
    make: Make, name: str, address: str, reason: str, capsys: Capture, *, booted: bool
) -> None:
    machine = make(name, booted=booted)
    before = machine.drivers()
    configure(machine, address)
    assert call(machine, "isolate") == EX_NOPERM
    full = address if address.count(":") == 2 else f"0000:{address}"
    assert capsys.readouterr().err == (
        f"vm-pci: {full} stays with the host: {reason}"
        " (to take it all the same, write force = true beside it in the VM's pciDevices)\n"
    )
    assert machine.drivers() == before


@pytest.mark.parametrize(("name", "address", "reason"), NEEDED)
def test_force(make: Make, name: str, address: str, reason: str) -> None:
    machine = make(name)
    configure(machine, address, force=(address,))
    assert call(machine, "isolate") == 0
    assert machine.driver(address) == "vfio-pci"


@pytest.mark.parametrize(("name", "address", "reason"), NEEDED)
def test_stays_with_the_host_when_a_vm_starts(
    make: Make, name: str, address: str, reason: str, capsys: Capture
) -> None:
    """As long as it is the host's; what is isolated is not."""
    machine = make(name)
    configure(machine, address, work=(address,))
    assert attach(machine, "work") == EX_NOPERM
    assert reason in capsys.readouterr().err
    assert machine.driver(address) != "vfio-pci"
    configure(machine, address, force=(address,))
    call(machine, "isolate")
    configure(machine, address, work=(address,))
    attach(machine, "work")
    assert reason not in capsys.readouterr().err


@pytest.mark.parametrize(("name", "address"), SPARE)
def test_spare(make: Make, name: str, address: str) -> None:
    machine = make(name)
    configure(machine, address)
    assert call(machine, "isolate") == 0
    assert machine.driver(address) == "vfio-pci"


def test_the_last_of_several_network_cards(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "00:1f.6", "03:00.0", "04:00.0")
    assert call(machine, "isolate") == EX_NOPERM
    assert "0000:04:00.0 stays with the host: it is the only network card" in capsys.readouterr().err
    assert [machine.driver(one) for one in ("00:1f.6", "03:00.0", "04:00.0")] == ["vfio-pci", "vfio-pci", "iwlwifi"]


def test_swap(make: Make) -> None:
    machine = make("ryzen-laptop")
    mounts = machine.top / "proc/1/mountinfo"
    mounts.write_text("\n".join(line for line in mounts.read_text().splitlines() if "/dev/" not in line))
    assert in_use(machine.place)["0000:02:00.0"] == "the swap space /dev/nvme0n1p2 is on it"


def test_btrfs_over_several_disks(make: Make) -> None:
    """Only one of its devices is named by the mount."""
    machine = make("alder-lake-desktop")
    place = machine.sys / "fs/btrfs/77aa/devices"
    place.mkdir(parents=True)
    for name in ("sda1", "nvme1n1p1"):
        (place / name).symlink_to((machine.sys / "class/block" / name).resolve())
    (machine.top / "proc/1/mountinfo").write_text("30 22 0:40 / /data\\040here rw - btrfs /dev/sda1 rw\n")
    found = in_use(machine.place)
    assert found["0000:06:00.0"] == found["0000:00:17.0"] == "the file system at /data here is on it"
    assert "0000:05:00.0" not in found


def test_layer_over_what_nobody_sees(make: Make) -> None:
    """A live system, whose initramfs left nothing in sight but the layer; a container's is no such thing."""
    machine = make("alder-lake-desktop")
    mounts = machine.top / "proc/1/mountinfo"
    mounts.write_text("30 22 0:40 / / rw - overlay overlay rw,lowerdir=/lower\n")
    assert in_use(machine.place)["0000:05:00.0"] == "the file system at /, of type overlay, may be on it"
    mounts.write_text("30 22 0:40 / /var/lib/container/merged rw - overlay overlay rw,lowerdir=/lower\n")
    assert in_use(machine.place) == {}


def test_nothing_mounted_needs_nothing(make: Make) -> None:
    machine = make("alder-lake-desktop")
    (machine.top / "proc/1/mountinfo").write_text("22 1 0:21 / /proc rw - proc proc rw\nnonsense\n")
    assert in_use(machine.place) == {}
