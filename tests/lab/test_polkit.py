"""What polkit lets the configured user do about VMs, and every way we know of to make more of it."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host, Result
from lab.tree import STRANGER, USER
from vmsilo import names

VM = "guarded"
UNIT = names.vm_unit(VM)
SOCKET = names.command_socket_unit(VM)
EVIL = "/root/evil"  # what an attack would leave behind


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    """A VM that runs, so that each attack meets a unit it could do something to."""
    broken = {"spoiled": "memory = true\n"}
    with lab.configured({VM: config.vm(), **broken}):
        lab.run("vm-start", VM, user=USER)
        yield


def refused(done: Result) -> bool:
    """Whether it was polkit that said no: another error would prove nothing."""
    return done.code != 0 and ("uthentication required" in done.err or "ccess denied" in done.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", names.command_service_unit(VM).replace("@", "@x")],
        ["start", names.console_service_unit(VM).replace("@", "@x")],
        ["stop", names.console_socket_unit(VM)],
        ["start", names.vm_unit("nobody")],
        ["start", names.vm_unit("host")],
        ["start", names.command_socket_unit("host")],
        ["start", names.command_socket_unit("spoiled")],
        ["start", f"vmsilo-{VM}-vm.target"],
        ["stop", names.slice_unit(VM)],
        ["stop", names.ALL_SLICE],
        ["stop", "dbus.service"],
        ["reload", UNIT],
        ["freeze", UNIT],
        ["clean", "--what=state", UNIT],
        ["bind", UNIT, "/etc", "/tmp"],
        ["--runtime", "set-property", UNIT, "CPUWeight=10"],
        ["set-property", SOCKET, "CPUWeight=10"],
        ["enable", SOCKET],
        ["disable", SOCKET],
        ["mask", "--runtime", UNIT],
        ["link", "/tmp/evil.service"],
        ["set-environment", "LD_PRELOAD=/tmp/evil.so"],
        ["daemon-reload"],
        ["daemon-reexec"],
    ],
    ids=" ".join,
)
def test_the_user_can_do_no_more(lab: Host, arguments: list[str]) -> None:
    lab.write("/tmp/evil.service", f"[Service]\nExecStart=touch {EVIL}\n")
    assert refused(lab.systemctl(*arguments, user=USER, check=False))


@pytest.mark.parametrize(
    "unit", [UNIT, SOCKET, "vmsilo-new-vm.service", names.vm_unit("host"), names.vm_unit("spoiled"), "evil.service"]
)
def test_no_transient_unit(lab: Host, unit: str) -> None:
    """The classic: a right to start, and a unit of one's own by that name."""
    service = unit.endswith(".service")
    kind = [f"--unit={unit}"] if service else [f"--unit={VM}", "--socket-property=ListenStream=/tmp/evil.socket"]
    done = lab.run("systemd-run", "--no-ask-password", *kind, "touch", EVIL, user=USER, check=False)
    assert refused(done)
    assert not lab.exists(EVIL)


def test_no_transient_unit_beside_a_vm(lab: Host) -> None:
    """Units that come along with one that may be started."""
    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", UNIT, "replace", "0", "1", "evil.service", "0"]
    done = lab.run("busctl", "call", *manager, *call, user=USER, check=False)
    assert refused(done)


def test_no_transient_unit_by_the_name_of_a_vm_that_was_removed(lab: Host) -> None:
    name = "departed"
    with lab.configured({name: config.vm()}):
        lab.configure({name: ""})  # its socket still listens
        for unit in (names.vm_unit(name), names.command_socket_unit(name)):
            assert refused(lab.systemctl("start", unit, user=USER, check=False))
        arguments = ["--no-ask-password", f"--unit={names.vm_unit(name)}", "touch", EVIL]
        assert refused(lab.run("systemd-run", *arguments, user=USER, check=False))
    assert not lab.exists(EVIL)


@pytest.mark.parametrize("unit", [UNIT, SOCKET])
@pytest.mark.parametrize("verb", ["start", "stop", "restart", "kill", "reset-failed"])
def test_a_stranger_can_do_nothing(lab: Host, verb: str, unit: str) -> None:
    assert refused(lab.systemctl(verb, unit, user=STRANGER, check=False))
    assert lab.state(unit) == "active"


def test_no_configured_user_no_rights(lab: Host) -> None:
    """A host.toml that can't be used gives nobody a right."""
    host = lab.read("/etc/vmsilo.d/host.toml")
    try:
        lab.configure({"host": 'user = "nosuchuser"\n'})
        assert refused(lab.systemctl("stop", SOCKET, user=USER, check=False))
    finally:
        lab.configure({"host": host})
    lab.systemctl("stop", SOCKET, user=USER)
    lab.systemctl("start", SOCKET, user=USER)


def test_a_vm_that_was_removed_can_be_stopped(lab: Host) -> None:
    """Last, since it stops the VM."""
    lab.configure({VM: ""})
    assert lab.state(UNIT) == "active"
    lab.run("vm-stop", "--force", VM, user=USER)
    assert lab.state(UNIT) == "inactive"
