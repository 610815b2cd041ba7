"""sd_notify(3) without the library, whose import costs more than the message."""

import _socket
import os

_READY = "ready"


def ready_status(note: str = "") -> str:
    """The status of a VM whose guest is ready, as an assignment; *note*: what is not as it should be."""
    return f"STATUS={_READY}; {note}" if note else f"STATUS={_READY}"


def note_of(status: str) -> str:
    """The note in the text of a ready_status(), "" for none."""
    ready, _, note = status.partition("; ")
    return note if ready == _READY else ""


def address() -> str:
    """Of the socket that the service manager listens at, as connect() takes it; "" for none."""
    named = os.environ.get("NOTIFY_SOCKET", "")
    return "\0" + named[1:] if named.startswith("@") else named


def notify(*lines: str) -> None:
    """Send the assignments *lines* (such as ``STATUS=booting``) to the service manager, if one listens."""
    manager = address()
    if not manager:
        return
    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        sender.connect(manager)
        sender.sendall("\n".join(lines).encode())
    except OSError:
        pass  # a status nobody can read is no reason to fail
    finally:
        sender.close()
