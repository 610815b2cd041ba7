"""schedulerIsolation on a kernel with hyperthreads and no core scheduling, as Debian's: VMs run, and it is said."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vm_launch import scheduling
from vm_launch.boot import NO_CORE_SCHEDULING
from vmsilo import names

VM = "unguarded"
SMT = "/sys/devices/system/cpu/smt/active"
DROP_IN = f"/run/systemd/system/{names.vm_unit(VM)}.d/50-hyperthreads.conf"


@pytest.fixture
def hyperthreads(lab: Host) -> Iterator[None]:
    """As many as it may have: the VM is told of some."""
    if scheduling.available():
        pytest.skip("this kernel has core scheduling")
    lab.write("/run/hyperthreads", "1\n")
    lab.write(DROP_IN, f"[Service]\nBindReadOnlyPaths=/run/hyperthreads:{SMT}\n")
    yield
    lab.run("rm", "-f", DROP_IN, "/run/hyperthreads")
    lab.reload()


@pytest.mark.guest
@pytest.mark.usefixtures("hyperthreads")
def test_the_journal_and_vm_list_say_so(lab: Host) -> None:
    with lab.configured({VM: config.vm()}):
        since = lab.now()
        lab.run("vm-start", VM, user=USER)
        assert next(row for row in lab.listed() if row["name"] == VM)["message"] == NO_CORE_SCHEDULING
        assert NO_CORE_SCHEDULING in lab.run("vm-list", user=USER).out
        said = lab.journal("--unit", names.vm_unit(VM), "-o", "cat", since=since)
        assert said.count("this kernel has no core scheduling: other programs share cores with the VM") == 1
