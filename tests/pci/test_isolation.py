"""Taking devices from the host's drivers and giving them back, on machines on record."""

import os

import pytest

from pci.conftest import Make, attach, call, configure
from vmsilo.failure import EX_NOPERM, EX_OSERR, EX_TEMPFAIL, EX_UNAVAILABLE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="vm-pci is root's")

Capture = pytest.CaptureFixture[str]


def test_before_any_driver_is_loaded(make: Make, capsys: Capture) -> None:
    """As early in the boot: the drivers that come later get all but what is isolated."""
    machine = make("z370-desktop", booted=False)
    configure(machine, "01:00.0", "01:00.1")
    assert call(machine, "isolate") == 0
    assert capsys.readouterr().out == "0000:01:00.0: isolated\n0000:01:00.1: isolated\n"
    for driver in ("nouveau", "snd_hda_intel", "igb"):
        machine.kernel.load(driver)
    assert [machine.driver(one) for one in ("01:00.0", "01:00.1")] == ["vfio-pci", "vfio-pci"]
    assert [machine.driver(one) for one in ("00:1f.3", "03:00.0")] == ["snd_hda_intel", "igb"]


def test_taken_already(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "01:00.1")
    assert call(machine, "isolate") == 0
    assert "0000:01:00.0: isolated, taken from nouveau\n" in capsys.readouterr().out
    assert machine.driver("01:00.0") == "vfio-pci"


def test_by_a_driver_of_the_initramfs(make: Make) -> None:
    machine = make("alder-lake-desktop", booted=False)
    configure(machine, "06:00.0", force=("06:00.0",))
    assert machine.driver("06:00.0") == "nvme"
    assert call(machine, "isolate") == 0
    assert machine.driver("06:00.0") == "vfio-pci"


def test_again_changes_nothing(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "01:00.1")
    call(machine, "isolate")
    before = machine.drivers()
    written = list(machine.kernel.written)
    capsys.readouterr()
    assert call(machine, "isolate") == 0
    assert capsys.readouterr().out == "0000:01:00.0: is isolated already\n0000:01:00.1: is isolated already\n"
    assert machine.drivers() == before
    assert machine.kernel.written == written


def test_bound_by_other_means_is_kept(make: Make) -> None:
    """vfio-pci.ids= on the kernel's command line binds, but keeps nobody else from it after a release."""
    machine = make("z370-desktop")
    configure(machine, "01:00.0")
    machine.kernel.write(str(machine.path("01:00.0") / "driver_override"), "vfio-pci")
    machine.kernel.write(str(machine.path("01:00.0") / "driver/unbind"), "0000:01:00.0")
    machine.kernel.write(str(machine.sys / "bus/pci/drivers_probe"), "0000:01:00.0")
    machine.kernel.write(str(machine.path("01:00.0") / "driver_override"), "\n")
    assert call(machine, "isolate") == 0
    assert machine.override("01:00.0") == "vfio-pci"


