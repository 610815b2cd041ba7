"""The guest's serial console: a FIFO that every viewer may write, and a file with all that was printed.

Both stand in the VM's runtime directory, so console and log need no process. What the guest prints is hostile:
it reaches a journal or terminal only through visible().
"""

import os

from vm_launch import files
from vmsilo import paths

LAST_LINES = 20
_TAIL_BYTES = 16384
_LINE_CHARACTERS = 200


def make(run_dir: str) -> int:
    """Create FIFO and log; the FIFO's descriptor, open for both ends.

    While it is open, a hypervisor that opens the FIFO to read neither waits for a writer nor sees the end of
    the file when the last viewer leaves.
    """
    fifo = _fresh(run_dir, paths.CONSOLE_INPUT)
    os.mkfifo(fifo, 0o600)
    os.close(open_log(run_dir))
    return os.open(fifo, os.O_RDWR | os.O_CLOEXEC)


def open_log(run_dir: str) -> int:
    """Create the empty log; its descriptor, for appending."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(_fresh(run_dir, paths.CONSOLE_LOG), flags, 0o600)


def make_terminal(run_dir: str) -> tuple[int, int]:
    """Create a terminal in place of the FIFO, and the log; both ends of the terminal.

    For a hypervisor that reads its console only from a terminal. Its standard input is the first end; what viewers
    write to the other arrives there. The second descriptor has to stay open as long: without it the first
    reports a hang-up whenever no viewer is there.
    """
    import termios

    reader, line = os.openpty()
    mode = termios.tcgetattr(line)
    mode[0] = mode[1] = mode[3] = 0  # no translation, no echo, no signals: bytes pass as they are
    mode[2] |= termios.CS8
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    termios.tcsetattr(line, termios.TCSANOW, mode)
    os.symlink(os.ttyname(line), _fresh(run_dir, paths.CONSOLE_INPUT))
    return reader, line


def last_lines(run_dir: str, count: int = LAST_LINES) -> list[str]:
    """The last *count* lines of the console, safe to print. Empty if there is nothing."""
    try:
        with open(os.path.join(run_dir, paths.CONSOLE_LOG), "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            tail = log.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = tail.replace(b"\r\n", b"\n").rstrip(b"\r\n").split(b"\n")[-count:]
    return [visible(line) for line in lines] if tail else []


def visible(line: bytes) -> str:
    """*line* with everything that could act on a terminal spelled out, and of bounded length."""
    text = line[: 4 * _LINE_CHARACTERS].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _LINE_CHARACTERS else shown[:_LINE_CHARACTERS] + "..."


def _fresh(run_dir: str, name: str) -> str:
    """The path of *name*, with nothing left there from an earlier start."""
    path = os.path.join(run_dir, name)
    files.remove(path)
    return path
