"""Start a command in the guest as a user, with pipes, a terminal, or nothing of ours attached."""

import errno
import fcntl
import os
import pwd
import struct

from vsock_cmd import stream, wire
from vsock_cmd.signals import raw as signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PATH = b"/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
_ROOT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# As the shell has it, and docker.
_NOT_EXECUTABLE = 126
_NOT_FOUND = 127
_OWN_FAILURE = 255

# Before exec the child reports on a pipe where it failed, as two bytes: the place and errno.
_AT_CWD, _AT_EXEC, _AT_USER = range(3)


class SpawnError(Exception):
    """The command can't be started; *status* is what vm-run should end with."""

    def __init__(self, text: str, status: int = _OWN_FAILURE) -> None:
        super().__init__(text)
        self.status = status


class Command:
    """A command that runs: its process, and our ends of its streams (-1 for what it does not have).

    The process leads a session and a process group of its own.
    """

    __slots__ = ("master", "pid", "pidfd", "stderr", "stdin", "stdout")

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int, master: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.master = master  # the terminal, for its size and foreground group

    def result(self) -> "wire.Exited | wire.Killed":
        """How it ended. It is left as a zombie, so that its number names no other process meanwhile."""
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert info is not None
        if info.si_code == os.CLD_EXITED:
            return wire.Exited(info.si_status)
        return wire.Killed(info.si_status)

    def signal(self, number: int) -> None:
        """Send a signal to the process group, or to what is in the foreground of the terminal."""
        group = self.pid
        if self.master >= 0:
            try:
                group = os.tcgetpgrp(self.master) or group
            except OSError:
                pass  # nobody has the terminal
        kill_group(group, number)

    def resize(self, rows: int, columns: int) -> None:
        if self.master >= 0:
            set_size(self.master, rows, columns)


def kill_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or belongs to somebody else


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def set_size(terminal: int, rows: int, columns: int) -> None:
    import termios  # most commands have no terminal, and the module is a file of its own

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def account(user: str) -> pwd.struct_passwd:
    """The account by name or number. Raises SpawnError."""
    try:
        return pwd.getpwuid(int(user)) if user.isascii() and user.isdigit() else pwd.getpwnam(user)
    except (KeyError, ValueError, OverflowError):
        raise SpawnError(f"the guest has no user {user!r}") from None


def environment(person: pwd.struct_passwd, session: list[bytes], request: wire.Request) -> dict[bytes, bytes]:
    """The command's environment: of the account, then of the PAM session, then of the request."""
    made = {
        b"HOME": os.fsencode(person.pw_dir),
        b"LOGNAME": os.fsencode(person.pw_name),
        b"PATH": _PATH if person.pw_uid else _ROOT_PATH,
        b"SHELL": os.fsencode(person.pw_shell or "/bin/sh"),
        b"USER": os.fsencode(person.pw_name),
    }
    runtime = b"/run/user/%d" % person.pw_uid
    if os.path.isdir(runtime):
        made[b"XDG_RUNTIME_DIR"] = runtime
        if os.path.exists(runtime + b"/bus"):
            made[b"DBUS_SESSION_BUS_ADDRESS"] = b"unix:path=" + runtime + b"/bus"
    if request.pty:
        made[b"TERM"] = request.pty.term
    for item in session + request.environment:
        name, _, value = item.partition(b"=")
        made[name] = value
    return made


def spawn(request: wire.Request, person: pwd.struct_passwd, variables: dict[bytes, bytes]) -> Command:
    """Start the command. Groups are those of this process. Raises SpawnError."""
    if request.pty:
        ours, theirs = _terminal(request.pty, person)
    elif request.detach:
        null = os.open("/dev/null", os.O_RDWR)
        ours, theirs = [-1, -1, -1, -1], [null, os.dup(2), os.dup(2)]
    else:
        ours, theirs = _pipes()
    report, child_report = os.pipe()
    pid = os.fork()
    if not pid:
        _child(request, person, variables, theirs, child_report)
    for fd in {*theirs, child_report}:
        os.close(fd)
    told = os.read(report, 2)
    os.close(report)
    if told:
        os.waitpid(pid, 0)
        for fd in set(ours):
            if fd >= 0:
                os.close(fd)
        raise _failure(request, told)
    return Command(pid, *ours)


