"""vm-run, connector and agent together, running real commands."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import Rig

MIB = 1 << 20

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for *condition* to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def reported_pid(path: Path) -> int:
    """The process number that a command of the guest writes to *path*."""
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# Output, status, arguments


def test_output_and_status(rig: Rig) -> None:
    result = rig.command("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 7)


def test_arguments_arrive_one_by_one(rig: Rig) -> None:
    result = rig.command("printf", "<%s>", "a b", "", "$HOME", "ä;'\"")
    assert result.stdout.decode() == "<a b><><$HOME><ä;'\">"


def test_bytes_that_are_no_text_arrive(rig: Rig) -> None:
    result = rig.command("printf", "%s", os.fsdecode(b"\xff\xfe"))
    assert result.stdout == b"\xff\xfe"


def test_stdin_arrives_with_its_end(rig: Rig) -> None:
    assert rig.command("tr", "a-z", "A-Z", stdin=b"hello\n").stdout == b"HELLO\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_death_by_signal_is_128_and_its_number(rig: Rig, number: int) -> None:
    assert rig.command(f"kill -{int(number)} $$").returncode == 128 + number


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["no-such-command", "x"], 127, "no-such-command: No such file or directory"),
        (["/etc/passwd", "x"], 126, "/etc/passwd: Permission denied"),
        (["/no/such", "x"], 127, "/no/such: No such file or directory"),
    ],
)
def test_a_command_that_can_not_be_started(rig: Rig, arguments: list[str], status: int, text: str) -> None:
    result = rig.command(*arguments)
    assert result.returncode == status
    assert result.stderr.decode() == f"vm-run: demo: {text}\n"


def test_environment(rig: Rig) -> None:
    result = rig.run("--env", "A=1 2", "-e", "B==", "-eHOME=/x", rig.vm, "env")
    lines = result.stdout.decode().splitlines()
    assert {"A=1 2", "B==", "HOME=/x"} <= set(lines)
    assert not [line for line in lines if line.startswith(("LISTEN_", "TERM=", "PYTEST"))]


def test_working_directory(rig: Rig, tmp_path: Path) -> None:
    assert rig.run("--cwd", str(tmp_path), rig.vm, "pwd").stdout.decode() == f"{tmp_path}\n"
    result = rig.run("--cwd", "/no/such", rig.vm, "pwd")
    assert result.returncode == 255
    assert b"vm-run: demo: /no/such: No such file or directory" in result.stderr


@root
def test_user(rig: Rig) -> None:
    result = rig.run("--user", "nobody", rig.vm, "sh", "-c", "id -un; id -G; echo $USER $HOME")
    assert result.stdout.decode() == "nobody\n65534\nnobody /nonexistent\n"
    assert rig.run("--user", "0", rig.vm, "id -un").stdout == b"root\n"
    result = rig.run("--user", "no\x1b[31mbody", rig.vm, "id")
    assert result.returncode == 255
    assert result.stderr == b"vm-run: demo: the guest has no user 'no\\x1b[31mbody'\n"


def test_standard_signals_are_as_usual(rig: Rig) -> None:
    """Neither Python's ignored SIGPIPE nor a signal mask reaches the command."""
    result = rig.command("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status")
    masks = {name.decode(): int(mask, 16) for name, mask in map(bytes.split, result.stdout.splitlines())}
    # The two behind the standard ones are libc's own: who runs the tests may ignore them, and nobody can change it.
    assert {name: mask & 0x7FFF_FFFF for name, mask in masks.items()} == {"SigBlk:": 0, "SigIgn:": 0}


def test_only_the_streams_are_inherited(rig: Rig) -> None:
    assert rig.command("ls", "/proc/self/fd").stdout.split() == [b"0", b"1", b"2", b"3"]  # 3: the directory itself


def test_too_long_a_command_is_refused_before_anything_starts(rig: Rig) -> None:
    result = rig.command("echo", *["x" * 100_000] * 3)
    assert result.returncode == 255
    assert b"at most 262136 are possible" in result.stderr
    assert not rig.connectors


# Streams


