"""What is ours: names for a moment, and addresses that are the same at each start."""

import os
from hashlib import sha256

_PREFIX = "vmsilo"  # what keeps others' hands off: units/network has it, too
_MACHINE_ID = "/etc/machine-id"


def name_for_a_moment() -> str:
    """Of an interface that is being made or removed. Whose process is no more, is nobody's."""
    return f"{_PREFIX}{os.getpid()}"


def is_abandoned(name: str) -> bool:
    """Whether *name* is for a moment that is over."""
    process = name.removeprefix(_PREFIX)
    if process == name or not process.isascii() or not process.isdigit():
        return False
    return int(process) == os.getpid() or not os.path.exists(f"/proc/{process}")


def mac(of: str) -> str:
    """The address of our end of *of*: local, and another one on every host, since networks of two may meet."""
    try:
        with open(_MACHINE_ID, encoding="ascii") as file:
            machine = file.read().strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    digest = sha256(f"vmsilo {machine} {of}".encode()).digest()
    return "02" + "".join(f":{byte:02x}" for byte in digest[:5])
