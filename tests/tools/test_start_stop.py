"""vm-start and vm-stop: what they ask systemd for, what they say, how they end."""

import pytest

from tools.conftest import Systemd


def test_start(systemd: Systemd) -> None:
    result = systemd.run("vm-start", "demo")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert systemd.acts == ["start vmsilo-demo-vm.service"]


def test_start_starts_the_socket_of_a_new_vm(systemd: Systemd) -> None:
    systemd.change("vmsilo-demo.socket", ActiveState="inactive")
    assert systemd.run("vm-start", "demo").returncode == 0
    assert sorted(systemd.acts) == ["start vmsilo-demo-vm.service", "start vmsilo-demo.socket"]


def test_start_of_what_runs_is_success(systemd: Systemd) -> None:
    assert systemd.run("vm-start", "up").returncode == 0
    assert systemd.acts == []


def test_start_waits_for_what_is_starting(systemd: Systemd) -> None:
    assert systemd.run("vm-start", "slow", "slow").returncode == 0
    assert systemd.acts == ["start vmsilo-slow-vm.service"]


def test_start_all(systemd: Systemd) -> None:
    result = systemd.run("vm-start", "--all")
    assert result.returncode == 69
    assert result.stderr == "vm-start: wrong is broken: wrong.toml:3:1: memory: expected a whole number\n"
    assert sorted(systemd.acts) == [f"start vmsilo-{name}-vm.service" for name in ("a-b", "demo", "slow")]


def test_start_without_waiting(systemd: Systemd) -> None:
    assert systemd.run("vm-start", "--no-block", "demo").returncode == 0
    assert systemd.acts == ["--no-block start vmsilo-demo-vm.service"]


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (
            {"becomes": "failed", "StatusText": "no image called 'debain'"},
            "demo: no image called 'debain' (see systemctl status vmsilo-demo-vm.service)",
        ),
        (
            {"becomes": "failed", "Result": "timeout"},
            "demo: it took too long (see systemctl status vmsilo-demo-vm.service)",
        ),
        (
            {"becomes": "failed", "Result": "timeout", "StatusText": "booting"},
            "demo: it took too long; its last words: booting (see systemctl status vmsilo-demo-vm.service)",
        ),
        ({"becomes": "inactive"}, "demo: it ended at once"),
        ({"refuses": True}, "not allowed (only the user named in host.toml may start and stop VMs)"),
        (
            {"becomes": "failed", "StatusText": "\x1b[2J"},
            "demo: ?[2J (see systemctl status vmsilo-demo-vm.service)",
        ),
    ],
)
def test_start_fails(systemd: Systemd, properties: dict[str, object], message: str) -> None:
    systemd.change("vmsilo-demo-vm.service", **properties)
    result = systemd.run("vm-start", "demo")
    assert result.stderr == f"vm-start: {message}\n"
    assert result.returncode == (77 if "refuses" in properties else 69)


def test_start_names_the_backend_that_failed(systemd: Systemd) -> None:
    systemd.change("vmsilo-demo-vm.service", becomes="inactive", Requires="system.slice vmsilo-demo-console.socket")
    systemd.change(
        "vmsilo-demo-console.socket", ActiveState="failed", Result="exit-code", StatusText="no such program"
    )
    assert "vmsilo-demo-console.socket failed: no such program" in systemd.run("vm-start", "demo").stderr


@pytest.mark.parametrize("command", ["vm-start", "vm-stop"])
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["demo", "demi"], 66, "no VM is called 'demi' (did you mean 'demo'?)"),
        (["xyzzy"], 66, "no VM is called 'xyzzy' (vm-list shows all)"),
        (["--", "-x"], 66, "'-x' can't be the name of a VM"),
        (["a;b\x1b"], 66, "can't be the name of a VM"),
        ([], 64, "give the names of VMs, or --all"),
        (["--all", "demo"], 64, "give the names of VMs, or --all"),
        (["--al"], 64, "there is no option '--al'"),
        (["--all=yes"], 64, "--all takes no value"),
    ],
)
def test_wrong_use_changes_nothing(
    systemd: Systemd, command: str, arguments: list[str], status: int, message: str
) -> None:
    result = systemd.run(command, *arguments)
    assert result.returncode == status
    assert result.stderr.startswith(f"{command}: ")
    assert message in result.stderr
    assert "\x1b" not in result.stderr
    assert status == 64 or systemd.acts == []


def test_stop(systemd: Systemd) -> None:
    result = systemd.run("vm-stop", "up", "slow", "demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(systemd.acts) == ["stop vmsilo-slow-vm.service", "stop vmsilo-up-vm.service"]


def test_stop_all(systemd: Systemd) -> None:
    assert systemd.run("vm-stop", "--all").returncode == 0
    assert sorted(systemd.acts) == [f"stop vmsilo-{name}-vm.service" for name in ("gone", "slow", "up")]


@pytest.mark.parametrize("name", ["demo", "a-b", "wrong"])
def test_stop_of_what_is_stopped_is_success(systemd: Systemd, name: str) -> None:
    result = systemd.run("vm-stop", name)
    assert (result.returncode, result.stderr, systemd.acts) == (0, "", [])


def test_unclean_stop_is_told_and_forgotten(systemd: Systemd) -> None:
    systemd.change("vmsilo-up-vm.service", ends="failed", Result="timeout")
    result = systemd.run("vm-stop", "up")
    assert (result.returncode, result.stderr) == (0, "vm-stop: up did not shut down cleanly: it took too long\n")
    assert systemd.units["vmsilo-up-vm.service"]["ActiveState"] == "inactive"


def test_stop_without_effect(systemd: Systemd) -> None:
    systemd.change("vmsilo-up-vm.service", obeys=False)
    result = systemd.run("vm-stop", "up")
    assert (result.returncode, result.stderr) == (69, "vm-stop: up is still running\n")


def test_force(systemd: Systemd) -> None:
    systemd.change("vmsilo-up-vm.service", obeys=False)
    result = systemd.run("vm-stop", "--force", "up", "a-b", "wrong")
    assert (result.returncode, result.stderr) == (0, "")
    assert systemd.acts[:3] == [
        "--no-block stop vmsilo-up-vm.service",
        "--signal=SIGKILL kill vmsilo-up-vm.service",
        "stop vmsilo-up-vm.service",
    ]
    assert sorted(systemd.acts[3:]) == ["reset-failed vmsilo-a-b-vm.service", "reset-failed vmsilo-up-vm.service"]
    assert systemd.units["vmsilo-up-vm.service"]["ActiveState"] == "inactive"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_stop_refused(systemd: Systemd, force: list[str]) -> None:
    systemd.change("vmsilo-up-vm.service", refuses=True)
    result = systemd.run("vm-stop", *force, "up")
    assert result.returncode == 77
    assert "not allowed" in result.stderr
    assert systemd.units["vmsilo-up-vm.service"]["ActiveState"] == "active"


def test_no_systemctl(systemd: Systemd) -> None:
    systemd.environment["PATH"] = "/nowhere"
    result = systemd.run("vm-start", "demo")
    assert result.returncode == 69
    assert result.stderr.count("\n") == 1
