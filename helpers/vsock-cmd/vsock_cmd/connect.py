"""vsock-cmd connect: connect to the guest's agent, hand the connection to the client, and be gone.

systemd starts it once per client of a VM's command socket, as the VM's own user, with the client as standard input.
It trusts nobody: the client only ever gets a connection to the port of one guest, the guest only ever a client.
"""

import _socket

from vmsilo import ports, vsock
from vmsilo.failure import EX_UNAVAILABLE, EX_USAGE, complain, reason
from vsock_cmd import handover

USAGE = "usage: vsock-cmd connect --cid N [--socket PATH]"

# The VM is active only once the guest has said that it is ready: if its agent does not listen, it is being restarted.
_PATIENCE = 2.0  # seconds
_TIMEOUT = 10.0  # seconds; a guest that is stuck may never answer


def main(argv: list[str]) -> int:
    options = _parse(argv)
    if options is None:
        complain("vsock-cmd", USAGE)
        return EX_USAGE
    cid, path = options
    client = _socket.socket(fileno=0)
    try:
        return _connect(client, cid, path)
    except (BrokenPipeError, ConnectionResetError):
        return 0  # the client has gone, and with it the need


def _connect(client: _socket.socket, cid: int, path: str) -> int:
    try:
        guest = vsock.connect(cid, ports.COMMAND, path, patience=_PATIENCE, timeout=_TIMEOUT)
    except (vsock.NotThere, OSError) as error:
        text = f"can't reach the guest's agent: {reason(error)}"
        complain("vsock-cmd", text)
        handover.refuse(client, text)
        return EX_UNAVAILABLE
    handover.give(client, guest.fileno())
    return 0


def _parse(argv: list[str]) -> "tuple[int, str] | None":
    cid, path = 0, ""
    words = iter(argv)
    for option in words:
        value = next(words, "")
        if option == "--cid" and value.isascii() and value.isdigit():
            cid = int(value)
        elif option == "--socket" and value:
            path = value
        else:
            return None
    return (cid, path) if ports.CID_MIN <= cid <= ports.CID_MAX else None
