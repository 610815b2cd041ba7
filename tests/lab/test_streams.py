"""Between a vm-run and its command: bytes, ends of streams, signals, terminals."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vmsilo import names

VM = "streams"
MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    with lab.configured({VM: config.vm()}):
        yield


def digest(content: bytes) -> str:
    """Instead of the content itself, which no message about a difference should hold."""
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"


def test_64_mib_each_way_at_once(lab: Host) -> None:
    sent = random.Random(1).randbytes(64 * MIB)
    received = lab.vm_run(VM, "cat", input=sent, timeout=300).raw
    assert digest(received) == digest(sent)


def test_64_mib_in(lab: Host) -> None:
    sent = random.Random(2).randbytes(64 * MIB)
    assert lab.vm_run(VM, "sha256sum", input=sent, timeout=300).out.split()[0] == hashlib.sha256(sent).hexdigest()


def test_64_mib_out(lab: Host) -> None:
    received = lab.vm_run(VM, "yes 0123456789abcde | head -c 67108864", timeout=300).raw
    assert digest(received) == digest(b"0123456789abcde\n" * (4 * MIB))


def test_outputs_stay_apart(lab: Host) -> None:
    done = lab.vm_run(VM, "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


def test_input_ends_before_output(lab: Host) -> None:
    assert (
        lab.vm_run(VM, "cat >/tmp/in; sleep 1; wc -c </tmp/in; echo end >&2", input=b"x" * 100_000).out == "100000\n"
    )


def test_output_ends_before_input(lab: Host) -> None:
    """The command closes its output and goes on reading."""
    pipeline = f"vm-run {VM} 'exec >&- 2>&-; cat >/tmp/late' | {{ cat; echo end of output; }}"
    session = lab.start("sh", "-c", pipeline, user=USER)
    session.write(b"first ")
    assert session.read_line() == b"end of output\n"
    session.write(b"second")
    assert session.wait().code == 0
    assert lab.vm_run(VM, "cat", "/tmp/late").out == "first second"


def test_a_command_that_does_not_read(lab: Host) -> None:
    """Ends, although more input waits for it than all buffers on the way hold."""
    assert lab.vm_run(VM, "head -c 1; exit 5", input=b"z" * (16 * MIB), check=False).code == 5


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGHUP, "HUP")]
)
def test_signals_reach_the_command(lab: Host, number: signal.Signals, name: str) -> None:
    session = lab.start(
        "vm-run", VM, f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.1; done", user=USER
    )
    assert session.read_line() == b"ready\n"
    session.signal(number)
    done = session.wait()
    assert (done.code, done.out) == (3, f"got {name}\n")


def test_a_signal_that_kills(lab: Host) -> None:
    session = lab.start("vm-run", VM, "echo ready; exec sleep 300", user=USER)
    assert session.read_line() == b"ready\n"
    session.signal(signal.SIGTERM)
    assert session.wait().code == 128 + signal.SIGTERM


def test_ctrl_c_passes_a_full_input(lab: Host) -> None:
    """A command that reads nothing has filled all buffers, and still gets its signal."""
    session = lab.start("vm-run", VM, "trap 'exit 4' INT; echo ready; while :; do sleep 0.1; done", user=USER)
    assert session.read_line() == b"ready\n"
    assert session.popen.stdin
    descriptor = session.popen.stdin.fileno()
    os.set_blocking(descriptor, False)
    full_since = time.monotonic()
    while time.monotonic() - full_since < 1:
        try:
            os.write(descriptor, b"x" * 65536)
            full_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.05)
    session.signal(signal.SIGINT)
    assert session.wait().code == 4


def test_killed_client_is_a_hangup(lab: Host) -> None:
    session = lab.start(
        "vm-run", VM, "trap 'echo hup >/tmp/hangup; exit' HUP; echo ready; while :; do sleep 0.1; done", user=USER
    )
    assert session.read_line() == b"ready\n"
    session.signal(signal.SIGKILL)
    session.popen.wait()
    lab.wait_for(lambda: lab.vm_run(VM, "cat /tmp/hangup", check=False).out == "hup\n")


def test_terminal(lab: Host) -> None:
    done = lab.vm_run("-t", VM, "tty; stty size; echo error >&2")
    assert "/dev/pts/" in done.out
    assert "error" in done.out  # a terminal is one stream


def test_no_terminal_without_one(lab: Host) -> None:
    assert "not a tty" in lab.vm_run(VM, "tty", check=False).out


def test_killed_hypervisor_ends_the_command(lab: Host) -> None:
    session = lab.start("vm-run", VM, "echo ready; sleep 300", user=USER)
    assert session.read_line() == b"ready\n"
    began = time.monotonic()
    lab.run("kill", "-9", str(lab.main_pid(names.vm_unit(VM))))
    done = session.wait()
    took = time.monotonic() - began
    assert done.code == 255
    assert VM in done.err
    assert took < 1.0 + 0.5  # a second, and what kill(1) takes to get into the lab


def test_starts_again_after_that(lab: Host) -> None:
    lab.wait_for(lambda: lab.state(names.vm_unit(VM)) in ("failed", "inactive"))
    assert lab.vm_run(VM, "echo", "again").out == "again\n"
