"""The TAPs of a VM, the host's ends of its network interfaces: found, checked and opened by root.

They are there before the VM starts, and stay when it ends: the VM's -net unit makes and removes them. Nobody but root
may attach to one, in the host's network namespace. Who has one open, needs neither: not even to be in that namespace.

tuntap.txt in Linux' documentation has the calls, <linux/if_tun.h> the numbers.
"""

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from vmsilo import names, paths
from vmsilo.failure import EX_CONFIG, EX_OSERR, EX_TEMPFAIL, EX_UNAVAILABLE, Failure, reason
from vmsilo.plan import Nic, Plan

_INTERFACES = "/sys/class/net"

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_TUNGETIFF = 0x800454D2
_SIOCSIFMTU = 0x8922

_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000  # frames alone,
_IFF_VNET_HDR = 0x4000  # each behind a header that lets host and guest leave checksums and segments to each other
_IFF_PERSIST = 0x0800

_REQUEST = struct.Struct("=16sH22x")  # struct ifreq with flags
_MTU_REQUEST = struct.Struct("=16si20x")


class Place(NamedTuple):
    """A network interface and what its TAP is called in the service manager's store."""

    name: str
    nic: Nic


def places(plan: Plan) -> list[Place]:
    return [Place(f"tap-{number}", nic) for number, nic in enumerate(plan.network.nics, 1)]


def open_tap(nic: Nic, vm: str) -> int:
    """A descriptor of the TAP of *nic*, from within the host's network namespace. Raises Failure."""
    check_ours(nic, vm)
    try:
        tap = os.open(paths.TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"cannot open {paths.TUN}: {error.strerror}", code=EX_OSERR) from None
    try:
        attach(tap, nic.tap)
        # In place of a TAP that was removed in this moment the kernel has made one, for as long as it is open.
        if not flags(tap) & _IFF_PERSIST:
            raise gone(nic, vm)
    except OSError as error:
        os.close(tap)
        raise cannot_attach(nic, vm, error) from None
    except Failure:
        os.close(tap)
        raise
    return tap


def check_ours(nic: Nic, vm: str) -> None:
    """Raise Failure unless the TAP is there and was made for this interface."""
    try:
        alias = read(f"{_INTERFACES}/{nic.tap}/ifalias")
    except FileNotFoundError:
        raise gone(nic, vm) from None
    except OSError as error:
        raise Failure(f"cannot look at the TAP {nic.tap}: {reason(error)}", code=EX_OSERR) from None
    if alias != names.tap_alias(vm, nic.name):
        is_of = f'is "{alias}"' if alias else "is none of vmsilo's"
        hint = f"remove it, or give {nic.name} another TAP"
        raise Failure(f"the interface {nic.tap} of the host {is_of}", hint, EX_CONFIG)


def gone(nic: Nic, vm: str) -> Failure:
    hint = f"systemctl restart {names.net_unit(vm)}"
    return Failure(f"there is no TAP {nic.tap} for the interface {nic.name}", hint, EX_UNAVAILABLE)


def cannot_attach(nic: Nic, vm: str, error: OSError) -> Failure:
    if error.errno == errno.EBUSY:
        return Failure(f"the TAP {nic.tap} is in use", "another program has it open", EX_TEMPFAIL)
    if error.errno == errno.EINVAL:
        hint = f"remove it: ip link delete {nic.tap}; systemctl restart {names.net_unit(vm)}"
        return Failure(f"the interface {nic.tap} is no TAP with a single queue", hint, EX_CONFIG)
    return Failure(f"cannot open the TAP {nic.tap}: {error.strerror}", code=EX_OSERR)


def attach(tap: int, name: str) -> None:
    """Make *tap*, an open TUN, the TAP *name*. Raises OSError."""
    fcntl.ioctl(tap, _TUNSETIFF, _REQUEST.pack(name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))


def flags(tap: int) -> int:
    found: int = _REQUEST.unpack(fcntl.ioctl(tap, _TUNGETIFF, bytes(_REQUEST.size)))[1]
    return found


def make_namesakes(plan: Plan) -> None:
    """Make a TAP of the same name and MTU in this network namespace for each of the VM's. Raises Failure.

    For a hypervisor that asks for the MTU of what it has open by the name, and so where it is itself. Nothing goes in
    or out there, and it is gone with the namespace.
    """
    for nic in plan.network.nics:
        try:
            make_namesake(nic.tap, mtu=int(read(f"{_INTERFACES}/{nic.tap}/mtu")))
        except FileNotFoundError:
            raise gone(nic, plan.vm) from None
        except OSError as error:
            message = f"cannot tell {plan.hypervisor} of the MTU of {nic.tap}: {error.strerror}"
            raise Failure(message, code=EX_OSERR) from None


def make_namesake(name: str, *, mtu: int) -> None:
    import socket  # few hypervisors need this

    tap = os.open(paths.TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        attach(tap, name)
        fcntl.ioctl(tap, _TUNSETOWNER, 0)
        fcntl.ioctl(tap, _TUNSETPERSIST, 1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFMTU, _MTU_REQUEST.pack(name.encode(), mtu))
    finally:
        os.close(tap)


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
