"""A host that boots with VMs configured: autoStart, dependsOn, and broken files, which fail no boot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import boot, config
from lab.host import CONFIG, Host
from lab.tree import USER
from vmsilo import names

FILES = {
    "host": config.HOST,
    "base": config.vm(),
    "front": config.vm(dependsOn=["base"], autoStart=True),
    "idle": config.vm(),
    "broken": "memory = [\n",
}


@pytest.fixture(scope="module")
def host(minimal: dict[str, Path]) -> Iterator[Host]:
    running = boot.boot(minimal, {f"{CONFIG}/{stem}.toml": text for stem, text in FILES.items()}, degraded=True)
    yield running
    running.close()


def test_only_the_broken_vm_fails(host: Host) -> None:
    failed = host.systemctl("list-units", "--failed", "--plain", "--no-legend").out
    assert [line.split()[0] for line in failed.splitlines()] == [names.command_socket_unit("broken")]


def test_sockets_listen(host: Host) -> None:
    for vm in ("base", "front", "idle"):
        assert host.state(names.command_socket_unit(vm)) == "active"


def test_auto_start_and_what_it_depends_on(host: Host) -> None:
    began = {}
    for vm in ("base", "front"):
        host.wait_state(names.vm_unit(vm), "active", timeout=300)
        shown = host.show(names.vm_unit(vm), "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic")
        began[vm] = {key: int(value) for key, value in shown.items()}
    assert began["base"]["ActiveEnterTimestampMonotonic"] <= began["front"]["InactiveExitTimestampMonotonic"]
    assert host.state(names.vm_unit("idle")) == "inactive"


def test_the_dependency_goes_on_alone(host: Host) -> None:
    host.run("vm-stop", "front", user=USER)
    assert host.state(names.vm_unit("base")) == "active"


def test_stop_all(host: Host) -> None:
    host.run("vm-stop", "--all", user=USER)
    assert [vm["state"] for vm in host.listed() if vm["name"] in ("base", "front")] == ["stopped", "stopped"]
