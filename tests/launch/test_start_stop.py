"""A whole life of a VM with a real QEMU, as systemd would lead it, and a guest of a hundred bytes."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.hosts import Host
from launch.vhost import NotifySocket
from vmsilo.failure import EX_UNAVAILABLE
from vmsilo.plan import Disk, Overlay, Setting, VhostUser, loads

pytestmark = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64")


def eventually(holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.02)


def listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(address)) == 0


def say(address: Path, *messages: bytes) -> threading.Thread:
    """Send *messages* as the guest would, one connection each, waiting for the close of each."""

    def send() -> None:
        eventually(lambda: listens(address))
        for message in messages:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(15)
                connection.connect(str(address))
                connection.sendall(message)
                assert connection.recv(1) == b""

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def boot(host: Host, process: subprocess.Popen[bytes], vsock: Path | None = None) -> None:
    """Boot what *process* is about, with a guest that says that it is ready."""
    address = Path(f"{vsock or host.vsock_dir / 'guest.socket'}_5003")
    guest = say(address, b"X_SYSTEMD_UNIT_ACTIVE=basic.target", b"READY=1")
    result = host.launch("boot", host.running_plan, MAINPID=str(process.pid))
    guest.join()
    assert (result.returncode, result.stderr) == (0, "")


def test_life(host_with_vsock: Host) -> None:
    """Nothing of the guest runs before boot; its console works both ways; the power button ends it."""
    host = host_with_vsock
    process = host.start(host.plan(kernel_params=("a=b,c", '"d e"', "ü")))
    assert host.console == b""
    boot(host, process)
    assert not (host.vsock_dir / "guest.socket_5003").exists()
    eventually(lambda: host.console.endswith(b"\n"))
    assert host.console == 'console=ttyS0 a=b,c "d e" ü vmsilo.overlay=raw\n'.encode()
    with (host.run_dir / "console.in").open("wb") as first, (host.run_dir / "console.in").open("wb") as second:
        first.write(b"one viewer ")
        first.flush()
        eventually(lambda: host.console.endswith(b"one viewer "))
        second.write(b"and another")
    eventually(lambda: host.console.endswith(b"one viewer and another"))
    assert not list(host.state.iterdir())
    result = host.launch("stop", host.running_plan, MAINPID=str(process.pid))
    assert (result.returncode, result.stderr) == (0, "")
    assert process.wait(10) == 0
    assert host.console.endswith(b"off\n")


def test_nothing_of_ours_stays(host_with_vsock: Host) -> None:
    """The process that systemd started is QEMU, confined, and no other is there."""
    process = host_with_vsock.start(host_with_vsock.plan())
    proc = Path(f"/proc/{process.pid}")
    eventually(lambda: "qemu-system" in os.readlink(proc / "exe"))
    eventually(lambda: "Seccomp:\t2" in (proc / "status").read_text())
    assert (proc / f"task/{process.pid}/children").read_text() == ""
    assert b"NOTIFY_SOCKET" not in (proc / "environ").read_bytes()
    ignored = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("SigIgn"))
    assert not int(ignored.split()[1], 16) & (1 << signal.SIGXFSZ - 1)


def test_secrets_are_not_arguments(host_with_vsock: Host) -> None:
    """Anybody may read a process' arguments."""
    process = host_with_vsock.start(host_with_vsock.plan())
    assert b"credential" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def test_reboot_is_in_process(host_with_vsock: Host) -> None:
    """Once the guest has been ready."""
    process = host_with_vsock.start(host_with_vsock.plan())
    boot(host_with_vsock, process)
    eventually(lambda: host_with_vsock.console.endswith(b"\n"))
    (host_with_vsock.run_dir / "console.in").write_bytes(b"!")
    eventually(lambda: host_with_vsock.console.count(b"vmsilo.overlay") == 2)
    assert process.poll() is None


def test_reset_while_booting_is_the_end(host_with_vsock: Host) -> None:
    """A guest whose kernel panics resets the machine: it would do so until the timeout, and then be as dead."""
    process = host_with_vsock.start(host_with_vsock.plan(start_timeout=60))
    (host_with_vsock.run_dir / "console.in").write_bytes(b"!")
    began = time.monotonic()
    result = host_with_vsock.launch("boot", host_with_vsock.running_plan, MAINPID=str(process.pid))
    assert time.monotonic() - began < 20
    assert result.stderr.splitlines()[-1] == "vm-launch: qemu ended before the guest was ready (see its messages)"


