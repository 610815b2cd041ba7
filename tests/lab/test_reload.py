"""Configuration changes while VMs run."""

import json

from lab import config
from lab.host import CONFIG, Host
from lab.tree import USER
from vmsilo import names, paths


def test_a_reload_changes_nothing_for_what_runs(lab: Host) -> None:
    vm = "steady"
    unit = names.vm_unit(vm)
    with lab.configured({vm: config.vm()}):
        session = lab.start("vm-run", vm, "while read -r line; do echo got $line; done", user=USER)
        session.write(b"one\n")
        assert session.read_line() == b"got one\n"
        before = lab.show(unit, "MainPID", "InvocationID", "ActiveEnterTimestampMonotonic")

        lab.reload()
        lab.configure({vm: config.vm(memory=512), "newcomer": config.vm()})
        lab.configure({"newcomer": ""})

        assert lab.show(unit, "MainPID", "InvocationID", "ActiveEnterTimestampMonotonic") == before
        session.write(b"two\n")
        assert session.read_line() == b"got two\n"
        assert session.wait().code == 0
        assert lab.vm_run(vm, "echo new session").out == "new session\n"

        memory = int(lab.vm_run(vm, "awk '/MemTotal/ { print $2 }' /proc/meminfo").out)
        assert memory < 256 * 1024
        lab.run("vm-stop", vm, user=USER)
        memory = int(lab.vm_run(vm, "awk '/MemTotal/ { print $2 }' /proc/meminfo").out)
        assert memory > 256 * 1024  # the change counts from the next start on


def test_a_vm_whose_file_is_gone_can_still_be_stopped(lab: Host) -> None:
    vm = "orphan"
    with lab.configured({vm: config.vm()}):
        lab.vm_run(vm, "true")
        lab.configure({vm: ""})
        assert lab.state(names.vm_unit(vm)) == "active"
        lab.systemctl("stop", names.vm_unit(vm), user=USER)
        lab.wait_for(lambda: lab.state(names.vm_unit(vm)) != "active")


def test_right_after_a_reload(lab: Host) -> None:
    """A new file and a reload are all that vm-run takes."""
    vm = "fresh"
    try:
        lab.configure({vm: config.vm()})
        assert lab.vm_run(vm, "echo fresh").out == "fresh\n"
    finally:
        lab.stop(vm)
        lab.configure({vm: ""})


def test_search_order(lab: Host) -> None:
    """/etc over /run over /usr/lib, and a link to /dev/null removes."""
    vm = "layered"
    lab.write(f"/usr/lib/vmsilo.d/{vm}.toml", config.vm(memory=301))
    lab.write("/usr/lib/vmsilo.d/removed.toml", config.vm())
    lab.write(f"/run/vmsilo.d/{vm}.toml", config.vm(memory=302))
    lab.run("ln", "-sf", "/dev/null", f"{CONFIG}/removed.toml")
    lab.reload()
    memory = json.loads(lab.read(f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}"))["memory"]
    names_listed = [item["name"] for item in lab.listed()]
    lab.run("rm", "-r", "/usr/lib/vmsilo.d", "/run/vmsilo.d", f"{CONFIG}/removed.toml")
    lab.reload()
    assert memory == 302
    assert vm in names_listed
    assert "removed" not in names_listed
    assert not lab.exists(f"{paths.GENERATOR_DIR}/{names.vm_unit(vm)}")
