"""What the host wants the guest's network to be: the JSON, checked. Pure."""

import json
from typing import NamedTuple

from vmsilo import guest_network

LENGTH_MAX = 4 << 20  # bytes
STEM_MAX = 200  # characters

# The kinds of files in /run/systemd/network, by the prefix of their credentials.
KINDS = {
    guest_network.LINK: ".link",
    guest_network.NETWORK: ".network",
}

# Credentials that are one thing each.
SINGLE = (
    guest_network.DNS,
    guest_network.SEARCH_DOMAINS,
    guest_network.RULES,
    guest_network.SYSCTL,
    guest_network.UNBOUND,
    guest_network.NAMES,
)

_STEM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@:")


class Wanted(NamedTuple):
    """All of it, by what becomes of it."""

    files: dict[str, str]  # texts of files in /run/systemd/network, by their names
    single: dict[str, str]  # values of those of SINGLE that there are


def read(data: bytes) -> Wanted:
    """Raises ValueError with what is wrong."""
    if len(data) > LENGTH_MAX:
        raise ValueError(f"more than {LENGTH_MAX} bytes")
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object of credentials")
    wanted = Wanted({}, {})
    for name, value in found.items():
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"credential {name!r}: expected text")
        if name in SINGLE:
            wanted.single[name] = value
        else:
            wanted.files[file_name(name)] = value
    if (guest_network.RULES in wanted.single) != (guest_network.SYSCTL in wanted.single):
        raise ValueError(f"expected both of {guest_network.RULES} and {guest_network.SYSCTL}, or neither")
    return wanted


def file_name(credential: str) -> str:
    """The file that systemd-network-generator(8) makes of *credential*. Raises ValueError if it makes none."""
    for prefix, suffix in KINDS.items():
        stem = credential.removeprefix(prefix)
        if stem != credential and 0 < len(stem) <= STEM_MAX and stem[0] != "." and _STEM.issuperset(stem):
            return stem + suffix
    raise ValueError(f"{credential!r} is no credential of a network")
