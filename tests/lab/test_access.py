"""Who may do what: the configured user everything, others nothing, and neither of them more than VMs."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import STRANGER, USER
from vmsilo import names, paths

VM = "access"


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    with lab.configured({VM: config.vm()}):
        yield


def test_the_socket_is_the_user_s(lab: Host) -> None:
    assert lab.run("stat", "-c", "%U %a %F", paths.command_socket(VM)).out == f"{USER} 600 socket\n"


@pytest.mark.parametrize(
    "command", [["vm-run", VM, "id"], ["vm-start", VM], ["vm-stop", VM], ["vm-shell", "--log", VM]]
)
def test_others_are_refused(lab: Host, command: list[str]) -> None:
    lab.systemctl("stop" if command[0] == "vm-start" else "start", names.vm_unit(VM))
    state = lab.state(names.vm_unit(VM))
    done = lab.run(*command, user=STRANGER, check=False)
    assert done.code not in (0, 1)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1, done.err
    assert "not allowed" in done.err.lower() or "permission" in done.err.lower(), done.err
    assert lab.state(names.vm_unit(VM)) == state


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill"])
def test_polkit_refuses_others(lab: Host, verb: str) -> None:
    done = lab.systemctl(verb, names.vm_unit(VM), user=STRANGER, check=False)
    assert done.code != 0
    assert "authentication required" in done.err.lower(), done.err


def test_polkit_lets_the_user_start_and_stop(lab: Host) -> None:
    lab.systemctl("start", names.vm_unit(VM), user=USER)
    assert lab.state(names.vm_unit(VM)) == "active"
    lab.systemctl("stop", names.vm_unit(VM), user=USER)
    assert lab.state(names.vm_unit(VM)) == "inactive"


@pytest.mark.parametrize(
    "command",
    [
        ["start", "systemd-tmpfiles-clean.service"],
        ["stop", "dbus.service"],
        ["start", "vmsilo-nobody-vm.service"],
        ["start", f"vmsilo-{VM}@x.service"],
        ["stop", names.slice_unit(VM)],
        ["daemon-reload"],
        ["mask", names.vm_unit(VM)],
        ["set-property", names.vm_unit(VM), "MemoryMax=1G"],
        ["edit", names.vm_unit(VM)],
    ],
    ids=" ".join,
)
def test_polkit_lets_the_user_do_no_more(lab: Host, command: list[str]) -> None:
    assert lab.systemctl(*command, user=USER, check=False).code != 0


def test_no_transient_unit_by_a_name_of_ours(lab: Host) -> None:
    for unit in ("vmsilo-other-vm.service", f"vmsilo-{VM}-vm.service"):
        done = lab.run("systemd-run", "--no-ask-password", f"--unit={unit}", "/bin/true", user=USER, check=False)
        assert done.code != 0


def test_others_read_no_plan(lab: Host) -> None:
    """The guest's credentials are in there. Neither does the user; the hypervisor has a copy for itself."""
    lab.vm_run(VM, "true")
    for path in (f"{paths.GENERATOR_DIR}/{names.plan_file(VM)}", f"{paths.vm_dir(VM)}/{paths.RUNNING_PLAN}"):
        assert f'"vm": "{VM}"' in lab.read(path)
        for user in (USER, STRANGER):
            assert lab.run("cat", path, user=user, check=False).code != 0
    pid = lab.main_pid(names.vm_unit(VM))
    assert lab.run("readlink", f"/proc/{pid}/fd/0").out == "/dev/null\n"


def test_hypervisor_is_nobody(lab: Host) -> None:
    """No capability, no network, no new privileges, a user of its own."""
    lab.vm_run(VM, "true")
    pid = lab.main_pid(names.vm_unit(VM))
    status = dict(line.split(":", 1) for line in lab.read(f"/proc/{pid}/status").splitlines())
    assert {status[key].strip() for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert set(status["Uid"].split()) == {lab.run("id", "-u", names.user(VM)).out.strip()}
    assert lab.run("nsenter", f"--target={pid}", "--net", "ip", "-o", "link").out.count("\n") == 1  # lo
    assert lab.read(f"/proc/{pid}/comm").startswith("qemu")


def test_hypervisor_sees_no_home(lab: Host) -> None:
    lab.write(f"/home/{USER}/secret", "secret", mode="0666")
    pid = lab.main_pid(names.vm_unit(VM))
    assert not lab.exists(f"/proc/{pid}/root/home/{USER}/secret")
