"""vm-run on a terminal, and a terminal for the command."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from vsock_cmd import terminal

from .conftest import Rig
from .test_run import until

# The shell that a user would have: leader of the session, and vm-run's parent.
_SHELL = """\
import fcntl, os, subprocess, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = subprocess.Popen(sys.argv[1:])
print(child.pid, flush=True, file=sys.stderr)
sys.exit(child.wait())
"""


class Screen:
    """A user's terminal with a vm-run on it."""

    def __init__(self, argv: list[str], rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-c", _SHELL, *argv],
            stdin=self.slave,
            stdout=self.slave,
            stderr=subprocess.PIPE,
            env={"TERM": "vt220", "PATH": "/bin"},
        )
        assert self.process.stderr
        self.pid = int(self.process.stderr.readline())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, pattern: bytes, seconds: float = 10) -> "re.Match[bytes]":
        """Read until *pattern* has been shown; what was shown before it is forgotten."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.shown)):
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], self.shown
            self.shown += os.read(self.master, 4096)
        self.shown = self.shown[match.end() :]
        return match

    def interrupt(self) -> None:
        """Type Ctrl-C until it ends a shell, which passes over one that hits a child's very last moment."""
        for _ in range(20):
            self.type(b"\x03")
            try:
                assert self.process.wait(0.5) == 130
            except subprocess.TimeoutExpired:
                continue
            return
        raise AssertionError("it goes on")

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def check_restored(self) -> None:
        assert termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screens() -> Iterator[list[Screen]]:
    opened: list[Screen] = []
    yield opened
    for screen in opened:
        screen.close()


def open_screen(screens: list[Screen], argv: list[str], **size: int) -> Screen:
    screens.append(Screen(argv, **size))
    return screens[-1]


def test_command_has_the_same_terminal(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "tty; echo $TERM; stty size; exit 3"), rows=33, columns=101)
    screen.expect(rb"/dev/pts/\d+\r\nvt220\r\n33 101\r\n")
    assert screen.process.wait(10) == 3
    screen.check_restored()


def test_window_size_follows(rig: Rig, screens: list[Screen]) -> None:
    script = "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"
    screen = open_screen(screens, rig.argv(rig.vm, script))
    screen.expect(rb"up\r\n")
    screen.resize(50, 132)
    screen.expect(rb"50 132\r\n")
    screen.interrupt()
    screen.check_restored()


def test_keys_are_the_commands(rig: Rig, screens: list[Screen]) -> None:
    """Echo, line editing and Ctrl-C are those of the guest's terminal."""
    screen = open_screen(screens, rig.argv(rig.vm, "echo up; cat; echo not here"))
    screen.expect(rb"up\r\n")
    until(lambda: screen.raw)
    screen.type(b"abX\x7fc\r")
    screen.expect(rb"abX\x08 \x08c\r\nabc\r\n")
    screen.type(b"\x03")
    screen.expect(rb"\^C")
    assert screen.process.wait(10) == 130
    screen.check_restored()


def test_end_of_file_key(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "cat; echo then"))
    until(lambda: screen.raw)
    screen.type(b"\x04")
    screen.expect(rb"then\r\n")
    assert screen.process.wait(10) == 0


def test_all_output_before_the_end_arrives(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "seq 20000"))
    screen.expect(rb"\b20000\r\n")
    assert screen.process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_given_back_after_a_signal(rig: Rig, screens: list[Screen], number: int) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "echo up; sleep 1000"))
    screen.expect(rb"up\r\n")
    assert screen.raw
    os.kill(screen.pid, number)
    assert screen.process.wait(10) == 128 + number
    screen.check_restored()
    assert rig.agents[0].wait(10) == 0


def test_terminal_is_given_back_when_the_guest_dies(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "echo up; sleep 1000"))
    screen.expect(rb"up\r\n")
    rig.agents[0].kill()
    assert screen.process.wait(2) == 255
    screen.check_restored()


def test_suspended_and_continued(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"))
    screen.expect(rb"up\r\n")
    os.kill(screen.pid, signal.SIGTSTP)
    until(lambda: not screen.raw)
    screen.check_restored()
    until(lambda: open(f"/proc/{screen.pid}/stat").read().split()[2] == "T")
    screen.resize(40, 100)
    os.kill(screen.pid, signal.SIGCONT)
    screen.expect(rb"40 100\r\n")
    assert screen.raw
    screen.interrupt()


def test_no_terminal_when_asked(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv("-T", rig.vm, "tty; sleep 1000"))
    screen.expect(rb"not a tty\r\n")
    assert not screen.raw
    screen.type(b"\x03")  # makes the kernel send SIGINT to vm-run, which forwards it
    assert screen.process.wait(10) != 0


def test_terminal_without_one_of_ones_own(rig: Rig) -> None:
    """-t from a script: input that ends is an end-of-file typed, whether a line is open or not."""
    for sent in (b"line\n", b"line"):
        result = rig.run("-t", rig.vm, "stty -echo; echo up; cat; tty >/dev/null && echo then", stdin=sent)
        assert result.returncode == 0
        assert result.stdout.endswith(b"then\r\n")
        assert b"line" in result.stdout


def test_closed_stdout_hangs_the_terminal_up(rig: Rig) -> None:
    process = rig.start("-t", rig.vm, "yes")
    assert process.stdout
    process.stdout.read(4)
    process.stdout.close()
    assert process.wait(10) == 128 + signal.SIGHUP


def test_background_processes_do_not_hold_a_terminal(rig: Rig) -> None:
    result = rig.run("-t", rig.vm, "trap '' HUP; sleep 5 & echo done")
    assert result.stdout == b"done\r\n"


def test_terminal_that_has_gone_is_no_failure() -> None:
    master, slave = os.openpty()
    one, other = terminal.Terminal(slave), terminal.Terminal(slave)
    one.raw()
    os.close(master)
    one.restore()
    other.raw()
    other.restore()
    assert other.size() == (24, 80)
    os.close(slave)


def test_three_escapes_leave_a_guest_that_does_not_answer(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "stty raw; echo ready; exec sleep 1000"))
    screen.expect(rb"ready")
    (agent,) = rig.agents
    agent.send_signal(signal.SIGSTOP)
    try:
        screen.type(b"\x03")
        for _ in range(3):
            screen.type(b"\x1d")
        assert screen.process.wait(10) == 255
        assert screen.process.stderr
        assert b"demo: left with Ctrl-]" in screen.process.stderr.read()
    finally:
        agent.send_signal(signal.SIGCONT)
    screen.check_restored()


def test_fewer_escapes_and_slower_ones_are_the_commands(rig: Rig, screens: list[Screen]) -> None:
    screen = open_screen(screens, rig.argv(rig.vm, "stty raw -echo; echo ready; head -c 6 | od -An -tx1"))
    screen.expect(rb"ready")
    for keys in (b"\x1d", b"\x1d", b"a", b"\x1d", b"\x1d"):
        screen.type(keys)
    time.sleep(1.1)
    screen.type(b"\x1d")
    screen.expect(rb"1d 1d 61 1d 1d 1d")
    assert screen.process.wait(10) == 0
