"""What is ours: names for a moment, and addresses that are the same at each start."""

import os
from hashlib import sha256

PREFIX = "vmsilo"  # what keeps others' hands off: units/network has it, too
_DIGITS = 8
_MACHINE_ID = "/etc/machine-id"


def name_for_a_moment() -> str:
    """Of an interface that is being made or removed."""
    return PREFIX + os.urandom(_DIGITS // 2).hex()


def is_for_a_moment(name: str) -> bool:
    """Whether *name* is such a one."""
    digits = name.removeprefix(PREFIX)
    return len(name) == len(PREFIX) + _DIGITS and len(digits) == _DIGITS and set(digits) <= set("0123456789abcdef")


def mac(of: str) -> str:
    """The address of our end of *of*: local, and another one on every host, since networks of two may meet."""
    try:
        with open(_MACHINE_ID, encoding="ascii") as file:
            machine = file.read().strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    digest = sha256(f"vmsilo {machine} {of}".encode()).digest()
    return "02" + "".join(f":{byte:02x}" for byte in digest[:5])
