"""schedulerIsolation where hyperthreads are in use: the cookies of core scheduling, read back from the kernel.

Debian's kernels have no core scheduling; there it is seen that VMs run all the same and that the journal says so.
Guests need not get far: the cookies come before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from lab import config
from lab.host import CONFIG

from machine.computer import Machine
from vmsilo import names

VMS = ("apart", "asunder")
SLOW = 300.0  # seconds; all is emulated
LACKING = "this kernel has no core scheduling: other programs share cores with the VM"

# Name and cookie of each thread of a process, or no line where the kernel has no cookies (PR_SCHED_CORE_GET,
# linux/prctl.h). The kernel knows the request in any case if it has CONFIG_SCHED_CORE and hyperthreads.
COOKIES = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for thread in os.listdir(f"/proc/{sys.argv[1]}/task"):
    cookie = ctypes.c_ulong()
    if libc.prctl(62, *map(ctypes.c_ulong, (0, int(thread), 0, ctypes.addressof(cookie)))):
        if ctypes.get_errno() == errno.EINVAL:
            sys.exit("no core scheduling")
        continue  # a thread that is gone
    print(cookie.value, open(f"/proc/{sys.argv[1]}/task/{thread}/comm").read().strip())
"""


class Thread(NamedTuple):
    name: str
    cookie: int


def cookies(machine: Machine, process: int) -> list[Thread] | None:
    """Those of the threads of *process*, or None where the kernel has none."""
    done = machine.run("python3", "-I", "-c", COOKIES, str(process), check=False)
    if done.err == "no core scheduling\n":
        return None
    assert done.code == 0, done.err
    return [Thread(name, int(cookie)) for cookie, _, name in (line.partition(" ") for line in done.out.splitlines())]


@pytest.fixture
def able(machine: Machine) -> None:
    """Skips where the machine's kernel has no core scheduling."""
    if cookies(machine, 1) is None:
        pytest.skip("the machine's kernel has no core scheduling")


@contextmanager
def started(machine: Machine, isolation: str, *vms: str) -> Iterator[None]:
    """VMs whose guests have begun to run, with this schedulerIsolation."""
    before = machine.read(f"{CONFIG}/host.toml")
    machine.configure({"host": f'{before}schedulerIsolation = "{isolation}"\n'})
    try:
        with machine.configured(
            dict.fromkeys(vms, config.vm("minimal", "[qemu]", 'machine = "q35,accel=tcg"', cpus=2))
        ):
            units = [names.vm_unit(vm) for vm in vms]
            machine.systemctl("start", "--no-block", *units)
            for unit in units:
                # vm-launch has done its part, and is now the hypervisor, with both of its processors.
                machine.wait_for(lambda unit=unit: len(processors(machine, unit)) == 2, timeout=SLOW)  # type: ignore[misc]
            yield
    finally:
        machine.configure({"host": before})


def processors(machine: Machine, unit: str) -> list[int]:
    """The threads that are the guest's processors, by the names that QEMU gives them."""
    script = 'cd "/proc/$1/task" && for thread in *; do echo "$thread $(cat "$thread/comm")"; done'
    lines = machine.run("sh", "-c", script, "sh", str(machine.main_pid(unit)), check=False).out.splitlines()
    return [int(thread) for thread, _, name in (line.partition(" ") for line in lines) if name.startswith("CPU ")]


def threads(machine: Machine, vm: str) -> list[Thread]:
    found = cookies(machine, machine.main_pid(names.vm_unit(vm)))
    assert found
    return found


def test_vms_run_without_and_the_journal_says_so(machine: Machine) -> None:
    """Once for each start, and never where nobody asked for it."""
    expected = 1 if cookies(machine, 1) is None else 0
    for isolation, times in (("full", expected), ("off", 0)):
        since = machine.now()
        with started(machine, isolation, VMS[0]):
            said = machine.journal("--unit", names.vm_unit(VMS[0]), "-o", "cat", since=since)
            assert machine.state(names.vm_unit(VMS[0])) in ("activating", "active")
        assert (isolation, said.count(LACKING)) == (isolation, times)


@pytest.mark.usefixtures("able")
def test_one_cookie_for_each_vm(machine: Machine) -> None:
    with started(machine, "vm", *VMS):
        found = [{thread.cookie for thread in threads(machine, vm)} for vm in VMS]
    assert [len(of_vm) for of_vm in found] == [1, 1]
    assert 0 not in found[0] | found[1]
    assert found[0] != found[1]


@pytest.mark.usefixtures("able")
def test_one_cookie_for_each_processor(machine: Machine) -> None:
    """Each virtual processor is apart from the other one, and from all else."""
    with started(machine, "full", VMS[0]):

        def own() -> set[int]:
            return {thread.cookie for thread in threads(machine, VMS[0]) if thread.name.startswith("CPU ")}

        machine.wait_for(lambda: len(own()) == 2, timeout=SLOW)
        others = {thread.cookie for thread in threads(machine, VMS[0]) if not thread.name.startswith("CPU ")}
        assert len(others) == 1
        assert 0 not in own() | others
        assert not own() & others


@pytest.mark.usefixtures("able")
def test_no_cookie(machine: Machine) -> None:
    with started(machine, "off", VMS[0]):
        assert {thread.cookie for thread in threads(machine, VMS[0])} == {0}
