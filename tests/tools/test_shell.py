"""vm-shell on a real terminal, with the helper that systemd would start, a FIFO and a file."""

import errno
import fcntl
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptor import Acceptor
from project import ROOT

from vmsilo.failure import Failure
from vsock_cmd import console, handover, shell

VSOCK_CMD = ROOT / "helpers" / "vsock-cmd"

# The command as installed, but for where it looks for sockets.
VM_SHELL = """
import sys
from vmsilo import paths
paths.RUN = sys.argv.pop(1)
from vsock_cmd.shell import main
sys.exit(main())
"""
HELPER = "import sys; from vsock_cmd.main import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{VSOCK_CMD}", "TERM": "xterm"}


class Console:
    """What a hypervisor makes of its console, and the socket where systemd would listen."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.directory = run / "demo" / "machine" / "vm"
        self.directory.mkdir(parents=True)
        self.fifo = self.directory / "console.in"
        self.log = self.directory / "console.out"
        self.log.touch()
        os.mkfifo(self.fifo)
        self.keyboard = os.open(self.fifo, os.O_RDWR)  # as a hypervisor holds it
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(run / "demo" / "console.socket"))
        listener.listen()
        self.close = Acceptor(listener, self._serve).close

    def _serve(self, client: socket.socket) -> None:
        with client:
            helper = [sys.executable, "-c", HELPER, "console", str(self.directory)]
            subprocess.run(helper, stdin=client.fileno(), env=ENVIRONMENT, timeout=20, check=False)

    def print(self, text: bytes) -> None:
        with self.log.open("ab") as log:
            log.write(text)

    def typed(self, count: int) -> bytes:
        """The next *count* bytes that arrive at the guest."""
        got = b""
        while len(got) < count:
            assert select.select([self.keyboard], [], [], 10)[0], got
            got += os.read(self.keyboard, count - len(got))
        return got

    def nothing_typed(self) -> bool:
        return not select.select([self.keyboard], [], [], 0.1)[0]

    def stop(self) -> None:
        """The hypervisor ends, and systemd takes its directory away."""
        os.close(self.keyboard)
        self.keyboard = -1
        self.fifo.unlink()
        self.log.unlink()
        if self.keyboard >= 0:
            os.close(self.keyboard)


class Viewer:
    """A vm-shell on a terminal of its own."""

    def __init__(self, run: Path, *arguments: str) -> None:
        self.master, terminal = pty.openpty()
        self.terminal = terminal
        self.before = termios.tcgetattr(terminal)
        self.process = subprocess.Popen(
            [sys.executable, "-c", VM_SHELL, str(run), *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        self.seen = b""

    def read_until(self, wanted: bytes) -> bytes:
        """All that was printed up to *wanted*."""
        deadline = time.monotonic() + 10
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(wanted)
        return before

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.terminal)[tty.LFLAG] & termios.ICANON

    def wait(self) -> int:
        status = self.process.wait(timeout=10)
        assert termios.tcgetattr(self.terminal) == self.before
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.terminal)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Console]:
    guest = Console(tmp_path)
    yield guest
    guest.close()


@pytest.fixture
def viewer(guest: Console) -> Iterator[Viewer]:
    guest.print(b"login: ")
    viewer = Viewer(guest.run, "demo")
    viewer.read_until(b"login: ")
    yield viewer
    viewer.close()


def test_recent_output_comes_first_then_what_is_new(guest: Console) -> None:
    guest.print(b"".join(b"line %d\r\n" % number for number in range(500)) + b"\x1b[6nlogin: ")
    viewer = Viewer(guest.run, "demo")
    try:
        shown = viewer.read_until(b"login: ")
        assert b"vm-shell: console of demo, Ctrl-] detaches\r\n" in shown
        assert re.findall(rb"line (\d+)", shown) == [b"%d" % number for number in range(401, 500)]
        assert b"\x1b" not in shown
        guest.print(b"user\r\n\x1b[6n")
        assert viewer.read_until(b"user\r\n") == b""
        viewer.read_until(b"\x1b[6n")  # what is new arrives as it is
    finally:
        viewer.close()


def test_keys_reach_the_guest_as_they_are(guest: Console, viewer: Viewer) -> None:
    assert viewer.is_raw
    viewer.press(b"ls\r\x03\x04\x1a\x11\x13\xff")
    assert guest.typed(9) == b"ls\r\x03\x04\x1a\x11\x13\xff"
    assert viewer.process.poll() is None


def test_detach(guest: Console, viewer: Viewer) -> None:
    viewer.press(b"sync\r\x1dnot for the guest")
    viewer.read_until(b"vm-shell: detached from demo\r\n")
    assert viewer.wait() == 0
    assert guest.typed(5) == b"sync\r"
    assert guest.nothing_typed()


def test_another_detach_key(guest: Console) -> None:
    viewer = Viewer(guest.run, "-e", "^a", "demo")
    try:
        viewer.read_until(b"Ctrl-A detaches")
        viewer.press(b"\x1d")
        assert guest.typed(1) == b"\x1d"
        viewer.press(b"\x01")
        assert viewer.wait() == 0
    finally:
        viewer.close()


def test_two_viewers(guest: Console, viewer: Viewer) -> None:
    other = Viewer(guest.run, "demo")
    try:
        other.read_until(b"login: ")
        viewer.press(b"a")
        other.press(b"b")
        assert sorted(guest.typed(2)) == sorted(b"ab")
        guest.print(b"to both\r\n")
        viewer.read_until(b"to both\r\n")
        other.read_until(b"to both\r\n")
        viewer.press(b"\x1d")
        assert viewer.wait() == 0
        guest.print(b"still here\r\n")
        other.read_until(b"still here\r\n")
        other.press(b"c")
        assert guest.typed(1) == b"c"
    finally:
        other.close()


def test_vm_stops(guest: Console, viewer: Viewer) -> None:
    guest.print(b"Power down\r\n")
    guest.stop()
    viewer.read_until(b"Power down\r\n")
    viewer.read_until(b"vm-shell: demo has stopped\r\n")
    assert viewer.wait() == 0


def test_log_is_truncated(guest: Console, viewer: Viewer) -> None:
    guest.print(b"x" * 1000)
    viewer.read_until(b"x" * 1000)
    os.truncate(guest.log, 0)
    guest.print(b"anew\r\n")
    viewer.read_until(b"anew\r\n")


def test_guest_that_does_not_read(guest: Console, viewer: Viewer) -> None:
    flags = fcntl.fcntl(guest.keyboard, fcntl.F_GETFL)
    pipe_size = fcntl.fcntl(guest.keyboard, fcntl.F_GETPIPE_SZ)
    for _ in range(pipe_size // 4096 + 8):
        viewer.press(b"k" * 4096)
    viewer.press(b"\x1d")
    assert viewer.wait() == 0
    assert fcntl.fcntl(guest.keyboard, fcntl.F_GETFL) == flags  # the hypervisor's end still blocks
    assert set(guest.typed(pipe_size // 2)) == set(b"k")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_gives_the_terminal_back(viewer: Viewer, number: signal.Signals) -> None:
    viewer.press(b"x")
    viewer.process.send_signal(number)
    assert viewer.wait() == 128 + number


def test_terminal_goes_away(guest: Console) -> None:
    viewer = Viewer(guest.run, "demo")
    viewer.read_until(b"detaches")
    os.close(viewer.terminal)
    os.close(viewer.master)
    viewer.process.wait(timeout=10)


def test_idle_viewer_costs_next_to_nothing(viewer: Viewer) -> None:
    def ticks() -> int:
        fields = Path(f"/proc/{viewer.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.3)
    before = ticks()
    time.sleep(1)
    assert ticks() - before <= 3  # hundredths of a second


def run_shell(guest: Console, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", VM_SHELL, str(guest.run), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=20,
    )


def test_print_log(guest: Console) -> None:
    guest.print(b"\x1b]0;owned\x07one\r\n" + b"two\r\n" * 500 + b"caf\xc3\xa9 \xff")
    result = run_shell(guest, "--log", "demo")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == "^[]0;owned^Gone\n" + "two\n" * 500 + "café \ufffd"


def test_print_log_without_what_was_given_back(guest: Console) -> None:
    """Of a long log only the last part is kept; the rest is a hole."""
    os.truncate(guest.log, 1 << 40)
    guest.print(b"x" * 4096 + b"end\n")
    result = run_shell(guest, "--log", "demo")
    assert result.returncode == 0
    assert result.stdout.lstrip(b"^@").lstrip(b"x") == b"end\n"


def test_print_log_of_nothing(guest: Console) -> None:
    result = run_shell(guest, "--log", "demo")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_print_log_to_a_reader_that_leaves(guest: Console) -> None:
    guest.print(b"line\n" * 100_000)
    shell = [sys.executable, "-c", VM_SHELL, str(guest.run), "--log", "demo"]
    process = subprocess.Popen(shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout
    assert process.stderr
    assert process.stdout.read(5) == b"line\n"
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""


def test_needs_a_terminal(guest: Console) -> None:
    result = run_shell(guest, "demo")
    assert result.returncode == 64
    assert b"must be a terminal" in result.stderr


def test_stopped_vm(guest: Console) -> None:
    guest.stop()
    result = run_shell(guest, "--log", "demo")
    assert (result.returncode, result.stderr) == (69, b"vm-shell: the VM is not running (vm-start demo starts it)\n")


def test_hypervisor_that_died_without_cleaning_up(guest: Console) -> None:
    os.close(guest.keyboard)
    guest.keyboard = -1
    assert b"the VM is not running" in run_shell(guest, "--log", "demo").stderr


def hand_over(directory: Path) -> list[int]:
    """What the helper gives to a client."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = [sys.executable, "-c", HELPER, "console", str(directory)]
        subprocess.run(helper, stdin=theirs.fileno(), env=ENVIRONMENT, stderr=subprocess.PIPE, timeout=20)
        theirs.close()
        return handover.take(ours, 2)


