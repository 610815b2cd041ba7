"""PCI devices, as far as a host goes whose devices belong to somebody else: none of them is ever named here."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vmsilo import names, paths

VM = "passed"
NOBODY_S = "ffff:ff:1f.7"  # no machine has so many buses


@pytest.fixture
def passed(lab: Host) -> Iterator[str]:
    """A VM that wants a device that there isn't."""
    lab.configure({"host": f'{config.HOST}isolatedPciDevices = ["{NOBODY_S}"]\n'})
    with lab.configured({VM: config.vm("minimal", f'[[pciDevices]]\npath = "{NOBODY_S}"')}):
        yield VM
    lab.systemctl("stop", names.PCI_ISOLATION_UNIT, check=False)
    lab.configure({"host": config.HOST})


def test_missing_device_is_no_failure_of_the_boot(lab: Host, passed: str) -> None:
    lab.systemctl("restart", names.PCI_ISOLATION_UNIT)
    assert lab.state(names.PCI_ISOLATION_UNIT) == "active"
    said = lab.run("journalctl", "-b", "-o", "cat", "-u", names.PCI_ISOLATION_UNIT).out
    assert f"vm-pci: there is no PCI device {NOBODY_S}" in said
    wanted = lab.run("systemctl", "list-dependencies", "--plain", "sysinit.target").out
    assert names.PCI_ISOLATION_UNIT in wanted


def test_who_starts_the_vm_is_told(lab: Host, passed: str) -> None:
    reason = f"{names.pci_unit(passed)} failed: there is no PCI device {NOBODY_S}"
    started = lab.run("vm-start", passed, user=USER, check=False)
    assert started.code
    assert reason in started.err
    ran = lab.vm_run(passed, "true", check=False)
    assert ran.code == 255
    assert reason in ran.err


def test_units_may_write_to_sysfs_where_devices_are_and_nowhere_else(lab: Host, passed: str) -> None:
    """Asked, and not tried: the devices are not ours."""
    open_to_them = [
        "/sys/bus/pci/drivers_probe",
        *lab.run("sh", "-c", f"ls -d {paths.PCI_DEVICES}/*/*override").out.split(),
    ]
    closed = [
        "/sys/kernel/mm/ksm/run",
        "/sys/module",
        "/etc",
        "/usr",
        "/var",
        "/run/systemd",
        "/proc/sys/kernel/panic",
    ]
    tests = " ".join([*open_to_them, *closed])
    script = f"for file in {tests}; do test -w $file && echo may write $file; done; true"
    for unit in (names.PCI_ISOLATION_UNIT, names.pci_unit(passed)):
        lab.write(
            f"/run/systemd/system/{unit}.d/try.conf", f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{script}'\n"
        )
        lab.systemctl("daemon-reload")
        # As on a host. The lab's is read-only, of which systemd 252 would open no part.
        lab.run("mount", "-o", "remount,rw", "/sys")
        try:
            lab.systemctl("restart", unit)
        finally:
            lab.run("mount", "-o", "remount,ro", "/sys")
        said = lab.journal("-b", "-o", "cat", "-u", unit)
        lab.run("rm", "-r", f"/run/systemd/system/{unit}.d")
        lab.systemctl("daemon-reload")
        lab.systemctl("stop", unit)
        assert [line[10:] for line in said.splitlines() if line.startswith("may write ")] == open_to_them


def test_hypervisor_finds_its_own_nodes_in_place_of_all(lab: Host, passed: str) -> None:
    """With nodes of null(4) instead of VFIO's, which the lab's kernel has none of."""
    made = ["vfio", "12", NOBODY_S]
    for vm in (passed, "another"):
        lab.run("mkdir", "-p", paths.pci_grant(vm))
        for name in made if vm == passed else ["13"]:
            lab.run("mknod", "-m", "666", f"{paths.pci_grant(vm)}/{name}", "c", "1", "3")
    lab.run("chmod", "700", paths.PCI_GRANTS)
    text = lab.read(f"{paths.GENERATOR_DIR}/{names.vm_unit(passed)}")
    told = ("DynamicUser=", "User=", "PrivateUsers=", "PrivateDevices=", "Device", "BindPaths=-/dev/vmsilo")
    kept = [line for line in text.splitlines() if line.startswith(told)]
    assert any("/dev/vfio" in line for line in kept)
    script = "for n in /dev/vfio/*; do echo $n; echo x >$n && echo opened; done; test -e /dev/vmsilo || echo hidden"
    unit = "pci-try.service"
    lines = ["[Service]", "Type=oneshot", *kept, f"ExecStart=/bin/sh -c '{script.replace('$', '$$')}'", ""]
    lab.write(f"/run/systemd/system/{unit}", "\n".join(lines))
    try:
        lab.systemctl("daemon-reload")
        lab.systemctl("start", unit)
    finally:
        lab.run("rm", "-r", paths.PCI_GRANTS, f"/run/systemd/system/{unit}")
    said = lab.run("journalctl", "-b", "-o", "cat", "_SYSTEMD_UNIT=" + unit).out.splitlines()
    assert sorted(line for line in said if line.startswith("/dev")) == sorted(f"/dev/vfio/{name}" for name in made)
    assert said.count("opened") == len(made)
    assert said[-1] == "hidden"


def test_list(lab: Host, passed: str) -> None:
    """Whatever the machine has, an ordinary user may see it."""
    lab.run("mkdir", "-m", "0700", paths.PCI_GRANTS)
    try:
        assert lab.run("vm-pci", "list", user=USER).out.startswith("DEVICE")
        assert lab.run("vm-pci", "list").out.startswith("DEVICE")
    finally:
        lab.run("rmdir", paths.PCI_GRANTS)
    refused = lab.run("vm-pci", "isolate", user=USER, check=False)
    assert "only root" in refused.err