def check_bytes(rig: Rig, size: int) -> None:
    sent = os.urandom(MIB) * (size // MIB)
    result = rig.command("cat", stdin=sent)
    assert result.returncode == 0
    assert result.stdout == sent


def test_64_mib_there_and_back_at_once(rig: Rig) -> None:
    check_bytes(rig, 64 * MIB)


def test_both_outputs_at_once_stay_apart(rig: Rig) -> None:
    result = rig.command("head -c 4194304 /dev/zero & tr '\\0' x </dev/zero | head -c 4194304 >&2; wait")
    assert result.stdout == bytes(4 * MIB)
    assert result.stderr == b"x" * (4 * MIB)


def test_ten_commands_at_once(rig: Rig) -> None:
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: check_bytes(rig, 2 * MIB), range(10)))
    assert len(rig.agents) == 10
    assert [agent.wait(10) for agent in rig.agents] == [0] * 10


def test_output_of_background_processes_is_waited_for(rig: Rig) -> None:
    assert rig.command("(sleep 0.3; echo late) & exit 3").stdout == b"late\n"


def test_closed_stdout_ends_the_command(rig: Rig) -> None:
    process = rig.start(rig.vm, "yes")
    assert process.stdout
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGPIPE


def test_closed_stdin_of_the_command_stops_reading(rig: Rig) -> None:
    """A command that stops reading while its input goes on ends when it wants to."""
    with open("/dev/zero", "rb") as zeros:
        result = subprocess.run(
            rig.argv(rig.vm, "exec 0<&-; sleep 0.3; echo done"),
            stdin=zeros,
            capture_output=True,
            timeout=10,
            check=True,
        )
    assert result.stdout == b"done\n"


def test_slow_stdout_does_not_hold_up_stderr(rig: Rig) -> None:
    process = rig.start(rig.vm, "cat /dev/zero & sleep 0.5; echo here >&2; wait")
    assert process.stderr
    assert process.stdout
    assert process.stderr.readline() == b"here\n"
    process.stdout.close()
    process.wait(10)


def test_stdin_with_nothing_to_read_does_not_hold_up_the_end(rig: Rig) -> None:
    process = rig.start(rig.vm, "echo hi")
    assert process.wait(10) == 0


def test_standard_streams_stay_blocking(rig: Rig) -> None:
    """They are shared with the shell that started vm-run."""
    reading, writing = os.pipe()
    result = subprocess.Popen(rig.argv(rig.vm, "echo hi"), stdin=subprocess.DEVNULL, stdout=writing)
    assert result.wait(10) == 0
    assert os.get_blocking(writing)
    assert os.read(reading, 10) == b"hi\n"
    os.close(reading)
    os.close(writing)


def test_sockets_and_files_as_streams(rig: Rig, tmp_path: Path) -> None:
    with open(tmp_path / "out", "ab") as file:
        file.write(b"before\n")
        file.flush()
        subprocess.run(
            rig.argv(rig.vm, "echo", "after"), stdin=subprocess.DEVNULL, stdout=file, check=True, timeout=10
        )
    assert (tmp_path / "out").read_bytes() == b"before\nafter\n"
    script = f"exec {' '.join(rig.argv(rig.vm, 'cat'))} <&- >&-"
    assert subprocess.run(["sh", "-c", script], timeout=10, check=False).returncode == 0


# Signals and ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_signals_reach_the_command(rig: Rig, number: int) -> None:
    name = signal.Signals(number).name.removeprefix("SIG")
    process = rig.start(rig.vm, f"trap 'echo got {name}; exit 5' {name}; echo up; while :; do sleep 0.05; done")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"got {name}\n".encode()
    assert process.wait(10) == 5


def test_full_stdin_does_not_hold_up_ctrl_c(rig: Rig) -> None:
    with open("/dev/zero", "rb") as zeros:
        process = subprocess.Popen(rig.argv(rig.vm, "sleep 1000"), stdin=zeros)
    until(lambda: rig.agents)
    time.sleep(0.5)  # until nothing more goes into the pipe, the windows and the socket
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 128 + signal.SIGINT


