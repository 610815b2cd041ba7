"""vm-shell: attach the terminal to a VM's serial console.

The console is a FIFO that is its keyboard and a file with everything it printed; `vsock-cmd console` opens both. Any
number of viewers may write to the one and read the other, and the VM notices none of them.

There is no event for "the file has grown" that the user of a file of another may wait for (inotify wants the right
to read it by name), so the file is looked at: often after a key or some output, ten times a second when all is quiet.
That the VM has ended shows at once: a FIFO without readers is an error condition for poll(2).
"""

import _socket
import errno
import os
import select
import signal
import stat
import sys
import termios
import tty

from vmsilo import arguments, names, paths
from vmsilo.failure import EX_NOPERM, EX_USAGE, Failure, complain
from vsock_cmd import console, handover, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

PROGRAM = "vm-shell"
USAGE = """\
usage: vm-shell [-e KEY] NAME
       vm-shell --log NAME

  -e KEY   the key that detaches: a character, ^X for Ctrl-X, or "none" (default: ^])
  --log    print all the console has printed, and exit
"""

DETACH = 0x1D  # Ctrl-]

RECENT_LINES = 100
RECENT_BYTES = 64 * 1024
_CHUNK = 64 * 1024
_TERMINAL_MAJORS = range(136, 144)  # UNIX98_PTY_SLAVE_MAJOR and on (Linux, admin-guide/devices.txt)
_TYPED_MAX = 1024 * 1024  # bytes that wait for a guest that does not read

_SHORTEST, _LONGEST = 0.005, 0.1  # seconds between two looks at the log

# What programs in the guest may have left behind in the terminal: soft reset (cursor, colours, character sets,
# margins), mouse reports and bracketed paste off, back from the alternate screen.
_RESET = b"\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1047l\r\n"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: detached, or the VM has ended."""
    return arguments.carry_out(PROGRAM, _run, argv)


def _run(argv: list[str]) -> int:
    given = arguments.parse(argv, flags=("--log",), valued=("-e",), usage=USAGE)
    if len(given.operands) != 1:
        raise Failure("give the name of one VM", code=EX_USAGE)
    detach = key(given.options["-e"]) if "-e" in given.options else DETACH
    vm = given.operands[0]
    keyboard, log = _connect(vm)
    if "--log" in given.options:
        return _print_log(log)
    if not (os.isatty(0) and os.isatty(1)):
        raise Failure(
            "standard input and output must be a terminal", "--log prints what the console printed", EX_USAGE
        )
    return _attach(vm, keyboard, log, detach)


def key(text: str) -> int | None:
    """The byte that the terminal sends for the key *text*; None for "none". Raises Failure for anything else."""
    if text == "none":
        return None
    if len(text) == 1 and text.isascii():
        return ord(text)
    if len(text) == 2 and text[0] == "^" and text.isascii() and 0x3F <= ord(text[1].upper()) <= 0x5F:
        return ord(text[1].upper()) ^ 0x40
    raise Failure(f"{text!r} is not a key", 'a character, ^X for Ctrl-X, or "none"', EX_USAGE)


def key_name(code: int) -> str:
    """How a person writes the key."""
    return f"Ctrl-{chr(code ^ 0x40)}" if code < 0x20 or code == 0x7F else repr(chr(code))


def _connect(vm: str) -> tuple[int, int]:
    """The console's keyboard and its log. Raises Failure."""
    if not names.is_vm_name(vm):
        raise _why_not(vm)
    helper = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        helper.connect(paths.console_socket(vm))
        keyboard, log = handover.take(helper, 2)
    except (FileNotFoundError, ConnectionRefusedError):
        raise _why_not(vm) from None
    except PermissionError:
        hint = f"only the user named in {names.HOST_STEM}.toml may"
        raise Failure(f"not allowed to attach to {vm}", hint, EX_NOPERM) from None
    except handover.NeverRan:
        hint = f"see systemctl status {names.console_socket_unit(vm)}"
        raise Failure(f"the console of {vm} could not be opened", hint) from None
    except handover.Refused as refusal:
        text = str(refusal)
        raise Failure(text, f"vm-start {vm} starts it" if text == console.NOT_RUNNING else "") from None
    finally:
        helper.close()
    # The helper runs as the VM's user. It may have been taken over; a device must not pass for a console.
    if not (_is_keyboard(os.fstat(keyboard)) and stat.S_ISREG(os.fstat(log).st_mode)):
        raise Failure(f"what was handed over is not the console of {vm}")
    return keyboard, log


def _is_keyboard(status: os.stat_result) -> bool:
    """Whether it is a FIFO, or the terminal that a hypervisor which needs one has instead."""
    if stat.S_ISCHR(status.st_mode):
        return os.major(status.st_rdev) in _TERMINAL_MAJORS
    return stat.S_ISFIFO(status.st_mode)


