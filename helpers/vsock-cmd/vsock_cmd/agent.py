"""The guest's agent: runs the commands that the host asks for.

systemd starts one per connection (vmsilo-agent@.service), as root, with the connection as standard input. A guest
without systemd runs ``agent --listen``, which forks for each connection. Only the host is served: anybody in the
guest can connect to this port, too.
"""

import _socket
import os
import sys

from vmsilo import ports
from vmsilo.failure import EX_NOPERM, EX_OSERR, EX_USAGE, complain
from vsock_cmd import credentials, session
from vsock_cmd.signals import raw as signal

USAGE = "usage: agent [--listen] [--user NAME]"

_DEFAULT_USER = "user"
_SESSIONS_MAX = 256  # at once, for --listen


def main() -> int:
    options = _parse(sys.argv[1:])
    if options is None:
        complain(session.PROGRAM, USAGE)
        return EX_USAGE
    listen, user = options
    if listen:
        return _listen(user)
    return _serve(_socket.socket(fileno=0), user)


def _parse(argv: list[str]) -> "tuple[bool, str] | None":
    listen, user = False, _DEFAULT_USER
    words = iter(argv)
    for option in words:
        if option == "--listen":
            listen = True
        elif option == "--user":
            user = next(words, "")
        else:
            return None
    return (listen, user) if user else None


def _serve(connection: _socket.socket, user: str) -> int:
    refusal = _refusal(connection)
    if refusal:
        complain(session.PROGRAM, refusal)
        return EX_NOPERM
    return session.serve(connection, user)


def _refusal(connection: _socket.socket) -> str:
    """Why the peer is not served, or "". A Unix socket was connected by whoever started this process."""
    if connection.family != _socket.AF_VSOCK:
        return ""
    reserved = credentials.read(ports.RESERVED_PORT_CREDENTIAL) is not None
    return refusal_of(connection.getpeername(), reserved=reserved)


def refusal_of(peer: tuple[int, int], *, reserved: bool) -> str:
    """Why the vsock address *peer* is not served, or ""."""
    cid, port = peer
    if cid != ports.HOST_CID:
        return f"refused a connection from vsock context {cid}, which is not the host"
    if reserved and port > ports.LAST_RESERVED:
        return f"refused a connection from the host's unprivileged vsock port {port}"
    return ""


def _listen(user: str) -> int:
    listener = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM)
    try:
        listener.bind((_socket.VMADDR_CID_ANY, ports.COMMAND))
        listener.listen(16)
    except OSError as error:
        complain(session.PROGRAM, f"can't listen at vsock port {ports.COMMAND}: {error.strerror}")
        return EX_OSERR
    credentials.notify_ready()
    running = 0
    while True:
        running -= _reap(wait=running >= _SESSIONS_MAX)
        fd, _ = listener._accept()  # type: ignore[attr-defined]  # what socket.accept() is made of
        running += _fork(listener, fd, user)


def _reap(*, wait: bool) -> int:
    """Bury sessions that have ended, after waiting for one if asked to. How many."""
    ended = 0
    try:
        while os.waitpid(-1, 0 if wait and not ended else os.WNOHANG)[0]:
            ended += 1
    except ChildProcessError:
        pass
    return ended


def _fork(listener: _socket.socket, fd: int, user: str) -> int:
    """Serve the connection *fd* in a child. How many children that made."""
    try:
        pid = os.fork()
    except OSError as error:
        complain(session.PROGRAM, f"can't fork: {error.strerror}")
        os.close(fd)
        return 0
    if pid:
        os.close(fd)
        return 1
    status = 1
    try:
        listener.close()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = _serve(_socket.socket(fileno=fd), user)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)