def _pipes() -> tuple[list[int], list[int]]:
    stdin, ours_in = os.pipe()
    ours_out, stdout = os.pipe()
    ours_err, stderr = os.pipe()
    for fd in (ours_in, ours_out, ours_err):
        os.set_blocking(fd, False)
    for fd in (ours_in, ours_out):
        stream.enlarge(fd)
    return [ours_in, ours_out, ours_err, -1], [stdin, stdout, stderr]


def _terminal(pty: wire.Pty, person: pwd.struct_passwd) -> tuple[list[int], list[int]]:
    try:
        master, slave = os.openpty()
    except OSError as error:
        raise SpawnError(f"the guest has no terminal to give: {error.strerror}") from None
    set_size(slave, pty.rows, pty.columns)
    os.fchown(slave, person.pw_uid, -1)  # the group is that of devpts
    os.set_blocking(master, False)
    # Two descriptors: one stream each way, and each is closed on its own.
    return [os.dup(master), master, -1, master], [slave, slave, slave]


def _failure(request: wire.Request, told: bytes) -> SpawnError:
    place, number = told
    reason = os.strerror(number)
    if place == _AT_USER:
        return SpawnError(f"can't become the user: {reason}")
    if place == _AT_CWD:
        return SpawnError(f"{(request.cwd or b'').decode(errors='replace')}: {reason}")
    name = (request.command if isinstance(request.command, bytes) else request.command[0]).decode(errors="replace")
    if isinstance(request.command, bytes):
        name = "the user's shell"
    return SpawnError(f"{name}: {reason}", _NOT_FOUND if number == errno.ENOENT else _NOT_EXECUTABLE)


def _child(
    request: wire.Request, person: pwd.struct_passwd, variables: dict[bytes, bytes], streams: list[int], report: int
) -> "NoReturn":
    """The new process up to exec, which never returns."""
    place = _AT_USER
    try:
        os.setsid()
        if request.pty:
            _control(streams[0])
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, 10)  # out of the way of what follows
        for number, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in streams]):
            os.dup2(fd, number)
        os.closerange(3, report)
        os.closerange(report + 1, os.sysconf("SC_OPEN_MAX"))
        _default_signals()
        if os.geteuid() == 0:
            os.setresgid(person.pw_gid, person.pw_gid, person.pw_gid)
            os.setresuid(person.pw_uid, person.pw_uid, person.pw_uid)
        place = _AT_CWD
        _enter(request, person)
        place = _AT_EXEC
        _exec(request, person, variables)
    except OSError as error:
        os.write(report, bytes((place, error.errno or 0)))
    finally:
        os._exit(_OWN_FAILURE)


def _control(terminal: int) -> None:
    """Make *terminal* the one that controls this session."""
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _default_signals() -> None:
    """Python ignores SIGPIPE, systemd perhaps too; an ignored signal stays ignored across exec."""
    ignored = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD)
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _enter(request: wire.Request, person: pwd.struct_passwd) -> None:
    if request.cwd is not None:
        os.chdir(os.path.join(os.fsencode(person.pw_dir), request.cwd))
        return
    try:
        os.chdir(person.pw_dir)
    except OSError:
        os.chdir("/")  # as login(1): a missing home is no reason to refuse


def _exec(request: wire.Request, person: pwd.struct_passwd, variables: dict[bytes, bytes]) -> None:
    if isinstance(request.command, bytes):
        shell = os.fsencode(person.pw_shell or "/bin/sh")
        os.execve(shell, [os.path.basename(shell), b"-c", request.command], variables)
    argv = request.command
    if b"/" in argv[0]:
        os.execve(argv[0], argv, variables)
    failure: OSError = FileNotFoundError(errno.ENOENT, "command not found")
    for directory in variables.get(b"PATH", _PATH).split(b":"):
        try:
            os.execve(os.path.join(directory, argv[0]), argv, variables)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
    raise failure