def test_helper_gives_descriptors_of_its_own(guest: Console) -> None:
    guest.print(b"some text")
    keyboard, log = hand_over(guest.directory)
    other_keyboard, other_log = hand_over(guest.directory)
    assert os.read(log, 4) == b"some"
    assert os.read(other_log, 4) == b"some"
    assert fcntl.fcntl(keyboard, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    assert fcntl.fcntl(log, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert not os.get_blocking(keyboard)
    assert os.get_blocking(guest.keyboard)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.write(log, b"x")
    for descriptor in (keyboard, log, other_keyboard, other_log):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("console.in", kind) for kind in ("link", "directory", "device", "file", "socket")]
    + [("console.out", kind) for kind in ("link", "directory", "device", "fifo", "socket")],
)
def test_helper_gives_nothing_else(guest: Console, tmp_path: Path, name: str, kind: str) -> None:
    """A hypervisor that was taken over owns the directory."""
    place = guest.directory / name
    target = tmp_path / "target"
    if kind == "link":
        place.rename(target)
        place.symlink_to(target)
    else:
        place.unlink()
    if kind == "directory":
        place.mkdir()
    elif kind == "device":
        if os.getuid():
            pytest.skip("only root can make a device")
        os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "file":
        place.touch()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(place))
    with pytest.raises(handover.Refused):
        hand_over(guest.directory)


def test_helper_usage() -> None:
    assert console.main([]) == 64


@pytest.mark.parametrize(
    ("text", "code"), [("^]", 0x1D), ("^a", 1), ("^A", 1), ("~", 0x7E), ("^?", 0x7F), ("^@", 0), ("none", None)]
)
def test_key(text: str, code: int | None) -> None:
    assert shell.key(text) == code


@pytest.mark.parametrize("text", ["", "ab", "^ab", "é", "^é", "^ß", "^ "])
def test_no_key(text: str) -> None:
    with pytest.raises(Failure):
        shell.key(text)


def test_recent_starts_at_a_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * shell.RECENT_BYTES + b"\nwhole\r\n")
    descriptor = os.open(log, os.O_RDONLY)
    assert shell.recent(descriptor, log.stat().st_size) == b"whole\r\n"
    assert shell.recent(descriptor, 10) == b"x" * 10
    os.close(descriptor)
