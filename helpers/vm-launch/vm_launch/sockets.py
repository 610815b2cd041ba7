"""The sockets of a VM's vhostUser devices, behind which a program of the user's is to listen."""

import os
import socket
import stat
import time
from typing import NamedTuple

from vm_launch.chase import reach
from vmsilo.failure import EX_CONFIG, EX_TEMPFAIL, Failure
from vmsilo.plan import Plan, VhostUser

_SECONDS = 5.0  # that a backend may take to listen, for one that is started along with the VM
_POLL = 0.05


class Place(NamedTuple):
    """A device and what its connection is called in the service manager's store."""

    name: str
    device: VhostUser


def places(plan: Plan) -> list[Place]:
    return [Place(f"vhost-user-{number}", device) for number, device in enumerate(plan.vhost_user, 1)]


def find(place: Place) -> int:
    """An O_PATH descriptor of the socket, once it is there. Raises Failure."""
    path = place.device.socket
    deadline = time.monotonic() + _SECONDS
    while not os.path.lexists(path) and time.monotonic() < deadline:
        time.sleep(_POLL)
    found = reach(path, f"{place.device.type} device's socket", "connecting")
    if not stat.S_ISSOCK(os.fstat(found).st_mode):
        os.close(found)
        raise Failure(f"the {place.device.type} device's socket {path} is no socket", code=EX_CONFIG)
    return found


def connect(place: Place) -> int:
    """A connection to the device's backend. Raises Failure if none listens."""
    deadline = time.monotonic() + _SECONDS
    while True:
        found = find(place)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{found}")
        except OSError as error:
            connection.close()
            if not isinstance(error, ConnectionRefusedError) or time.monotonic() >= deadline:
                raise nobody_listens(place, error) from None
        else:
            return connection.detach()
        finally:
            os.close(found)
        time.sleep(_POLL)


def nobody_listens(place: Place, error: OSError) -> Failure:
    message = f"cannot connect to the {place.device.type} device at {place.device.socket}: {error.strerror}"
    return Failure(message, "is its backend running?", EX_TEMPFAIL)