def test_fourth_interrupt_leaves_a_command_that_does_not_end(rig: Rig) -> None:
    process = rig.start(rig.vm, "trap '' INT; echo up; sleep 1000")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert process.wait(5) == 130
    assert process.stderr
    assert b"still runs" in process.stderr.read()


def test_killed_vm_run_hangs_the_command_up(rig: Rig, tmp_path: Path) -> None:
    script = f"trap 'echo hup >{tmp_path}/hup; exit' HUP; echo $$ >{tmp_path}/pid; while :; do sleep 0.05; done"
    process = rig.start(rig.vm, script)
    pid = reported_pid(tmp_path / "pid")
    process.kill()
    process.wait(10)
    until(lambda: gone(pid))
    assert (tmp_path / "hup").read_text() == "hup\n"
    assert rig.agents[0].wait(10) == 0


def test_command_that_ignores_the_hangup_is_killed(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = rig.start(rig.vm, f"trap '' HUP; echo $$ >{tmp_path}/pid; while :; do sleep 0.05; done")
    pid = reported_pid(tmp_path / "pid")
    process.kill()
    process.wait(10)
    until(lambda: gone(pid), 15)


@pytest.mark.parametrize("command", ["sleep 1000", "cat /dev/zero"])
def test_killed_agent_is_noticed_within_a_second(rig: Rig, command: str, tmp_path: Path) -> None:
    process = rig.start(rig.vm, f"echo $$ >{tmp_path}/pid; exec {command} 2>&1")
    pid = reported_pid(tmp_path / "pid")
    start = time.monotonic()
    rig.agents[0].kill()
    assert process.wait(5) == 255
    assert time.monotonic() - start < 1
    assert process.stderr
    assert process.stderr.read() == b"vm-run: demo: the connection to the guest was lost\n"
    os.kill(pid, signal.SIGKILL)


def test_detached_command_outlives_its_vm_run(rig: Rig, tmp_path: Path) -> None:
    script = f"echo $$ >{tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo x >{tmp_path}/done"
    result = rig.run("-d", rig.vm, script)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    pid = reported_pid(tmp_path / "pid")
    assert not gone(pid)
    (tmp_path / "go").touch()
    until((tmp_path / "done").exists)
    assert rig.agents[0].wait(10) == 0


def test_detached_command_that_can_not_be_started(rig: Rig) -> None:
    assert rig.run("-d", rig.vm, "/no/such", "x").returncode == 127


def test_nothing_of_ours_remains_but_vm_run(rig: Rig) -> None:
    """While a command runs, the connector has gone: nobody copies bytes in between."""
    process = rig.start(rig.vm, "echo up; cat")
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    (connector,) = rig.connectors
    assert connector.wait(5) == 0
    assert process.poll() is None
    assert process.stdin
    process.stdin.write(b"still\n")
    process.stdin.close()
    assert process.stdout.read() == b"still\n"
    assert process.wait(10) == 0


# The command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "which VM?"),
        (["demo"], "which command?"),
        (["--nonsense", "demo", "true"], "there is no option '--nonsense'"),
        (["-x", "demo", "true"], "there is no option '-x'"),
        (["-d", "-t", "demo", "true"], "-d and -t exclude each other"),
        (["--env", "X", "demo", "true"], "--env X: expected NAME=VALUE"),
        (["--tty=yes", "demo", "true"], "--tty takes no value"),
        (["--user"], "--user needs a value"),
    ],
)
def test_wrong_command_lines(rig: Rig, arguments: list[str], text: str) -> None:
    result = rig.run(*arguments)
    assert result.returncode == 255
    assert result.stderr.decode().startswith(f"vm-run: {text}")
    assert not rig.connectors


def test_options_end_at_the_vm(rig: Rig) -> None:
    assert rig.run("-T", "--", rig.vm, "echo", "-t", "--user").stdout == b"-t --user\n"
    assert rig.run("-dT", rig.vm, "true").returncode == 0


def test_help(rig: Rig) -> None:
    result = rig.run("--help")
    assert result.returncode == 0
    assert result.stdout.startswith(b"usage: vm-run ")
