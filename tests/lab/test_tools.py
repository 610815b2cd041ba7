"""vm-shell, vm-list and the others with a real guest."""

import os
import pty
import select
import time
from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host, Process
from lab.tree import USER
from vmsilo import names, paths

VM = "tools"


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    with lab.configured({VM: config.vm()}):
        lab.run("vm-start", VM, user=USER)
        yield


class Viewer:
    """A vm-shell of the user, on a terminal."""

    def __init__(self, lab: Host, *arguments: str) -> None:
        self.master, terminal = pty.openpty()
        self.process: Process = lab.start(
            "vm-shell", *arguments, user=USER, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        self.seen = b""

    def read_until(self, wanted: bytes, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(wanted)[2]

    def close(self) -> None:
        self.process.stop()
        self.process.wait()
        os.close(self.master)


def test_list(lab: Host) -> None:
    (listed,) = [vm for vm in lab.listed() if vm["name"] == VM]
    assert (listed["state"], listed["hypervisor"], listed["message"]) == ("running", "qemu", "")
    assert 0 < listed["uptime"] < 3600


def test_console(lab: Host) -> None:
    one, other = Viewer(lab, VM), Viewer(lab, VM)
    try:
        one.read_until(b"Ctrl-] detaches")
        other.read_until(b"Ctrl-] detaches")
        lab.vm_run("--user", "root", VM, "echo both see it >/dev/ttyS0")
        one.read_until(b"both see it\r\n")
        other.read_until(b"both see it\r\n")
        os.write(one.master, b"\x1d")
        one.read_until(f"detached from {VM}".encode())
        assert one.process.wait().code == 0
        lab.run("vm-stop", "--force", VM, user=USER)
        other.read_until(f"{VM} has stopped".encode())
        assert other.process.wait().code == 0
    finally:
        one.close()
        other.close()


def test_what_is_typed_reaches_the_guest(lab: Host) -> None:
    lab.run("vm-start", VM, user=USER)
    viewer = Viewer(lab, VM)
    reader = lab.start("vm-run", "--user", "root", VM, "head -n 1 </dev/ttyS0", user=USER)
    try:
        viewer.read_until(b"detaches")
        deadline = time.monotonic() + 60
        while reader.popen.poll() is None:
            assert time.monotonic() < deadline
            os.write(viewer.master, b"typed\r")  # again, in case nobody read yet
            time.sleep(0.5)
        assert b"typed" in reader.wait().raw
    finally:
        viewer.close()
        reader.stop()


def test_nothing_of_the_console_stays(lab: Host) -> None:
    """The helper is gone once it has handed over the console."""
    lab.run("vm-start", VM, user=USER)
    viewer = Viewer(lab, VM)
    try:
        viewer.read_until(b"detaches")
        assert not [line for line in lab.processes() if "vsock-cmd console" in line]
    finally:
        viewer.close()


def test_log(lab: Host) -> None:
    lab.vm_run("--user", "root", VM, "printf '\\033[31mred\\n' >/dev/ttyS0")
    lab.wait_for(lambda: "^[[31mred\n" in lab.run("vm-shell", "--log", VM, user=USER).out)
    assert lab.run("stat", "-c", "%U", paths.console_socket(VM)).out == f"{USER}\n"


def test_stopped_vm_has_no_console(lab: Host) -> None:
    lab.run("vm-stop", "--force", VM, user=USER)
    done = lab.run("vm-shell", "--log", VM, user=USER, check=False)
    assert (done.code, done.err) == (69, f"vm-shell: the VM is not running (vm-start {VM} starts it)\n")
    assert lab.state(names.vm_unit(VM)) == "inactive"