def test_restart_over_what_a_killed_one_left(host_with_vsock: Host) -> None:
    process = host_with_vsock.start(host_with_vsock.plan())
    boot(host_with_vsock, process)
    process.kill()
    process.wait()
    (host_with_vsock.vsock_dir / "guest.socket_5003").touch()
    again = host_with_vsock.start(host_with_vsock.plan())
    assert host_with_vsock.console == b""
    boot(host_with_vsock, again)


def test_never_ready(host_with_vsock: Host) -> None:
    """The start fails in time and with the console, whose bytes can't act on a terminal."""
    process = host_with_vsock.start(host_with_vsock.plan(start_timeout=3, kernel_params=("\x1b[2J", "\u202e")))
    with NotifySocket(host_with_vsock.directory / "boot") as manager:
        began = time.monotonic()
        result = host_with_vsock.launch(
            "boot",
            host_with_vsock.running_plan,
            MAINPID=str(process.pid),
            NOTIFY_SOCKET=str(host_with_vsock.directory / "boot"),
        )
        assert 2.9 < time.monotonic() - began < 10
        assert manager.statuses()[-1].startswith("the guest was not ready after 3 s")
    assert result.returncode == os.EX_TEMPFAIL
    assert result.stderr.splitlines() == [
        "the guest's console ends with:",
        r"| console=ttyS0 \x1b[2J \u202e vmsilo.overlay=raw",
        "vm-launch: the guest was not ready after 3 s (see its last console lines)",
    ]


def test_hypervisor_dies_while_booting(host_with_vsock: Host) -> None:
    """The start does not wait for a guest that can't come."""
    process = host_with_vsock.start(host_with_vsock.plan(start_timeout=60))

    def kill() -> None:
        eventually(lambda: host_with_vsock.console.endswith(b"\n"))
        process.kill()
        process.wait()

    killer = threading.Thread(target=kill)
    killer.start()
    began = time.monotonic()
    result = host_with_vsock.launch("boot", host_with_vsock.running_plan, MAINPID=str(process.pid))
    killer.join()
    assert time.monotonic() - began < 20
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr.splitlines()[-1] == "vm-launch: qemu ended before the guest was ready (see its messages)"


def test_hypervisor_dies_before_it_answers(host_with_vsock: Host) -> None:
    """QEMU refuses its arguments: its own message goes to the journal, ours says what follows from it."""
    process = host_with_vsock.start(host_with_vsock.plan(extra_args=("-no-such-option",)))
    _, message = process.communicate(timeout=10)
    assert b"-no-such-option" in message
    assert process.returncode == 1
    result = host_with_vsock.launch("boot", host_with_vsock.running_plan, MAINPID=str(process.pid))
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr == "vm-launch: qemu ended before the guest was ready (see its messages)\n"


def test_boot_killed(host_with_vsock: Host) -> None:
    """What it leaves does not disturb the next one."""
    process = host_with_vsock.start(host_with_vsock.plan())
    environment = host_with_vsock.environment(MAINPID=str(process.pid))
    waiting = subprocess.Popen(host_with_vsock.command("boot", host_with_vsock.running_plan), env=environment)
    eventually(lambda: listens(host_with_vsock.vsock_dir / "guest.socket_5003"))
    waiting.terminate()
    assert waiting.wait(10) == -signal.SIGTERM
    boot(host_with_vsock, process)


def test_stop_after_the_end(host_with_vsock: Host) -> None:
    process = host_with_vsock.start(host_with_vsock.plan())
    process.kill()
    process.wait()
    for environment in ({}, {"MAINPID": str(process.pid)}):
        result = host_with_vsock.launch("stop", host_with_vsock.running_plan, **environment)
        assert (result.returncode, result.stderr) == (0, "")


def test_stop_a_guest_that_does_not_listen(host_with_vsock: Host) -> None:
    """It is given its time; systemd kills it then."""
    process = host_with_vsock.start(host_with_vsock.plan(stop_timeout=1))
    result = host_with_vsock.launch("stop", host_with_vsock.running_plan, MAINPID=str(process.pid))
    assert (result.returncode, result.stderr) == (0, "vm-launch: the guest did not power off within 1 s\n")
    process.terminate()
    assert process.wait(10) == 0


