"""A VM to start: its image, its directories and its plan, in a temporary directory."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from launch import tiny, vhost
from vmsilo.plan import Credential, Network, Overlay, Plan, dumps

ROOT = Path(__file__).parents[2]

# Runs vm-launch as it is, but with its runtime directory elsewhere and a host without kernel devices.
_LAUNCHER = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
from vmsilo import paths
paths.RUN = sys.argv.pop(1)
paths.KERNEL_VSOCK = sys.argv.pop(1)
from vm_launch import start
start.KVM = sys.argv.pop(1)
if sys.argv[1:2] == ["lend"]:
    from vm_launch import lend
    lend.enter = lambda kind: None
from vm_launch.main import main
sys.exit(main())
"""


_STAND_IN = """\
#!{interpreter}
import runpy, sys
sys.path[:0] = {modules}
sys.argv.insert(1, "{name}")
runpy.run_module("launch.fake_hypervisor", run_name="__main__")
"""


def minimal_plan(**changes: Any) -> Plan:
    """A plan with nothing chosen that has a default."""
    plan = Plan(
        vm="demo",
        hypervisor="qemu",
        image="/var/lib/vmsilo/images/debian",
        kernel="",
        initramfs="",
        root=None,
        overlay=Overlay("raw", 10 << 30),
        disks=(),
        shares=(),
        vhost_user=(),
        pci=(),
        network=Network((), "", (), ()),
        kernel_params=(),
        memory=512,
        hugepages=False,
        cpus=2,
        core_scheduling="off",
        cid=70000,
        vsock="/run/vmsilo/demo/machine/vsock/guest.socket",
        credentials=(Credential("system.hostname", "demo"),),
        log_level="info",
        extra_args=(),
        extra_run_args=(),
        extra_config={},
        seccomp_log=False,
        sandbox=True,
        machine="q35",
        start_timeout=120,
        stop_timeout=30,
        run_dir="/run/vmsilo/demo/machine/vm",
    )
    return plan._replace(**changes)


class Host:
    """A directory that stands for a host, and vm-launch on it."""

    def __init__(self, directory: Path, *, kvm: str = "/nonexistent/kvm") -> None:
        self.directory = directory
        self.kvm = kvm
        self.kernel_vsock = "/nonexistent/vhost-vsock"
        self.image = directory / "images/tiny"
        self.run_dir = directory / "run/demo/machine/vm"
        self.vsock_dir = directory / "run/demo/machine/vsock"
        self.state = directory / "state"
        self.path = os.environ["PATH"]
        self.more_environment: dict[str, str] = {}
        for made in (self.image, self.run_dir, self.vsock_dir, self.state):
            made.mkdir(parents=True)
        self.make_image()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.devices: list[vhost.VsockDevice] = []

    def make_image(self) -> None:
        (self.image / "vmlinux").write_bytes(tiny.kernel())
        (self.image / "initramfs").write_bytes(b"not much of an archive")
        (self.image / "rootfs.erofs").write_bytes(bytes(1 << 20))
        (self.image / "image.toml").write_text('format = 1\ncmdline = "console=ttyS0"\n')

    def plan(self, **changes: Any) -> Path:
        """A file with the plan of a small VM."""
        plan = minimal_plan(
            image=str(self.image),
            memory=64,
            cpus=1,
            vsock=str(self.vsock_dir / "guest.socket"),
            overlay=Overlay("raw", 1 << 30),
            start_timeout=20,
            stop_timeout=10,
            run_dir=str(self.run_dir),
        )
        file = self.directory / "demo.plan"
        file.write_text(dumps(plan._replace(**changes)))
        return file

    @property
    def running_plan(self) -> Path:
        return self.run_dir / "plan"

    @property
    def console(self) -> bytes:
        return (self.run_dir / "console.out").read_bytes()

    def command(self, *arguments: object) -> list[str]:
        modules = f"{ROOT}:{ROOT}/helpers/vm-launch"
        words = [modules, str(self.directory / "run"), self.kernel_vsock, self.kvm, *map(str, arguments)]
        return ["/usr/bin/python3", "-IS", "-c", _LAUNCHER, *words]

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": self.path, "STATE_DIRECTORY": str(self.state), **self.more_environment, **more}

    def launch(self, *arguments: object, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run vm-launch to its end, with *given* on standard input."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def add_vsock_device(self, cid: int = 70000) -> None:
        self.devices.append(vhost.VsockDevice(self.vsock_dir / "device.socket", cid))

    def start(self, plan: Path) -> subprocess.Popen[bytes]:
        """Run ``vm-launch start`` as a service manager does, until it has said READY=1."""
        manager = vhost.NotifySocket(self.directory / "notify")
        with plan.open("rb") as given:
            process = subprocess.Popen(
                self.command("start", "-"),
                env=self.environment(NOTIFY_SOCKET=str(self.directory / "notify")),
                stdin=given,
                stderr=subprocess.PIPE,
            )
        self.processes.append(process)
        with manager:
            manager.wait_for("READY=1")
        return process

    def add_program(self, name: str) -> None:
        """Put a program that stands for the hypervisor *name* first in PATH, and devices that can be opened."""
        programs = self.directory / "bin"
        programs.mkdir()
        program = programs / name
        modules = [f"{ROOT}", f"{ROOT}/tests"]
        program.write_text(_STAND_IN.format(interpreter=sys.executable, modules=modules, name=name))
        program.chmod(0o755)
        self.path = f"{programs}:{self.path}"
        for device in ("kvm", "vhost-vsock"):
            (self.directory / device).touch()
        self.kvm = str(self.directory / "kvm")

    def wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + 15
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} did not appear"
            time.sleep(0.01)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for device in self.devices:
            device.close()
