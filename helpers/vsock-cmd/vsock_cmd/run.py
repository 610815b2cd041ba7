"""vm-run: run a command in a VM, which is started first if need be.

The command socket's helper hands over a connection to the guest's agent; from then on this process and the agent talk
directly, vmsilo-cmd(7). The guest is not trusted: nothing it sends is printed but the command's own output.
"""

import _socket
import os
import stat
import sys

from vmsilo import names, paths
from vmsilo.failure import EX_USAGE, Failure, complain, reason
from vsock_cmd import handover, wire
from vsock_cmd.client import PROGRAM, Client, Lost
from vsock_cmd.signals import raw as signal

USAGE = """\
usage: vm-run [-t | -T] [-d] [--user USER] [--cwd DIR] [--env NAME=VALUE] VM COMMAND [ARGUMENT...]

Run COMMAND in VM, which is started first if need be. A COMMAND without arguments is given to the user's shell.

  -t, --tty             give the command a terminal (the default where stdin and stdout are one)
  -T, --no-tty          give it none
  -d, --detach          leave the command running, and return once it has started
  -u, --user USER       run as USER of the guest
  -w, --cwd DIR         run in DIR of the guest, not in the user's home
  -e, --env NAME=VALUE  add to the command's environment; may be repeated
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vsock_cmd.terminal import Terminal

_OWN_FAILURE = 255


class Options:
    """What the command line asks for."""

    __slots__ = ("command", "cwd", "detach", "environment", "tty", "user", "vm")

    def __init__(self) -> None:
        self.vm = ""
        self.command: list[str] = []
        self.tty: bool | None = None  # None: as stdin and stdout are
        self.detach = False
        self.user: str | None = None
        self.cwd: str | None = None
        self.environment: list[str] = []


def main() -> int:
    _open_standard_streams()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until a command runs, Ctrl-C ends vm-run as it does any program
    try:
        options = parse(sys.argv[1:])
        if options is None:
            sys.stdout.write(USAGE)
            return 0
        return _run(options)
    except Failure as failure:
        complain(PROGRAM, str(failure))
        return _OWN_FAILURE
    except (Lost, wire.WireError) as error:
        complain(PROGRAM, f"{options.vm}: {error}" if options else str(error))
        return _OWN_FAILURE
    except OSError as error:
        complain(PROGRAM, reason(error))
        return _OWN_FAILURE


def parse(argv: list[str]) -> Options | None:
    """Read the command line up to the VM's name; the rest is the command. None: help is wanted. Raises Failure."""
    options = Options()
    words = list(argv)
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        if word == "--":
            break
        if word in ("-h", "--help"):
            return None
        _option(options, word, words)
    if not words:
        raise Failure("which VM?", "vm-run --help shows how to call it", EX_USAGE)
    options.vm, options.command = words[0], words[1:]
    if not options.command or not options.command[0]:
        raise Failure("which command?", "vm-run --help shows how to call it", EX_USAGE)
    if options.detach and options.tty:
        raise Failure("-d and -t exclude each other: a detached command has no terminal", code=EX_USAGE)
    return options


def _option(options: Options, word: str, words: list[str]) -> None:
    """Take one option; its value may be the next of *words*."""
    name, separator, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
    if name in ("-u", "--user", "-w", "--cwd", "-e", "--env"):
        if not separator and not words:
            raise Failure(f"{name} needs a value", code=EX_USAGE)
        _valued(options, name, value if separator else words.pop(0))
    elif separator and name.startswith("--"):
        raise Failure(f"{name} takes no value", code=EX_USAGE)
    elif name in ("-t", "--tty"):
        options.tty = True
    elif name in ("-T", "--no-tty"):
        options.tty = False
    elif name in ("-d", "--detach"):
        options.detach = True
    else:
        raise Failure(f"there is no option {word!r}", "vm-run --help shows those there are", EX_USAGE)
    if separator and not name.startswith("--") and name not in ("-u", "-w", "-e"):
        words.insert(0, "-" + separator)  # letters in one word: -dT


