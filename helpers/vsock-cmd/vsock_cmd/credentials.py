"""The guest's system credentials (systemd.system-credentials(7)), and the ready message that one of them asks for."""

import _socket
import os

from vmsilo import ports

_SYSTEM = "/run/credentials/@system"
_VALUE_MAX = 4096
_TIMEOUT = 10.0  # seconds


def read(name: str) -> str | None:
    """The value of the credential, without surrounding white space; None if it is not set.

    The service's own credentials come before the system's.
    """
    for directory in (os.environ.get("CREDENTIALS_DIRECTORY", ""), _SYSTEM):
        if directory:
            try:
                fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            value = os.read(fd, _VALUE_MAX)
            os.close(fd)
            return value.decode(errors="replace").strip()
    return None


def notify_ready() -> bool:
    """Tell the host that the guest is ready, as systemd would; for guests without it. Whether anybody was told."""
    address = parse_address(read(ports.NOTIFY_CREDENTIAL) or "")
    if address is None:
        return False
    host = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM)
    host.settimeout(_TIMEOUT)
    try:
        host.connect(address)
        host.sendall(b"READY=1\n")
        host.recv(1)  # the listener closes once it has read; to close first could lose the message
    except OSError:
        return False
    finally:
        host.close()
    return True


def parse_address(text: str) -> tuple[int, int] | None:
    """The (CID, port) of ``vsock:CID:PORT`` or ``vsock-stream:CID:PORT``; None for anything else."""
    kind, _, rest = text.partition(":")
    cid, _, port = rest.partition(":")
    if kind in ("vsock", "vsock-stream") and cid.isdigit() and port.isdigit():
        return int(cid), int(port)
    return None
