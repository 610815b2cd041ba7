"""Reach a port of a guest.

Two ways. Hybrid: cloud-hypervisor and vhost-device-vsock serve a Unix socket; say ``CONNECT <port>\\n``, and after
``OK <number>\\n`` the same connection is the guest's. Kernel: AF_VSOCK, from a source port that only privileged
processes may bind, by which the guest tells root's connections from those of any other local user.
"""

import _socket
import errno
import os
import time

from vmsilo import ports

_REPLY_MAX = 32  # bytes of the OK line


class NotThere(Exception):
    """Nothing answers at that port of the guest, at the moment."""


def connect_hybrid(path: str, port: int, timeout: float) -> _socket.socket:
    """Connect to *port* through the hybrid socket *path*; each step takes at most *timeout* seconds.

    Raises NotThere, or OSError where there is no such socket.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        _connect_path(connection, path)
        try:
            connection.sendall(b"CONNECT %d\n" % port)
            reply = _read_line(connection)
        except (BrokenPipeError, ConnectionResetError):
            reply = b""
        if not (reply.startswith(b"OK ") and reply[3:-1].isdigit()):
            raise NotThere(f"the guest does not listen at vsock port {port}")
        connection.settimeout(None)
        return connection
    except BaseException:
        connection.close()
        raise


def _connect_path(connection: _socket.socket, path: str) -> None:
    try:
        connection.connect(path)
    except BlockingIOError:  # a timeout does not make a Unix socket wait for a place in the queue
        raise NotThere(f"too many connect to {path} at once") from None


def _read_line(connection: _socket.socket) -> bytes:
    """One line, and not a byte beyond it: that is the guest's already. b"" when the connection ends before."""
    line = b""
    while len(line) < _REPLY_MAX:
        byte = connection.recv(1)
        if not byte:
            return b""
        line += byte
        if byte == b"\n":
            return line
    return b""


def connect_kernel(cid: int, port: int, timeout: float) -> _socket.socket:
    """Connect to *port* of the guest *cid* through the kernel, from a reserved port.

    Raises NotThere, or OSError: PermissionError without CAP_NET_BIND_SERVICE.
    """
    connection = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM)
    try:
        _bind_reserved(connection)
        connection.settimeout(timeout)
        try:
            connection.connect((cid, port))
        except (ConnectionResetError, ConnectionRefusedError) as error:
            raise NotThere(f"the guest does not listen at vsock port {port}") from error
        connection.settimeout(None)
        return connection
    except BaseException:
        connection.close()
        raise


def _bind_reserved(connection: _socket.socket) -> None:
    """Bind a free reserved port: the kernel picks only unreserved ones by itself."""
    first = os.getpid()  # neighbours start at different places, so that they seldom meet
    for number in range(ports.LAST_RESERVED):
        try:
            connection.bind((_socket.VMADDR_CID_ANY, 1 + (first + number) % ports.LAST_RESERVED))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise NotThere("all reserved vsock ports of this host are in use")


def connect(cid: int, port: int, hybrid: str, *, patience: float, timeout: float) -> _socket.socket:
    """Connect to *port* of the guest *cid*: through *hybrid* if that socket exists, else through the kernel.

    A guest that does not listen yet is asked again for *patience* seconds. Raises NotThere or OSError.
    """
    end = time.monotonic() + patience
    while True:
        try:
            if hybrid and os.path.exists(hybrid):
                return connect_hybrid(hybrid, port, timeout)
            return connect_kernel(cid, port, timeout)
        except NotThere:
            if time.monotonic() > end:
                raise
        time.sleep(0.05)
