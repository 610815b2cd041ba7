"""What the units ask of a kernel that has it all: limits that are kept, and the figures of vmsilo-security(7)."""

from collections.abc import Iterator

import pytest
from lab import config
from lab.host import Result
from lab.test_exposure import judged

from machine.computer import Machine
from vmsilo import names, paths

VM = "walled"
UNIT = names.vm_unit(VM)
SLICE = names.slice_unit(VM)
PAGE = 4096

# As many threads as the kernel lets it have; how many, and the error that ended it.
THREADS = """
import threading
done, count = threading.Event(), 0
try:
    while count < 4000:
        threading.Thread(target=done.wait, daemon=True).start()
        count += 1
except RuntimeError:
    print(count)
done.set()
"""

# Touches twice as much memory as it may have.
MEMORY = """
held = bytearray(64 << 20)
held[::4096] = b"x" * len(held[::4096])
print("had it all")
"""


@pytest.fixture(scope="module", autouse=True)
def vm(machine: Machine) -> Iterator[None]:
    """A VM whose hypervisor runs; how far its guest gets does not matter."""
    with machine.configured({VM: config.vm("minimal", "[qemu]", 'machine = "q35,accel=tcg"')}):
        machine.systemctl("start", "--no-block", UNIT)
        machine.wait_for(lambda: machine.show(UNIT, "SubState")["SubState"] in ("start-post", "running"), timeout=300)
        yield


def group(machine: Machine, unit: str) -> str:
    return "/sys/fs/cgroup" + machine.show(unit, "ControlGroup")["ControlGroup"]


def test_the_slice_bounds_the_hypervisor(machine: Machine) -> None:
    """In the kernel, and with the hypervisor in it."""
    asked = machine.show(SLICE, "MemoryMax", "TasksMax")
    place = group(machine, SLICE)
    assert int(machine.read(f"{place}/memory.max")) == int(asked["MemoryMax"]) // PAGE * PAGE
    assert machine.read(f"{place}/pids.max") == f"{asked['TasksMax']}\n"
    assert machine.read(f"/proc/{machine.main_pid(UNIT)}/cgroup").startswith(
        f"0::{place.removeprefix('/sys/fs/cgroup')}/"
    )
    # What it uses is counted: a guest's memory, threads.
    assert int(machine.read(f"{place}/memory.current")) > 16 << 20
    assert int(machine.read(f"{place}/pids.current")) >= 3


def beside(machine: Machine, unit: str, program: str, *properties: str) -> Result:
    """Run a Python program as the service *unit* among the VM's."""
    settings = [f"--property={setting}" for setting in properties]
    command = [
        "systemd-run",
        "--quiet",
        "--collect",
        "--pipe",
        "--wait",
        f"--unit={unit}",
        f"--slice={SLICE}",
        *settings,
    ]
    return machine.run(*command, "python3", "-I", "-c", program, check=False)


def test_threads_end_at_the_limit(machine: Machine) -> None:
    """One that was taken over can't use up the host's."""
    most = int(machine.show(SLICE, "TasksMax")["TasksMax"])
    done = beside(machine, "threads", THREADS)
    assert done.code == 0, done.err
    assert most - 32 < int(done.out) < most


def test_memory_ends_at_the_limit(machine: Machine) -> None:
    """As narrow as a property makes it, here of a service and not the slice: the guest is to live on."""
    since = machine.now()
    done = beside(machine, "memory", MEMORY, "MemoryMax=32M", "MemorySwapMax=0")
    assert (done.code != 0, done.out) == (True, "")
    assert "Failed with result 'oom-kill'" in machine.journal("--unit=memory", "-o", "cat", since=since)
    assert machine.main_pid(UNIT) > 0
    assert beside(machine, "memory", MEMORY).out == "had it all\n"


@pytest.mark.parametrize("unit", [UNIT, names.vsock_unit(VM)])
def test_figures_are_the_same(machine: Machine, unit: str) -> None:
    """Those that are counted from files, as in the manual's table, hold for the running system."""
    assert judged(machine, unit) == judged(machine, "--offline=yes", f"{paths.GENERATOR_DIR}/{unit}")