def _why_not(vm: str) -> Failure:
    """Why nobody listens on the VM's console socket."""
    from vmsilo import vms  # asks systemd, which the usual way does without

    states = vms.query()
    vms.chosen([vm], states)  # raises for a name that no VM has
    complaint = vms.complaint(states, vm)
    if complaint:
        return Failure(f"{vm} is broken: {complaint}")
    unit = names.console_socket_unit(vm)
    return Failure(f"{unit} is not active", f"systemctl start {unit}")


def _print_log(log: int) -> int:
    """Print the whole log with every control character made visible."""
    try:
        os.lseek(log, 0, os.SEEK_DATA)  # its old part may have been given back, and is a hole
    except OSError:
        return 0  # nothing but that
    with os.fdopen(log, "rb") as lines:
        for line in iter(lambda: lines.readline(_CHUNK), b""):
            sys.stdout.write(plain.log(line.decode(errors="replace")))
    return 0


class _Signalled(Exception):
    """SIGTERM or SIGHUP: end, but not without giving the terminal back."""


def _attach(vm: str, keyboard: int, log: int, detach: int | None) -> int:
    how = f", {key_name(detach)} detaches" if detach is not None else ""
    complain(PROGRAM, f"console of {vm}{how}")
    before = termios.tcgetattr(0)
    caught = {number: signal.signal(number, _raise) for number in (signal.SIGTERM, signal.SIGHUP)}
    status = 0
    try:
        tty.setraw(0, termios.TCSANOW)  # what was typed ahead is for the guest
        position = os.fstat(log).st_size
        _write(1, recent(log, position))
        alive = _follow(keyboard, log, position, detach)
        ending = f"detached from {vm}" if alive else f"{vm} has stopped"
    except _Signalled as received:
        status, ending = 128 + received.args[0], "ended by a signal"
    finally:
        _give_back(before)
        for number, handler in caught.items():
            signal.signal(number, handler)
    complain(PROGRAM, ending)
    return status


def _raise(number: int, _frame: "FrameType | None") -> None:
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)  # nothing may interrupt what follows
    raise _Signalled(number)


def _give_back(before: "list[int | list[bytes | int]]") -> None:
    """Undo what was done to the terminal, by us or by the guest. A terminal that has gone needs nothing."""
    try:
        _write(1, _RESET)
        # Input that waits may be the terminal's answers to the guest's questions: not for the user's shell.
        termios.tcsetattr(0, termios.TCSAFLUSH, before)
    except (OSError, termios.error):
        pass


def recent(log: int, end: int) -> bytes:
    """The last lines of the *log* before the position *end*, fit to be shown again."""
    start = max(0, end - RECENT_BYTES)
    content = os.pread(log, end - start, start)
    lines = content.split(b"\n")
    # The first line is whole only at the start of the file.
    whole = lines if start == 0 else lines[1:] or lines
    return plain.colours_only(b"\n".join(whole[-RECENT_LINES:]))


def _follow(keyboard: int, log: int, position: int, detach: int | None) -> bool:
    """Connect terminal and console until the user detaches (True) or the VM ends (False)."""
    typed = bytearray()
    pause = _SHORTEST
    waiter = select.poll()
    waiter.register(0, select.POLLIN)
    while True:
        waiter.register(keyboard, select.POLLOUT if typed else 0)  # POLLERR is always reported
        events = dict(waiter.poll(pause * 1000))
        ended = bool(events.get(keyboard, 0) & select.POLLERR)
        if 0 in events:
            keys = _read_terminal()
            if not keys:
                return True
            before, found, _ = keys.partition(bytes([detach])) if detach is not None else (keys, b"", b"")
            _accept(typed, before)
            if found:
                _type(keyboard, typed)
                return True
        ended |= not _type(keyboard, typed)
        moved = _show(log, position)
        while ended and moved != position:
            position, moved = moved, _show(log, moved)
        if ended:
            return False
        pause = _SHORTEST if events or moved != position else min(2 * pause, _LONGEST)
        position = moved


def _read_terminal() -> bytes:
    """What was typed; nothing when the terminal has gone."""
    try:
        return os.read(0, 4096)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise


def _accept(typed: bytearray, keys: bytes) -> None:
    """Let *keys* wait for the guest, or ring the bell when too many do already: the detach key has to stay alive."""
    if len(typed) + len(keys) <= _TYPED_MAX:
        typed += keys
    elif keys:
        _write(1, b"\a")


def _type(keyboard: int, typed: bytearray) -> bool:
    """Give the guest as much as it takes of what was *typed*. Returns whether there is a guest."""
    try:
        while typed:
            del typed[: os.write(keyboard, typed)]
    except BlockingIOError:
        pass
    except BrokenPipeError:
        return False
    return True


def _show(log: int, position: int) -> int:
    """Show what the log has from *position* on, at most a chunk. Returns the new position."""
    if os.fstat(log).st_size < position:
        position = 0  # it was truncated
    content = os.pread(log, _CHUNK, position)
    _write(1, content)
    return position + len(content)


def _write(descriptor: int, content: bytes) -> None:
    """Write all of *content*; wait where the descriptor does not block."""
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            waiter = select.poll()
            waiter.register(descriptor, select.POLLOUT)
            waiter.poll()
