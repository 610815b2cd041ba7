"""Core scheduling, as far as this kernel has it: the machine's tests read the cookies back."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.hosts import minimal_plan
from vm_launch import scheduling, start
from vm_launch.boot import NO_CORE_SCHEDULING
from vm_launch.hypervisor import qemu
from vmsilo import plan as plans
from vmsilo.failure import Failure
from vmsilo.notify import note_of, ready_status
from vmsilo.plan import CORES_PER_THREAD, CORES_PER_VM, CORES_SHARED, CORES_UNGUARDED


@pytest.fixture
def smt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's word on whether hyperthreads are in use."""
    path = tmp_path / "active"
    monkeypatch.setattr(start, "SMT", str(path))
    return path


@pytest.mark.parametrize("wanted", [CORES_SHARED, CORES_PER_VM, CORES_PER_THREAD])
def test_without_hyperthreads_there_is_nothing_to_do(
    wanted: str, smt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vm_launch.scheduling", None)  # not even loaded
    assert start.isolate(wanted) == wanted
    smt.write_text("0\n")
    assert start.isolate(wanted) == wanted
    start.isolate_threads(minimal_plan(core_scheduling=wanted), qemu.TRAITS)
    assert capsys.readouterr().err == ""


def test_a_kernel_that_can_not_is_complained_of_once(
    smt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smt.write_text("1\n")
    monkeypatch.setattr(scheduling, "available", lambda: False)
    assert start.isolate(CORES_PER_VM) == CORES_UNGUARDED
    assert capsys.readouterr().err.count("no core scheduling") == 1
    assert start.isolate(CORES_SHARED) == CORES_SHARED
    assert capsys.readouterr().err == ""


def test_the_user_is_told() -> None:
    status = ready_status(NO_CORE_SCHEDULING).removeprefix("STATUS=")
    assert note_of(status) == NO_CORE_SCHEDULING
    assert note_of(ready_status().removeprefix("STATUS=")) == ""
    assert note_of("powering off; not really") == ""


def test_the_running_plan_knows(smt: Path) -> None:
    plan = minimal_plan(core_scheduling=CORES_UNGUARDED)
    assert plans.loads(plans.dumps(plan)) == plan


def monitor(*cpus: object) -> socket.socket:
    """A connection to a QEMU whose processors are *cpus*."""
    ours, theirs = socket.socketpair()
    lines = [{"QMP": {}}, {"return": {}}, {"return": list(cpus)}]
    theirs.sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    theirs.detach()
    return ours


def test_threads_of_qemu() -> None:
    found = monitor({"cpu-index": 0, "thread-id": 11}, {"cpu-index": 1, "thread-id": 12})
    assert qemu.processors(found, time.monotonic() + 5) == [11, 12]


@pytest.mark.parametrize(
    "cpus", [(), ({"cpu-index": 0},), ({"thread-id": 1}, {"thread-id": "2"}), ({"thread-id": -1},)]
)
def test_qemu_that_names_no_threads(cpus: tuple[object, ...]) -> None:
    with pytest.raises(Failure, match="does not name the threads"):
        qemu.processors(monitor(*cpus), time.monotonic() + 5)


# A program that asks for its threads to be isolated and then becomes another, as vm-launch does. The other, a sleep,
# never answers on the socket that this test listens on.
_BECOME = """
import os, sys, time
sys.path[:0] = sys.argv[2].split(":")
from vm_launch import scheduling
def ask(connection, deadline):
    connection.settimeout(deadline - time.monotonic())
    answer = connection.recv(1)
    if answer != b"y":
        raise ValueError("no answer")
    return []
scheduling.isolate_later(sys.argv[1], ask, time.monotonic() + 20)
os.execv("/bin/sleep", ["sleep", "60"])
"""


def become(listener: socket.socket) -> "subprocess.Popen[bytes]":
    root = Path(__file__).parents[2]
    modules = f"{root}:{root / 'helpers/vm-launch'}"
    command = [sys.executable, "-c", _BECOME, listener.getsockname(), modules]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(tmp_path / "control"))
    made.listen()
    made.settimeout(30)
    return made


def test_a_child_does_it_and_is_gone(listener: socket.socket) -> None:
    with become(listener) as process:
        connection, _ = listener.accept()
        connection.sendall(b"y")
        assert connection.recv(1) == b""  # it has ended, and the program goes on
        time.sleep(0.1)
        assert process.poll() is None
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
        process.kill()


def test_a_child_that_fails_ends_the_hypervisor(listener: socket.socket) -> None:
    with become(listener) as process:
        connection, _ = listener.accept()
        connection.sendall(b"n")
        assert process.wait(timeout=30) == -signal.SIGTERM
        assert process.stderr
        assert b"cannot keep the virtual processors apart (schedulerIsolation): no answer" in process.stderr.read()


def test_a_hypervisor_that_ends_by_itself_is_nothing_to_tell(listener: socket.socket) -> None:
    with become(listener) as process:
        connection, _ = listener.accept()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        connection.close()
        assert process.stderr
        assert process.stderr.read() == b""