def _valued(options: Options, name: str, value: str) -> None:
    if name in ("-u", "--user"):
        options.user = _text(name, value)
    elif name in ("-w", "--cwd"):
        options.cwd = value
    elif value.find("=") < 1:
        raise Failure(f"{name} {value}: expected NAME=VALUE", code=EX_USAGE)
    else:
        options.environment.append(value)


def _text(name: str, value: str) -> str:
    """*value* if it is text: a file name may be any bytes, a user's name may not."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Failure(f"{name} {value}: not UTF-8", code=EX_USAGE) from None
    return value


def request_of(options: Options, pty: wire.Pty | None) -> wire.Request:
    """What is sent to the agent. A single argument is a line for the shell, as with ssh."""
    argv = [os.fsencode(word) for word in options.command]
    return wire.Request(
        argv[0] if len(argv) == 1 else argv,
        environment=[os.fsencode(item) for item in options.environment],
        cwd=None if options.cwd is None else os.fsencode(options.cwd),
        user=options.user,
        pty=pty,
        detach=options.detach,
    )


def _run(options: Options) -> int:
    pty, terminal = _terminal(options)
    request = wire.encode_request(request_of(options, pty))
    streams = 0 if options.detach else 2 if pty else 3
    client = Client(reach(options.vm), request, terminal, streams=streams)
    client.relay()
    if client.message:
        complain(PROGRAM, f"{options.vm}: {client.message}")
    return client.status


def _terminal(options: Options) -> "tuple[wire.Pty | None, Terminal | None]":
    """The terminal that the command gets, and the user's that is to behave like it, if it is one."""
    ours = os.isatty(0)
    tty = ours and os.isatty(1) if options.tty is None else options.tty
    if options.detach or not tty:
        return None, None
    from vsock_cmd.terminal import Terminal  # with it comes termios, for nothing where there is no terminal

    terminal = Terminal(0 if ours else 1)
    pty = wire.Pty(os.fsencode(os.environ.get("TERM", "dumb")), *terminal.size())
    return pty, terminal if ours else None


def reach(vm: str) -> _socket.socket:
    """A connection to the agent in *vm*; waits for the VM to start. Raises Failure."""
    helper = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _connect(helper, vm)
        (descriptor,) = handover.take(helper, 1)
    except handover.Refused as refusal:
        raise Failure(f"VM {vm}: {refusal}") from None
    except PermissionError:
        raise Failure(f"not allowed to run commands in VM {vm}", "only the user that host.toml names is") from None
    except (handover.NeverRan, ConnectionResetError):
        from vsock_cmd import why

        raise why.never_ran(vm) from None
    finally:
        helper.close()
    connection = _as_connection(descriptor)
    if connection is None:
        raise Failure(f"VM {vm}: what the connector handed over is no connection to a guest")
    return connection


def _as_connection(descriptor: int) -> _socket.socket | None:
    """The socket *descriptor* if it is one that leads to a guest.

    The connector runs as the VM's user, whom a guest may have become: what is written to some other kind of socket,
    such as the kernel's, could count as the deed of the user who writes.
    """
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return None
    connection = _socket.socket(fileno=descriptor)
    known = connection.family in (_socket.AF_UNIX, _socket.AF_VSOCK) and connection.type == _socket.SOCK_STREAM
    return connection if known else None


def _connect(helper: _socket.socket, vm: str) -> None:
    """Connect to the VM's command socket. Raises Failure, PermissionError or ConnectionResetError."""
    path = paths.command_socket(vm)
    try:
        if not names.is_vm_name(vm):
            raise FileNotFoundError
        helper.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        from vsock_cmd import why  # asks systemctl, and costs more than the whole way to the guest

        why.open_socket(vm)
        try:
            helper.connect(path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Failure(f"{path}: {error.strerror}") from None


def _open_standard_streams() -> None:
    """Have all of 0, 1 and 2 open, or a connection could get one of these numbers and be taken for a stream."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        pass
    os.close(fd)