def test_stop_hears_the_guest_out(host_with_vsock: Host) -> None:
    """Its systemd reports each step of the shutdown, and would have to wait where nobody takes the report."""
    process = host_with_vsock.start(host_with_vsock.plan(stop_timeout=10))
    stopping = subprocess.Popen(
        host_with_vsock.command("stop", host_with_vsock.running_plan),
        env=host_with_vsock.environment(MAINPID=str(process.pid)),
    )
    address = host_with_vsock.vsock_dir / "guest.socket_5003"
    eventually(lambda: listens(address))
    for message in (b"STOPPING=1", b"READY=1", b"X_SYSTEMD_SHUTDOWN=poweroff"):
        with socket.socket(socket.AF_UNIX) as report:
            report.settimeout(5)
            report.connect(str(address))
            report.sendall(message)
            assert report.recv(1) == b""
    assert stopping.poll() is None
    process.kill()
    assert stopping.wait(5) == 0
    assert not address.exists()


def test_stop_without_control_socket(host_with_vsock: Host) -> None:
    process = host_with_vsock.start(host_with_vsock.plan())
    (host_with_vsock.run_dir / "control.socket").unlink()
    result = host_with_vsock.launch("stop", host_with_vsock.running_plan, MAINPID=str(process.pid))
    assert result.returncode == 0
    assert result.stderr.startswith("vm-launch: cannot press the power button: QEMU's monitor does not answer")


def test_root_disk_is_locked(host_with_vsock: Host, tmp_path: Path) -> None:
    """Two VMs never write one disk."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    plan = host_with_vsock.plan(root=Disk(str(disk)), overlay=Overlay("none", 0))
    host_with_vsock.start(plan)
    boot(host_with_vsock, host_with_vsock.processes[0])
    second = host_with_vsock.launch("start", plan)
    message = f"vm-launch: the root disk {disk} is in use by another program (one that is written to can only be in"
    assert (second.returncode, message in second.stderr) == (EX_UNAVAILABLE, True)
    host_with_vsock.processes[0].kill()
    host_with_vsock.processes[0].wait()
    host_with_vsock.start(plan)


@pytest.mark.parametrize(
    "changes",
    [
        {"log_level": "error"},
        {"log_level": "debug"},
        {"log_level": "trace"},
        {"sandbox": False},
        {"machine": "q35,accel=tcg"},
        {"machine": "pc"},
        {"machine": "q35,sata=on,hpet=on"},
        {"overlay": Overlay("tmpfs", 0)},
        {"memory": 100, "cpus": 3},
    ],
)
def test_qemu_takes_it(host_with_vsock: Host, changes: dict[str, Any]) -> None:
    """QEMU accepts every form of its command line that we make."""
    process = host_with_vsock.start(host_with_vsock.plan(**changes))
    boot(host_with_vsock, process)


def test_qemu_takes_every_disk(host_with_vsock: Host, tmp_path: Path) -> None:
    """Also one whose name is full of the syntax of QEMU's options."""
    if not shutil.which("qemu-img"):
        pytest.skip("no qemu-img")
    file = tmp_path / "a,b=c:d %{} ü.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", file, "10M"], check=True)
    plain = Disk(str(file), "qcow2")
    for disk in (plain._replace(sparse=True, block_size=4096, id="i,d"), plain._replace(readonly=True)):
        process = host_with_vsock.start(host_with_vsock.plan(root=disk))
        boot(host_with_vsock, process)
        process.kill()
        process.wait()


def test_qemu_takes_a_backend_of_the_users(host_with_vsock: Host, tmp_path: Path) -> None:
    """A disk that another program serves: QEMU itself finds fault with a device that it can't make work."""
    daemon = shutil.which("qemu-storage-daemon")
    if not daemon:
        pytest.skip("no qemu-storage-daemon")
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    backend = tmp_path / "backend"
    node = f"driver=file,node-name=disk,filename={tmp_path}/disk"
    export = f"type=vhost-user-blk,id=e,node-name=disk,writable=on,addr.type=unix,addr.path={backend}"
    with subprocess.Popen([daemon, "--blockdev", node, "--export", export]) as serving:
        settings = (Setting(key="queue-size", value=64),)
        plan = host_with_vsock.plan(vhost_user=(VhostUser("block", str(backend), settings),))
        boot(host_with_vsock, host_with_vsock.start(plan))
        serving.kill()


def test_running_plan(host_with_vsock: Host) -> None:
    plan = host_with_vsock.plan()
    host_with_vsock.start(plan)
    assert loads(host_with_vsock.running_plan.read_text()) == loads(plan.read_text())
    assert host_with_vsock.running_plan.stat().st_mode & 0o777 == 0o600
