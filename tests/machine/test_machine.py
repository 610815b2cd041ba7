"""The machine itself: it has what the lab's kernel may lack, so that the other tests mean something."""

import subprocess

import pytest

from machine import hardware
from machine.computer import Machine


def test_it_runs(machine: Machine) -> None:
    assert machine.systemctl("is-system-running").out == "running\n"
    assert machine.systemctl("list-units", "--failed", "--plain", "--no-legend").out == ""


def test_control_group_controllers(machine: Machine) -> None:
    assert {"cpu", "memory", "pids"} <= set(machine.read("/sys/fs/cgroup/cgroup.controllers").split())


def test_landlock(machine: Machine) -> None:
    assert "landlock" in machine.read("/sys/kernel/security/lsm").split(",")


def test_hyperthreads(machine: Machine) -> None:
    assert machine.read("/sys/devices/system/cpu/smt/active") == "1\n"


def test_kernel_vsock(machine: Machine) -> None:
    assert machine.exists("/dev/vhost-vsock")


def group(machine: Machine, address: str) -> set[str]:
    """The devices of the IOMMU group of the one at *address*."""
    return set(machine.run("ls", f"/sys/bus/pci/devices/{address}/iommu_group/devices").out.split())


@pytest.mark.parametrize("address", [hardware.TAKEN_AT_BOOT, hardware.NETWORK, hardware.PLAIN])
def test_devices_alone_in_their_group(machine: Machine, address: str) -> None:
    assert group(machine, address) == {address}


def test_devices_that_share_a_group(machine: Machine) -> None:
    assert group(machine, hardware.FUNCTIONS[0]) == set(hardware.FUNCTIONS)
    assert group(machine, hardware.BRIDGED[0]) == {hardware.BRIDGE, *hardware.BRIDGED}


# The handle, as far as it is not the lab's.


def test_a_command_s_end_is_told(machine: Machine) -> None:
    done = machine.run("sh", "-c", "cat; echo wrong >&2; exit 7", input="given", check=False)
    assert (done.code, done.out, done.err) == (7, "given", "wrong\n")
    assert machine.run("sh", "-c", "kill -9 $$", check=False).code == -9
    assert machine.run("/no/such/program", check=False).code == 127


def test_much_passes_both_ways(machine: Machine) -> None:
    given = bytes(range(256)) * 4096
    assert machine.run("cat", input=given).raw == given


def test_commands_run_side_by_side(machine: Machine) -> None:
    first, second = (machine.start("cat") for _ in range(2))
    second.write(b"second\n")
    assert second.read_line() == b"second\n"
    first.write(b"first\n")
    assert first.read_line() == b"first\n"
    for process in (first, second):
        process.wait()


def test_a_client_that_dies_takes_its_command_along(machine: Machine) -> None:
    process = machine.start("sleep", "1234.5", stdin=subprocess.DEVNULL)
    machine.wait_for(lambda: "sleep 1234.5" in machine.processes())
    process.popen.kill()
    process.popen.wait()
    machine.wait_for(lambda: "sleep 1234.5" not in machine.processes())