def test_missing_is_told_and_no_failure(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.2", "01:00.0")
    assert call(machine, "isolate") == 0
    said = capsys.readouterr()
    assert said.out == "0000:01:00.0: isolated, taken from nouveau\n"
    assert said.err.startswith("vm-pci: there is no PCI device 0000:01:00.2 (near it are 0000:01:00.0, 0000:01:00.1")


def test_nothing_configured(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    assert call(machine, "isolate") == 0
    assert capsys.readouterr().err == "vm-pci: no device is configured: see isolatedPciDevices in vmsilo.toml(5)\n"


def test_no_iommu(make: Make, capsys: Capture) -> None:
    """The host keeps what no VM could get."""
    machine = make("z370-desktop", iommu=False)
    configure(machine, "01:00.0")
    assert call(machine, "isolate") == EX_UNAVAILABLE
    said = capsys.readouterr().err
    assert said.startswith("vm-pci: the kernel uses no IOMMU, without which 0000:01:00.0 could reach all")
    assert "intel_iommu=on" in said
    assert machine.driver("01:00.0") == "nouveau"
    assert machine.override("01:00.0") == ""


def test_driver_that_refuses(make: Make, capsys: Capture) -> None:
    """The device is back where it was."""
    machine = make("z370-desktop")
    configure(machine, "01:00.0")
    machine.kernel.stubborn.add("0000:01:00.0")
    assert call(machine, "isolate") == EX_OSERR
    assert "vfio-pci did not take 0000:01:00.0, which nouveau had, (the kernel's log" in capsys.readouterr().err
    assert machine.driver("01:00.0") == "nouveau"
    assert machine.override("01:00.0") == ""


def test_driver_that_holds_on(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "01:00.1")
    machine.kernel.stuck.add("0000:01:00.0")
    assert call(machine, "isolate") == EX_OSERR
    assert "unbind: Device or resource busy" in capsys.readouterr().err
    assert machine.driver("01:00.0") == "nouveau"
    assert machine.override("01:00.0") == ""
    assert machine.driver("01:00.1") == "vfio-pci"


def test_bridge(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "00:01.0", force=("00:01.0",))
    assert call(machine, "isolate") == EX_NOPERM
    assert capsys.readouterr().err == "vm-pci: 0000:00:01.0 is a bridge (name the devices behind it)\n"
    assert machine.driver("00:01.0") == "pcieport"


def test_release_undoes(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    before = machine.drivers()
    configure(machine, "01:00.0", "01:00.1", "03:00.0")
    call(machine, "isolate")
    assert machine.drivers() != before
    capsys.readouterr()
    assert call(machine, "release", "01:00.0", "/sys/bus/pci/devices/0000:01:00.1/", "03:00.0") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:2] == [
        "0000:01:00.0: given back to nouveau",
        "0000:01:00.1: given back to snd_hda_intel",
    ]
    assert "isolated again at the next boot" in said.err
    assert machine.drivers() == before
    assert {machine.override(address) for address in machine.records} == {""}


def test_release_of_what_is_no_longer_listed(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "03:00.0")
    call(machine, "isolate")
    configure(machine, "01:00.0")
    assert call(machine, "isolate") == 0
    assert machine.driver("03:00.0") == "vfio-pci"  # taking it out of the list alone gives nothing back
    assert call(machine, "release") == 0
    assert machine.driver("03:00.0") == "igb"
    assert machine.driver("01:00.0") == "vfio-pci"
    assert "isolated again" not in capsys.readouterr().err


def test_release_of_all(make: Make) -> None:
    machine = make("z370-desktop")
    before = machine.drivers()
    configure(machine, "01:00.0", "03:00.0")
    call(machine, "isolate")
    assert call(machine, "release", "--all") == 0
    assert machine.drivers() == before


def test_release_of_what_is_not_isolated(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    assert call(machine, "release", "03:00.0", "1:2") != 0
    assert "'1:2' is no device: expected a PCI address" in capsys.readouterr().err
    assert call(machine, "release", "03:00.0") == 0
    assert capsys.readouterr().out == "0000:03:00.0: was not isolated, igb has it\n"


def test_release_waits_for_no_vm(make: Make, capsys: Capture) -> None:
    machine = make("z370-desktop")
    configure(machine, "01:00.0", "01:00.1", games=("01:00.0", "01:00.1"))
    assert attach(machine, "games") == 0
    assert call(machine, "release", "01:00.0") == EX_TEMPFAIL
    assert capsys.readouterr().err == "vm-pci: VM games has 0000:01:00.0 (stop it first: vm-stop games)\n"
    assert machine.driver("01:00.0") == "vfio-pci"
    assert call(machine, "detach", "games") == 0
    assert call(machine, "release", "01:00.0") == 0


def test_release_waits_for_no_other_program(make: Make, capsys: Capture) -> None:
    """The kernel would not return from an unbind while somebody has the group open."""
    machine = make("z370-desktop")
    configure(machine, "03:00.0")
    call(machine, "isolate")
    process = machine.top / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "fd/7").symlink_to("/dev/vfio/12")
    (process / "comm").write_text("qemu-system-x86\n")
    assert call(machine, "release", "03:00.0") == EX_TEMPFAIL
    assert "process 4711 (qemu-system-x86) has 0000:03:00.0 open" in capsys.readouterr().err
    assert machine.driver("03:00.0") == "vfio-pci"


@pytest.mark.parametrize("arguments", [[], ["isolate", "x"], ["release", "--al"], ["attach"], ["list", "-x"], ["x"]])
def test_usage(make: Make, arguments: list[str], capsys: Capture) -> None:
    assert call(make("z370-desktop"), *arguments) == os.EX_USAGE
    assert capsys.readouterr().err.startswith("usage: vm-pci list")
