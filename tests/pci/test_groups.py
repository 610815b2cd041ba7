"""Handing IOMMU groups to VMs, on machines on record."""

import os
import stat

import pytest

from pci.conftest import Make, attach, call, configure
from pci.machine import Machine
from vm_pci import listing, plans
from vmsilo.failure import EX_NOINPUT, EX_TEMPFAIL, EX_UNAVAILABLE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="vm-pci is root's")

Capture = pytest.CaptureFixture[str]


def nodes(machine: Machine, vm: str) -> dict[str, tuple[int, int]]:
    """The character devices that the VM's hypervisor sees, with their numbers; all of them anybody may open."""
    found = {}
    for path in (machine.top / "dev/vmsilo" / vm).iterdir():
        info = path.stat()
        assert stat.S_ISCHR(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == 0o666
        found[path.name] = (os.major(info.st_rdev), os.minor(info.st_rdev))
    return found


def test_attach_and_detach(make: Make) -> None:
    machine = make("alder-lake-desktop")
    configure(machine, "04:00.0", "04:00.1", "0a:00.0", games=("04:00.0", "04:00.1", "0a:00.0"))
    call(machine, "isolate")
    assert attach(machine, "games") == 0
    assert nodes(machine, "games") == {
        "vfio": (10, 196),
        "23": (511, 23),
        "28": (511, 28),
        "0000:04:00.0": (511, 23),
        "0000:04:00.1": (511, 23),
        "0000:0a:00.0": (511, 28),
    }
    top = machine.top / "dev/vmsilo"
    assert stat.S_IMODE(top.stat().st_mode) == 0o700  # nobody but root gets to the nodes by this way
    assert call(machine, "detach", "games") == 0
    assert list(top.iterdir()) == []
    assert call(machine, "detach", "games") == 0
    assert machine.driver("04:00.0") == "vfio-pci"


def test_attach_isolates_what_is_not_yet(make: Make, capsys: Capture) -> None:
    """A device that came after the boot, or into the configuration, and another of its group that is listed."""
    machine = make("alder-lake-desktop")
    configure(machine, "04:00.0", "04:00.1", games=("04:00.0",))
    assert attach(machine, "games") == 0
    assert capsys.readouterr().out == (
        "0000:04:00.0 was taken from amdgpu\n0000:04:00.1 isolated, taken from snd_hda_intel\n"
    )
    assert machine.driver("04:00.1") == "vfio-pci"
    assert set(nodes(machine, "games")) == {"vfio", "23", "0000:04:00.0"}


# What a GeForce is beside a graphics card.
GEFORCE = ("0000:01:00.1 (snd_hda_intel)", "0000:01:00.2 (xhci_hcd)", "0000:01:00.3 (nvidia-gpu)")
# Machine, devices of the VM, and the group as the message has it.
INCOMPLETE = [
    ("alder-lake-desktop", ("04:00.0",), "23 of 0000:04:00.0 also has 0000:04:00.1 (snd_hda_intel)"),
    ("z370-desktop", ("01:00.0",), "2 of 0000:01:00.0 also has 0000:01:00.1 (snd_hda_intel)"),
    (
        "server",
        ("01:00.0",),
        f"30 of 0000:01:00.0 also has {', '.join(GEFORCE)}",
    ),
    (
        "server",
        ("84:00.1", "84:00.3"),
        "46 of 0000:84:00.1, 0000:84:00.3 also has 0000:84:00.0 (igb), 0000:84:00.2 (igb)",
    ),
    ("server", ("09:01.0",), "32 of 0000:09:01.0 also has 0000:09:02.0 (ath5k)"),
    ("z370-desktop", ("00:1f.3",), "10 of 0000:00:1f.3 also has 0000:00:1f.4 (i801_smbus)"),
]


@pytest.mark.parametrize(("name", "addresses", "message"), INCOMPLETE)
def test_incomplete_group(make: Make, name: str, addresses: tuple[str, ...], message: str, capsys: Capture) -> None:
    """Each device that is missing is named; ports and bridges, and what has no driver, are not."""
    machine = make(name)
    configure(machine, *addresses, work=addresses)
    call(machine, "isolate")
    capsys.readouterr()
    assert attach(machine, "work") == EX_UNAVAILABLE
    assert capsys.readouterr().err == (
        f"vm-pci: IOMMU group {message} (a group goes to a VM as a whole: add them to isolatedPciDevices)\n"
    )
    assert not (machine.top / "dev/vmsilo/work").exists()


COMPLETE = [
    ("z370-desktop", ("01:00.0", "01:00.1")),  # with the port they are behind
    ("server", ("09:01.0", "09:02.0")),  # with a bridge that no driver has
    ("server", ("82:10.1",)),  # a virtual function
    ("alder-lake-desktop", ("00:14.0",)),  # with a device that no driver has
    ("server", ("84:00.0", "84:00.1", "84:00.2", "84:00.3")),
]


@pytest.mark.parametrize(("name", "addresses"), COMPLETE)
def test_complete_group(make: Make, name: str, addresses: tuple[str, ...]) -> None:
    machine = make(name)
    configure(machine, *addresses, work=addresses)
    call(machine, "isolate")
    assert attach(machine, "work") == 0


def test_several_incomplete_groups_in_one_message(make: Make, capsys: Capture) -> None:
    machine = make("server")
    configure(machine, "84:00.0", "09:01.0", work=("84:00.0", "09:01.0"))
    assert attach(machine, "work") == EX_UNAVAILABLE
    said = capsys.readouterr().err
    assert "IOMMU group 46 of 0000:84:00.0 also has 0000:84:00.1 (igb)" in said
    assert "; IOMMU group 32 of 0000:09:01.0 also has 0000:09:02.0 (ath5k)" in said


def test_two_vms_on_one_group(make: Make, capsys: Capture) -> None:
    """Each has a device of its own, but the hardware can't tell them apart."""
    machine = make("server")
    functions = ("84:00.0", "84:00.1", "84:00.2", "84:00.3")
    configure(machine, *functions, one=functions[:2], two=functions[2:])
    call(machine, "isolate")
    assert attach(machine, "one") == 0
    assert attach(machine, "one") == 0  # again, as after a crash
    capsys.readouterr()
    assert attach(machine, "two") == EX_TEMPFAIL
    assert capsys.readouterr().err == (
        "vm-pci: IOMMU group 46 of 0000:84:00.2, 0000:84:00.3 belongs to VM one while that runs"
        " (one group is for one VM at a time)\n"
    )
    call(machine, "detach", "one")
    assert attach(machine, "two") == 0


def test_no_such_device(make: Make, capsys: Capture) -> None:
    machine = make("server")
    configure(machine, "82:10.5", work=("82:10.5",))
    assert attach(machine, "work") == EX_NOINPUT
    assert "there is no PCI device 0000:82:10.5 (near it are" in capsys.readouterr().err


def test_no_iommu(make: Make, capsys: Capture) -> None:
    machine = make("server", iommu=False)
    configure(machine, "01:00.0", work=("01:00.0",))
    assert attach(machine, "work") == EX_UNAVAILABLE
    assert "the kernel uses no IOMMU" in capsys.readouterr().err


def test_kernel_without_groups(make: Make, capsys: Capture) -> None:
    machine = make("server")
    configure(machine, "82:10.1", work=("82:10.1",))
    call(machine, "isolate")
    (machine.sys / "class/vfio/44/dev").unlink()
    assert attach(machine, "work") == EX_UNAVAILABLE
    assert "CONFIG_VFIO_GROUP" in capsys.readouterr().err


def test_detach_goes_nowhere_else(make: Make, capsys: Capture) -> None:
    machine = make("server")
    (machine.top / "dev/keep").mkdir()
    assert call(machine, "detach", "../keep") != 0
    assert (machine.top / "dev/keep").is_dir()


def test_list(make: Make) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "01:00.1", games=("01:00.0", "01:00.1"), work=("03:00.0",))
    attach(machine, "games")
    rows = {row.address: row for row in listing.rows(machine.place, plans.of_vms(machine.place))}
    assert "0000:00:01.0" not in rows  # a bridge
    card, sound, disk = (rows[f"0000:{address}"] for address in ("01:00.0", "01:00.1", "05:00.0"))
    assert (card.group, card.driver, card.isolated, card.configured, card.holder) == (
        *(2, "vfio-pci", True),
        *("games", "games"),
    )
    assert sound.holder == "games"
    assert (disk.group, disk.driver, disk.isolated, disk.configured, disk.holder) == (14, "nvme", False, None, None)
    assert rows["0000:03:00.0"].configured == "work"
    assert card.id == "10de:1d01"
    table = listing.as_table([card, disk]).splitlines()
    assert table[0].split() == ["DEVICE", "GROUP", "DRIVER", "ISOLATED", "VM", "ID", "NAME"]
    assert table[1].startswith("0000:01:00.0  2      vfio-pci  yes       games (has it)  10de:1d01")
