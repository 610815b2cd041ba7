"""Standard streams as vm-run finds them: shared, full, closed, or of somebody else."""

import fcntl
import os
import signal
import socket
import subprocess
import time

import pytest

from vsock_cmd import client

from .conftest import Rig


def quick(rig: Rig, script: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["sh", "-c", script], capture_output=True, timeout=20, check=False)


def test_stdin_that_pauses_holds_up_nothing(rig: Rig) -> None:
    """A read that was large is no promise of more: another one would wait for the writer."""
    process = rig.start(rig.vm, "head -c 65536 | wc -c; cat >/dev/null")
    assert process.stdin
    assert process.stdout
    time.sleep(0.5)  # let all of it be there at once
    process.stdin.write(bytes(65536))
    process.stdin.flush()
    os.set_blocking(process.stdout.fileno(), False)
    end = time.monotonic() + 5
    found = None
    while found is None and time.monotonic() < end:
        found = process.stdout.read(10)
        time.sleep(0.02)
    assert found == b"65536\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 128 + signal.SIGINT


def test_pipe_that_can_not_be_opened_again_never_waits() -> None:
    """As one that root made is not for the user who runs vm-run."""
    reading, writing = os.pipe()
    os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)))
    signal.alarm(5)
    try:
        with pytest.raises(BlockingIOError):
            client._write_little(writing, memoryview(b"x"))
    finally:
        signal.alarm(0)
        os.close(reading)
        os.close(writing)


def test_socket_as_stdout_ends_with_the_stream(rig: Rig) -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        rig.argv(rig.vm, "echo hi; exec >&-; sleep 5"), stdin=subprocess.DEVNULL, stdout=theirs.fileno()
    )
    theirs.close()
    ours.settimeout(3)
    received = b""
    while piece := ours.recv(100):
        received += piece
    assert received == b"hi\n"
    assert process.poll() is None
    process.kill()
    process.wait()
    ours.close()


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_failure_that_nobody_can_be_told_is_a_failure_still(rig: Rig, where: str) -> None:
    assert quick(rig, f"exec {' '.join(rig.argv('--nonsense'))} {where}").returncode == 255


def test_message_into_a_closed_pipe(rig: Rig) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(rig.argv("--nonsense"), stderr=writing)
    os.close(writing)
    assert process.wait(10) == 255


@pytest.mark.parametrize("user", [b"\xff", b"a\xc3"])
def test_user_that_is_no_text(rig: Rig, user: bytes) -> None:
    result = rig.run("--user", os.fsdecode(user), rig.vm, "true")
    assert result.returncode == 255
    assert b"Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "environment", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"LC_ALL": "nonsense"}]
)
def test_bare_environment(rig: Rig, environment: dict[str, str]) -> None:
    """As cron has it: no HOME, no TERM, no PATH."""
    argv = rig.argv(rig.vm, "printf", "%s", os.fsdecode(b"\xff\xc3\xa4"))
    result = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"\xff\xc3\xa4", b"")
