"""The life of a VM with cloud-hypervisor and crosvm, or with what stands for them: neither is in Debian."""

import json
import os
import time
from pathlib import Path

import jsonschema
import pytest

from launch.fake_api import SCHEMA
from launch.hosts import Host
from launch.test_start_stop import boot, eventually
from vm_launch.hypervisor import Target, find
from vm_launch.running import CONTROL
from vmsilo.failure import Failure
from vmsilo.plan import loads


def test_cloud_hypervisor(host: Host) -> None:
    host.add_program("cloud-hypervisor")
    vsock = host.run_dir / "guest.socket"
    vsock.touch()  # as one that was killed leaves it
    process = host.start(host.plan(hypervisor="cloud-hypervisor", vsock=str(vsock)))
    assert not vsock.exists()
    boot(host, process, vsock)
    eventually(lambda: host.console == b"booted\r\n")
    config = json.loads((host.run_dir / "config.seen").read_text())
    jsonschema.validate(config, SCHEMA)
    overlay = Path(f"/proc/{process.pid}/fd") / config["disks"][1]["path"].rpartition("/")[2]
    assert os.stat(overlay).st_size == 1 << 30
    (host.run_dir / "console.in").write_bytes(b"typed\r\n")
    eventually(lambda: host.console == b"booted\r\ntyped\r\n")
    assert host.launch("stop", host.running_plan, MAINPID=str(process.pid)).returncode == 0
    assert process.wait(10) == 0


def test_configuration_that_is_refused(host: Host) -> None:
    """The hypervisor's own words reach whoever wrote extraConfig."""
    host.add_program("cloud-hypervisor")
    plan = host.plan(
        hypervisor="cloud-hypervisor",
        vsock=str(host.run_dir / "guest.socket"),
        extra_config={"memory": {"sise": 5}},
    )
    process = host.start(plan)
    result = host.launch("boot", host.running_plan, MAINPID=str(process.pid))
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.startswith("vm-launch: cloud-hypervisor refused vm.create: Failed to parse the request: ")
    assert "'sise' was unexpected" in result.stderr


def start_crosvm(host: Host) -> Target:
    """A crosvm that waits to be resumed."""
    host.add_program("crosvm")
    host.kernel_vsock = str(host.directory / "vhost-vsock")
    host.start(host.plan(hypervisor="crosvm", vsock=""))
    return Target(
        binary=str(host.directory / "bin/crosvm"),
        socket=str(host.run_dir / CONTROL),
        config="",
        deadline=time.monotonic() + 10,
    )


def test_crosvm(host: Host) -> None:
    target = start_crosvm(host)
    assert loads(host.running_plan.read_text()).vsock == ""
    find("crosvm").boot(target)
    pid = str(host.processes[0].pid)
    assert host.launch("stop", host.running_plan, MAINPID=pid).returncode == 0
    assert host.processes[0].wait(10) == 0
    requests = (host.run_dir / "requests.seen").read_text().splitlines()
    assert requests == ["--no-syslog resume --full", "--no-syslog powerbtn"]


def test_crosvm_refuses(host: Host) -> None:
    host.more_environment = {"FAKE_REFUSES": "1"}
    target = start_crosvm(host)
    with pytest.raises(Failure, match="crosvm refused resume"):
        find("crosvm").boot(target)


def test_crosvm_hangs(host: Host) -> None:
    host.more_environment = {"FAKE_HANGS": "1"}
    target = start_crosvm(host)
    began = time.monotonic()
    with pytest.raises(Failure, match="crosvm does not answer resume"):
        find("crosvm").boot(target._replace(deadline=began + 0.5))
    assert time.monotonic() - began < 5


def test_crosvm_needs_the_kernels_vsock(host: Host) -> None:
    host.add_program("crosvm")
    result = host.launch("start", host.plan(hypervisor="crosvm", vsock=""))
    assert result.stderr == (
        "vm-launch: there is no /nonexistent/vhost-vsock, which crosvm needs (modprobe vhost_vsock)\n"
    )
    assert result.returncode == os.EX_UNAVAILABLE


def test_qemu_prefers_the_kernels_vsock(host: Host) -> None:
    """The running plan says so, since from then on the host's side differs."""
    host.kernel_vsock = str(host.directory / "vhost-vsock")
    Path(host.kernel_vsock).touch()
    process = host.start(host.plan())
    assert loads(host.running_plan.read_text()).vsock == ""
    _, message = process.communicate(timeout=10)
    assert b"vhost" in message  # a file is no vhost device
