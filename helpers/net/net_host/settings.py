"""What the kernel is told by /proc/sys/net: about our interfaces, and whether this host forwards."""

import os
from collections.abc import Mapping

from vmsilo.failure import complain, reason

NET = "/proc/sys/net"

# Of an interface through which nothing may reach the host itself, nor be answered by it: ports of bridges, and the
# bridges. The kernel drops what arrives from a source that it has no way back to.
_CLOSED_4 = {"arp_ignore": "8", "rp_filter": "1"}
_CLOSED_6 = {"disable_ipv6": "1", "accept_ra": "0", "autoconf": "0"}

# Of a TAP with addresses of the host's. It answers for these and for none of the host's others.
_OPEN_4 = {
    "arp_ignore": "1",
    "arp_announce": "2",
    "rp_filter": "1",
    "accept_redirects": "0",
    "secure_redirects": "0",
    "send_redirects": "0",
    "accept_source_route": "0",
    "proxy_arp": "0",
    "route_localnet": "0",
}
_OPEN_6 = {
    "accept_ra": "0",
    "autoconf": "0",
    "accept_redirects": "0",
    "accept_source_route": "0",
    # Nobody else is on the link, and what waits for an address to be proved unique is the guest.
    "accept_dad": "0",
    "dad_transmits": "0",
    "proxy_ndp": "0",
    "disable_ipv6": "0",
}


def close(name: str) -> None:
    """Keep the host itself out of the interface. Raises OSError."""
    _set(f"{NET}/ipv4/conf/{name}", _CLOSED_4)
    if has_ipv6():
        _set(f"{NET}/ipv6/conf/{name}", _CLOSED_6)


def open_to_host(name: str, versions: frozenset[int], *, forwards: bool) -> None:
    """Let the host use the interface, by these versions of IP, and forward what comes from it or not.

    Raises OSError.
    """
    _set(f"{NET}/ipv4/conf/{name}", _OPEN_4 | {"forwarding": str(int(forwards))})
    if has_ipv6():
        _set(f"{NET}/ipv6/conf/{name}", _OPEN_6 if 6 in versions else _CLOSED_6)


def has_ipv6() -> bool:
    """Whether the kernel has it: it may be booted without."""
    return os.path.exists(f"{NET}/ipv6/conf/all")


def forward(versions: frozenset[int]) -> None:
    """Have the host forward these versions of IP. Raises OSError.

    Nothing of ours ever switches that off: whether somebody else needs it by now, can't be known.
    """
    if 4 in versions:
        _write(f"{NET}/ipv4/ip_forward", "1")
    if 6 in versions and has_ipv6() and _read(f"{NET}/ipv6/conf/all/forwarding") == "0":
        _go_on_to_take_advertisements()
        _write(f"{NET}/ipv6/conf/all/forwarding", "1")


def _go_on_to_take_advertisements() -> None:
    """Where the host has its address and its way out from a router's advertisements, let it keep them.

    A host that forwards takes none, unless it is told to (accept_ra=2).
    """
    for name in os.listdir(f"{NET}/ipv6/conf"):
        file = f"{NET}/ipv6/conf/{name}/accept_ra"
        if name == "all":
            continue  # means nothing
        try:
            if _read(file) == "1":
                _write(file, "2")
        except OSError as error:  # it has gone meanwhile
            complain("net", reason(error))


def _set(directory: str, values: Mapping[str, str]) -> None:
    """Make the settings in *directory* these; one that this kernel doesn't know has no effect in it either."""
    for name, value in values.items():
        file = f"{directory}/{name}"
        try:
            if _read(file) == value:
                continue
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise
            continue
        _write(file, value)


def _read(file: str) -> str:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 64).decode().strip()
    finally:
        os.close(descriptor)


def _write(file: str, value: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        error.filename = file
        raise
    finally:
        os.close(descriptor)
