"""The way to the virtiofsd of each shared directory.

systemd listens at their sockets, so a connection is made at once and says nothing of who will serve it. A hypervisor
that gets no answer reports that in words of its own protocol, or waits. So where it takes a connection, that has been
tried: one question of the vhost-user protocol that changes nothing ("vhost-user protocol" in QEMU's documentation).
"""

import os
import socket
import struct
import time

from vm_launch import files
from vm_launch.hypervisor import Share
from vmsilo import names, paths
from vmsilo.failure import EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE, Failure
from vmsilo.plan import Plan
from vmsilo.plan import Share as PlannedShare

ANSWER_SECONDS = 20.0  # that a virtiofsd may take to start and answer

# A message: request, flags and size of the payload, as native 32-bit numbers. A reply has the request's number.
_HEADER = struct.Struct("=III")
_FEATURES = struct.Struct("=Q")
_GET_FEATURES = 1
_VERSION = 1
_REPLY = 1 << 2


def open_all(plan: Plan, *, connect: bool) -> tuple[Share, ...]:
    """The shares of *plan*. Raises Failure, which names the unit to look at, if one is not served.

    *connect*: with connections, which are left inheritable. They are all made before any is waited for.
    """
    find_program()
    if not connect:
        return tuple(Share(share.tag, reachable(share, plan.vm), -1) for share in plan.shares)
    connections = [connected(share, plan.vm) for share in plan.shares]
    deadline = time.monotonic() + ANSWER_SECONDS
    for share, connection in zip(plan.shares, connections, strict=True):
        ask(connection, plan.vm, share.tag, deadline)
    return tuple(
        Share(share.tag, share.socket, files.inheritable(connection.detach()))
        for share, connection in zip(plan.shares, connections, strict=True)
    )


def find_program() -> None:
    """Raises Failure if there is no virtiofsd: its units fail then, but nobody looks there first."""
    for directory in paths.VIRTIOFSD_DIRECTORIES:
        if os.access(f"{directory}/{paths.VIRTIOFSD}", os.X_OK):
            return
    looked = ":".join(paths.VIRTIOFSD_DIRECTORIES)
    raise Failure(
        f"{paths.VIRTIOFSD} is not installed, which serves the shared directories",
        f"looked in {looked}",
        EX_UNAVAILABLE,
    )


def reachable(share: PlannedShare, vm: str) -> str:
    """The path of the socket. Raises Failure if there is none."""
    try:
        os.stat(share.socket)
    except OSError as error:
        raise unreachable(share, vm, error) from None
    return share.socket


def connected(share: PlannedShare, vm: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(share.socket)
    except OSError as error:
        connection.close()
        raise unreachable(share, vm, error) from None
    return connection


def unreachable(share: PlannedShare, vm: str, error: OSError) -> Failure:
    code = EX_NOPERM if isinstance(error, PermissionError) else EX_TEMPFAIL
    return Failure(
        f"nobody listens for the shared directory {share.tag} at {share.socket}: {error.strerror}",
        f"see journalctl -u {names.share_socket_unit(vm, share.tag)}",
        code,
    )


def ask(connection: socket.socket, vm: str, tag: str, deadline: float) -> None:
    """Ask for the device's features. Raises Failure if there is no proper answer before *deadline*."""
    unit = names.share_service_unit(vm, tag)
    try:
        connection.sendall(_HEADER.pack(_GET_FEATURES, _VERSION, 0))
        answer = b""
        while missing := _HEADER.size + _FEATURES.size - len(answer):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            received = connection.recv(missing)
            if not received:
                raise ConnectionError("it has ended")
            answer += received
    except TimeoutError:
        raise Failure(f"the shared directory {tag} is not served: no answer from {unit}", code=EX_TEMPFAIL) from None
    except OSError:
        raise Failure(
            f"the shared directory {tag} is not served: its virtiofsd has ended",
            # Of a home, it may be that it could not be made.
            f"see journalctl -u {unit}" + (f" -u {names.home_unit(vm)}" if tag == names.HOME_TAG else ""),
            EX_UNAVAILABLE,
        ) from None
    if _HEADER.unpack_from(answer) != (_GET_FEATURES, _VERSION | _REPLY, _FEATURES.size):
        raise Failure(f"the shared directory {tag}: {unit} does not speak vhost-user", code=EX_UNAVAILABLE)
    connection.settimeout(None)
