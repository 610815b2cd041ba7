"""vsock-cmd console: hand a VM's console to a viewer, and be gone.

systemd starts it once per client of the console's socket, as the VM's own user, with the client as standard input.
The client gets the write end of the FIFO that is the console's keyboard, not blocking, and the log of all that the
console printed, for reading. Each viewer has descriptions of its own, so none can move another's position or change
its flags.

cloud-hypervisor takes its console's input from nothing but a terminal. There the keyboard is a link to the terminal's
other end, whose number nobody can choose.

The directory belongs to the hypervisor's user. Whatever may stand there under the two names, the viewer gets a FIFO
(or a terminal of the VM's own) and a regular file, or nothing.
"""

import _socket
import errno
import os
import stat

from vmsilo import paths
from vmsilo.failure import EX_UNAVAILABLE, EX_USAGE, complain
from vsock_cmd import handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

USAGE = "usage: vsock-cmd console RUN_DIR"

NOT_RUNNING = "the VM is not running"

_TERMINALS = "/dev/pts/"

# No directory or file; or a FIFO that nobody reads: the hypervisor has just ended, or has not opened it yet.
_NOBODY_THERE = (errno.ENOENT, errno.ENXIO)


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        complain("vsock-cmd", USAGE)
        return EX_USAGE
    client = _socket.socket(fileno=0)
    try:
        return _hand_over(client, argv[0])
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the client has gone, and with it the need


def _hand_over(client: _socket.socket, run_dir: str) -> int:
    try:
        keyboard = _open_keyboard(f"{run_dir}/{paths.CONSOLE_INPUT}")
        log = _open(f"{run_dir}/{paths.CONSOLE_LOG}", os.O_RDONLY, stat.S_ISREG)
    except OSError as error:
        if error.errno in _NOBODY_THERE:
            handover.refuse(client, NOT_RUNNING)
            return 0
        text = f"can't open the console: {error.strerror or error}"
        complain("vsock-cmd", text)
        handover.refuse(client, text)
        return EX_UNAVAILABLE
    handover.give(client, keyboard, log)
    return 0


def _open_keyboard(path: str) -> int:
    try:
        target = os.readlink(path)
    except OSError:
        return _open(path, os.O_WRONLY, stat.S_ISFIFO)
    if not (target.startswith(_TERMINALS) and target.removeprefix(_TERMINALS).isdigit()):
        raise OSError(f"{path} is not what it should be")
    terminal = _open(target, os.O_WRONLY, stat.S_ISCHR)
    if os.fstat(terminal).st_uid != os.geteuid():
        raise OSError(f"{path} is a terminal of somebody else")
    return terminal


def _open(path: str, flags: int, is_right: "Callable[[int], bool]") -> int:
    """Open what must be of the right kind; never wait, never follow a link."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    if not is_right(os.fstat(descriptor).st_mode):
        raise OSError(f"{path} is not what it should be")
    return descriptor
