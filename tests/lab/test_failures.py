"""What goes wrong is said in one clear place, and harms nothing else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vmsilo import names

STUBBORN = "stubborn"


@contextmanager
def doomed(lab: Host, name: str, text: str) -> Iterator[str]:
    """A VM that can't start; its name."""
    with lab.configured({name: text}):
        yield name


def refusal(lab: Host, vm: str) -> tuple[str, str]:
    """What vm-run and the unit's status say of a VM that does not start."""
    done = lab.vm_run(vm, "true", check=False)
    assert done.code == 255
    assert "Traceback" not in done.err
    unit = names.vm_unit(vm)
    assert lab.state(unit) == "failed"
    return done.err, lab.show(unit, "StatusText")["StatusText"]


def test_no_image(lab: Host) -> None:
    with doomed(lab, "noimage", config.vm("nowhere")) as vm:
        said, status = refusal(lab, vm)
        assert "/var/lib/vmsilo/images/nowhere" in status
        assert status in said


def test_no_kernel(lab: Host) -> None:
    with doomed(lab, "nokernel", config.vm(kernel="/var/lib/no-kernel")) as vm:
        said, status = refusal(lab, vm)
        assert "/var/lib/no-kernel" in status
        assert status in said


def test_no_root_disk(lab: Host) -> None:
    with doomed(lab, "nodisk", config.vm(rootDisk="/var/lib/no-disk")) as vm:
        said, status = refusal(lab, vm)
        assert "/var/lib/no-disk" in status
        assert status in said


@pytest.mark.parametrize("hypervisor", ["cloud-hypervisor", "crosvm"])
def test_no_hypervisor(lab: Host, hypervisor: str) -> None:
    """Debian has none of the two."""
    with doomed(lab, "nobinary", config.vm(hypervisor=hypervisor)) as vm:
        said, status = refusal(lab, vm)
        assert hypervisor in status
        assert status in said


def test_a_guest_that_never_gets_ready(lab: Host) -> None:
    """Its init reads its console for ever."""
    text = config.vm(kernelParams=["init=/usr/bin/cat", "loglevel=7"], startTimeout=15)
    with doomed(lab, "never", text) as vm:
        before = lab.now()
        began = time.monotonic()
        said, status = refusal(lab, vm)
        assert 15 <= time.monotonic() - began < 60
        assert "15" in status
        assert status in said
        journal = lab.journal("--unit", names.vm_unit(vm), since=before)
        assert "console" in journal
        assert "Run /init as init process" in journal


def test_a_guest_that_ends_at_once(lab: Host) -> None:
    """Found out long before the timeout."""
    with doomed(lab, "brief", config.vm(kernelParams=["init=/usr/bin/false"])) as vm:
        began = time.monotonic()
        said, status = refusal(lab, vm)
        assert time.monotonic() - began < 100
        assert status
        assert status in said


BROKEN = 'hypervisor = "qemu"\nimage = "minimal"\nmemoryy = 256\n'


@pytest.fixture
def broken(lab: Host) -> Iterator[str]:
    with lab.configured({"broken": BROKEN, "healthy": config.vm(), "dependent": config.vm(dependsOn=["broken"])}):
        yield "broken"


def test_a_broken_vm_says_so_where_one_looks(lab: Host, broken: str) -> None:
    socket = names.command_socket_unit(broken)
    started = lab.systemctl("start", socket, check=False)
    assert started.code != 0
    status = lab.systemctl("status", "--full", socket, check=False).out
    assert "/etc/vmsilo.d/broken.toml:3:1" in status
    assert "memoryy" in status
    assert "memory" in status
    check = lab.run("/usr/lib/systemd/system-generators/vmsilo-generator", "--check", check=False)
    assert check.code == 1
    message = (check.out + check.err).splitlines()[0]
    assert message in status


def test_a_broken_vm_harms_no_other(lab: Host, broken: str) -> None:
    assert lab.vm_run("healthy", "echo fine").out == "fine\n"
    assert lab.vm_run(broken, "true", check=False).code == 255
    assert "memoryy" in lab.vm_run(broken, "true", check=False).err
    listed = {vm["name"]: vm for vm in lab.listed()}
    assert listed[broken]["state"] == "broken"
    assert "memoryy" in listed[broken]["message"]


def test_dependents_of_a_broken_vm_say_so(lab: Host, broken: str) -> None:
    said = lab.vm_run("dependent", "true", check=False)
    assert said.code == 255
    for text in ("dependent.toml", "dependsOn", broken, "memoryy"):
        assert text in said.err
    assert "memoryy" in lab.systemctl("status", "--full", names.command_socket_unit("dependent"), check=False).out


def test_power_button_ignored(lab: Host) -> None:
    """vm-stop waits as long as it was told, and then is not so patient."""
    with lab.configured({STUBBORN: config.vm(stopTimeout=4)}):
        lab.vm_run("--user", "root", STUBBORN, "killall acpid; true")
        began = time.monotonic()
        stopped = lab.run("vm-stop", STUBBORN, user=USER, check=False)
        took = time.monotonic() - began
        assert lab.state(names.vm_unit(STUBBORN)) in ("inactive", "failed")
        assert 4 <= took < 60, stopped
        assert lab.vm_run(STUBBORN, "echo up again").out == "up again\n"


def test_stop_by_force(lab: Host) -> None:
    with lab.configured({STUBBORN: config.vm(stopTimeout=100)}):
        lab.vm_run("--user", "root", STUBBORN, "killall acpid; true")
        began = time.monotonic()
        lab.run("vm-stop", "--force", STUBBORN, user=USER)
        assert time.monotonic() - began < 60
        assert lab.state(names.vm_unit(STUBBORN)) == "inactive"
