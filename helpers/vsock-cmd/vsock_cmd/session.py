"""The agent's side of one command: take the request, start it, relay, report how it ended."""

import _socket
import os
import select
import time

from vmsilo.failure import complain
from vsock_cmd import pam, spawn, stream, wire
from vsock_cmd.signals import raw as signal

PROGRAM = "vmsilo-agent"

_PATIENCE = 20  # milliseconds: about a frame at the speed of an emulated guest; also what a Ctrl-C may wait
_REQUEST_TIMEOUT = 30.0  # seconds until the request has to be there
_CLOSE_TIMEOUT = 10.0  # seconds for the client to take the last message and go
_HANGUP_TIMEOUT = 5.0  # seconds between SIGHUP and SIGKILL


class Session(stream.Link):
    """A client, and from start() on its command."""

    def __init__(self, connection: _socket.socket) -> None:
        super().__init__(connection, wire.TO_AGENT, wire.REQUEST_MAX, patience=_PATIENCE)
        self.request: wire.Request | None = None
        self.command: spawn.Command | None = None
        self._result: wire.Exited | wire.Killed | None = None
        self._line_open = False  # typed into the terminal since the last line's end

    def on_control(self, payload: bytes) -> None:
        if self.request is None:
            self.request = wire.decode_request(payload)
            self.finished = True
            return
        order = wire.decode_order(payload)
        if self.command is None or self._result is not None:
            return  # it has ended, and the client does not know yet
        if isinstance(order, wire.Signal):
            self.command.signal(order.number)
        else:
            self.command.resize(order.rows, order.columns)

    def start(self, command: spawn.Command) -> None:
        """Relay *command* from now on."""
        self.command = command
        self.finished = False
        self.reply(wire.Started(command.pid))
        if command.stdin >= 0:
            self.add_sink(stream.Sink(wire.STDIN, command.stdin, os.write if command.master < 0 else self._type))
        for channel, fd in ((wire.STDOUT, command.stdout), (wire.STDERR, command.stderr)):
            if fd >= 0:
                self.add_source(stream.Source(channel, fd))
        self.watch(command.pidfd, self._on_exit)

    def reply(self, reply: "wire.Started | wire.Failed | wire.Exited | wire.Killed") -> None:
        self.control(wire.encode_reply(reply))

    def farewell(self) -> None:
        """Flush, and leave the closing to the client: what is unread when the guest closes may be lost on the way."""
        end = time.monotonic() + _CLOSE_TIMEOUT
        self.connection.settimeout(_CLOSE_TIMEOUT)
        try:
            self.writer.flush()
            while self.connection.recv(wire.DATA_MAX) and time.monotonic() < end:
                pass  # sent before the client knew, or after it broke the protocol: of no interest either way
        except OSError:
            pass

    def on_sink_end(self, fd: int) -> None:
        assert self.command is not None
        if self.command.master >= 0:
            self._type_end_of_file(fd)
        os.close(fd)

    def on_source_end(self, fd: int) -> None:
        assert self.command is not None
        if fd == self.command.master:
            self.command.master = -1
            for sink in self.sinks:
                sink.broken = True  # with both gone, the kernel hangs the terminal up
        os.close(fd)
        self._check_end()

    def _type(self, fd: int, piece: memoryview) -> int:
        size = os.write(fd, piece)
        self._line_open = piece[size - 1] not in b"\r\n"
        return size

    def _type_end_of_file(self, fd: int) -> None:
        """A terminal's input has no end; what a user would type there does the same, unless the terminal is raw."""
        import termios

        try:
            _, _, _, local, _, _, characters = termios.tcgetattr(fd)
            if local & termios.ICANON:
                end = characters[termios.VEOF]
                os.write(fd, end + end if self._line_open else end)  # the first one only ends an open line
        except (OSError, termios.error):
            pass  # full, or hung up

    def _on_exit(self) -> None:
        assert self.command is not None
        self.unwatch(self.command.pidfd)
        self._result = self.command.result()
        if self.command.master >= 0:
            # Others may still have the terminal open; the session on it has ended.
            for source in self.sources:
                source.last = True
        self._check_end()

    def _check_end(self) -> None:
        """Report the end once the process has ended and nobody holds its output open any more."""
        if self._result is not None and all(source.ended for source in self.sources):
            self.reply(self._result)
            self.finished = True


def serve(connection: _socket.socket, default_user: str) -> int:
    """Serve the one command of *connection*. Returns an exit status: 0 however the command itself ended."""
    session = Session(connection)
    try:
        if not session.run(_REQUEST_TIMEOUT):
            complain(PROGRAM, "no request came")
            return 1
        return _serve_request(session, default_user)
    except stream.Closed:
        return 0
    except wire.WireError as error:
        complain(PROGRAM, str(error))
        session.reply(wire.Failed(str(error), 255))
        session.farewell()
        return 1


def _serve_request(session: Session, default_user: str) -> int:
    request = session.request
    assert request is not None
    login = None
    try:
        person = spawn.account(request.user or default_user)
        if os.geteuid() == 0:
            os.initgroups(person.pw_name, person.pw_gid)
            login = pam.open_session(person.pw_name)
        variables = spawn.environment(person, login.environment() if login else [], request)
        command = spawn.spawn(request, person, variables)
    except (spawn.SpawnError, pam.PamError, OSError) as error:
        session.reply(wire.Failed(str(error), getattr(error, "status", 255)))
        session.farewell()
    else:
        if request.detach:
            _detach(session, command)
        else:
            _relay(session, command)
    if login:
        login.close()
    return 0


def _relay(session: Session, command: spawn.Command) -> None:
    try:
        session.start(command)
        session.run()
    except stream.Closed:
        _hang_up(session, command)
    except wire.WireError as error:
        complain(PROGRAM, str(error))
        _hang_up(session, command)
    else:
        session.farewell()


def _hang_up(session: Session, command: spawn.Command) -> None:
    """The client has gone: end what it started as the end of a login session would."""
    groups = {command.pid}
    if command.master >= 0:
        try:
            groups.add(os.tcgetpgrp(command.master))
        except OSError:
            pass
    groups.discard(0)
    for group in groups:
        spawn.kill_group(group, signal.SIGHUP)
        spawn.kill_group(group, signal.SIGCONT)
    # A terminal is hung up by closing it. Pipes stay open, unread: who tidies up on SIGHUP should not die of SIGPIPE.
    ours = [sink.fd for sink in session.sinks] + ([command.master] if command.master >= 0 else [])
    for fd in ours:
        if fd >= 0:
            os.close(fd)
    session.connection.close()
    if not _ended(command, groups, time.monotonic() + _HANGUP_TIMEOUT):
        for group in groups:
            spawn.kill_group(group, signal.SIGKILL)


def _ended(command: spawn.Command, groups: set[int], deadline: float) -> bool:
    """Whether nobody is left in *groups* by the *deadline*."""
    select.select([command.pidfd], [], [], max(0.0, deadline - time.monotonic()))
    while time.monotonic() < deadline:
        try:
            os.waitpid(command.pid, os.WNOHANG)  # as a zombie it would count as a member
        except ChildProcessError:
            pass  # waited for already
        if not any(spawn.group_exists(group) for group in groups):
            return True
        time.sleep(0.05)
    return False


def _detach(session: Session, command: spawn.Command) -> None:
    """Let the command run without its client; this process stays as the parent of its session."""
    session.command = command
    session.reply(wire.Started(command.pid))
    session.farewell()
    session.connection.close()
    os.waitpid(command.pid, 0)
