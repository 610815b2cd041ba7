"""What vm-run says when there is no way to the guest, from what systemd says; systemctl is a script here."""

import os
import subprocess
from pathlib import Path

import pytest

from vmsilo import names

from .conftest import Rig

SOCKET = names.command_socket_unit("demo")
SERVICE = names.vm_unit("demo")


class Systemd:
    """Answers for systemctl."""

    on_start = ":"  # a line of shell

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.files()
        self.units: list[str] = []

    def vm_run(self, rig: Rig, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        script = self.directory / "systemctl"
        if not script.exists():
            cases = f"*list-unit-files*) cat files;; *\\ start\\ *) {self.on_start};; *) cat show;;"
            script.write_text(f'#!/bin/sh\ncd {self.directory}\ncase " $* " in {cases} esac\n')
            script.chmod(0o755)
        environment = {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"}
        return subprocess.run(
            rig.argv(*arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )

    def unit(self, name: str, **properties: str) -> None:
        values = {"Id": name, "LoadState": "loaded", "ActiveState": "inactive", **properties}
        self.units.append("".join(f"{key}={value}\n" for key, value in values.items()))
        (self.directory / "show").write_text("\n".join(self.units))

    def files(self, *units: str) -> None:
        (self.directory / "files").write_text("".join(f"{unit} generated -\n" for unit in units))


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path / "bin")


def complaint(rig: Rig, systemd: Systemd, vm: str = "demo") -> str:
    result = systemd.vm_run(rig, vm, "true")
    assert (result.returncode, result.stdout) == (255, b"")
    return result.stderr.decode()


def remove_socket(rig: Rig) -> None:
    (rig.directory / "demo/command.socket").unlink()


def test_unknown_vm(rig: Rig, systemd: Systemd) -> None:
    systemd.unit(names.command_socket_unit("dmeo"), LoadState="not-found")
    systemd.unit(names.vm_unit("dmeo"), LoadState="not-found")
    systemd.files(SERVICE, names.vm_unit("work"))
    assert complaint(rig, systemd, "dmeo") == "vm-run: no VM is called 'dmeo' (did you mean 'demo'?)\n"


def test_name_that_can_not_be_one(rig: Rig, systemd: Systemd) -> None:
    systemd.unit("x", LoadState="not-found")
    text = complaint(rig, systemd, "../demo")
    assert text.startswith("vm-run: '../demo' can't be the name of a VM (")


def test_broken_vm(rig: Rig, systemd: Systemd) -> None:
    remove_socket(rig)
    systemd.unit(
        SOCKET, ActiveState="failed", Description=names.broken_description("demo", "demo.toml:3:1: no such key")
    )
    systemd.unit(SERVICE, LoadState="not-found")
    assert complaint(rig, systemd) == "vm-run: VM demo is broken: demo.toml:3:1: no such key\n"


def test_stopped_socket_is_started(rig: Rig, systemd: Systemd) -> None:
    """As for a VM that is new since the boot."""
    path = rig.directory / "demo/command.socket"
    path.rename(rig.directory / "off")
    systemd.unit(SOCKET)
    systemd.unit(SERVICE)
    systemd.on_start = f"mv {rig.directory}/off {path}"
    result = systemd.vm_run(rig, "demo", "echo hi")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hi\n", b"")


def test_socket_that_does_not_appear(rig: Rig, systemd: Systemd) -> None:
    remove_socket(rig)
    systemd.unit(SOCKET)
    systemd.unit(SERVICE)
    expected = f"vm-run: {rig.directory}/demo/command.socket: No such file or directory\n"
    assert complaint(rig, systemd) == expected


@pytest.mark.parametrize(
    ("properties", "text"),
    [
        (
            {"ActiveState": "failed", "StatusText": "\x1b[1m", "Result": "exit-code"},
            "VM demo did not start: ?[1m (journalctl -u vmsilo-demo-vm.service tells more)",
        ),
        (
            {"ActiveState": "failed", "Result": "timeout"},
            "VM demo did not start: it took too long (journalctl -u vmsilo-demo-vm.service tells more)",
        ),
        (
            {"ActiveState": "active"},
            "VM demo runs, but the connector to it failed (journalctl -u 'vmsilo-demo@.service*')",
        ),
        ({"LoadState": "not-found"}, "VM demo has no unit vmsilo-demo-vm.service (systemctl daemon-reload)"),
    ],
)
def test_connector_that_never_ran(rig: Rig, systemd: Systemd, properties: dict[str, str], text: str) -> None:
    rig.serve_client = lambda client: None
    systemd.unit(SOCKET, ActiveState="active")
    systemd.unit(SERVICE, **properties)
    assert complaint(rig, systemd) == f"vm-run: {text}\n"


def test_systemd_that_can_not_be_asked(rig: Rig, systemd: Systemd) -> None:
    remove_socket(rig)
    script = systemd.directory / "systemctl"
    script.write_text("#!/bin/sh\necho Failed to connect to bus >&2; exit 1\n")
    script.chmod(0o755)
    text = complaint(rig, systemd)
    assert text == "vm-run: VM demo has no command socket, and systemd can't be asked why: Failed to connect to bus\n"


def test_refusal_of_the_connector(rig: Rig, systemd: Systemd) -> None:
    rig.hybrid.unlink()
    rig.serve_client = lambda client: client.sendall(b"Ethe guest\x1b[2J sleeps")
    assert complaint(rig, systemd) == "vm-run: VM demo: the guest?[2J sleeps\n"
