"""TAPs: each is one process' until it has all that belongs to it. Whatever happens before, the kernel removes it."""

import errno
import fcntl
import os
import struct
from typing import NamedTuple

from net_host import mark
from net_host.rtnetlink import TUN, Kernel, Link
from vmsilo import names
from vmsilo.failure import EX_OSERR, EX_TEMPFAIL, EX_UNAVAILABLE, Failure
from vmsilo.nft import INTERFACE_GROUP
from vmsilo.plan import Nic

DEVICE = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF = 0x4004_54CA
TUNSETPERSIST = 0x4004_54CB
TUNSETOWNER = 0x4004_54CC
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
REQUEST = struct.Struct("16sH22x")  # ifreq: name, flags

OWNER = 0  # root, who opens it for the hypervisor


class Held(NamedTuple):
    """A TAP of the VM's, and what keeps it while it is being made."""

    nic: Nic
    link: Link
    descriptor: int  # -1: it stays by itself

    @property
    def is_new(self) -> bool:
        return self.descriptor >= 0


def of_vm(kernel: Kernel, vm: str) -> list[Link]:
    """All TAPs that were made for the VM."""
    return kernel.links(TUN, alias=names.tap_alias(vm, ""))


def hold(kernel: Kernel, vm: str, nic: Nic, there: list[Link]) -> Held:
    """The TAP of *nic*, under its name and down if it is new; *there* are all of the VM's.

    Raises Failure, OSError.
    """
    alias = names.tap_alias(vm, nic.name)
    ours = [link for link in there if link.alias == alias]
    kept = next((link for link in sorted(ours, key=lambda link: link.name != nic.tap) if fits(link)), None)
    for link in ours:
        if link is not kept:
            kernel.remove(link)
    if kept is None:
        return make(kernel, alias, nic)
    if kept.name != nic.tap:
        kernel.set_up(kept, up=False)  # an older kernel renames none that is up
        rename(kernel, kept, nic.tap)
    dress(kernel, kept, alias)
    return Held(nic, kept._replace(name=nic.tap), -1)


def fits(link: Link) -> bool:
    """Whether a TAP with our alias is as we make them: a process of somebody else's could hold one that isn't."""
    tap = link.tap
    return tap is not None and tap.owner == OWNER and tap.persistent and not tap.multi_queue


def make(kernel: Kernel, alias: str, nic: Nic) -> Held:
    """A new TAP, which is gone with its descriptor."""
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"can't open {DEVICE}: {error.strerror}", "is there a module tun?", EX_UNAVAILABLE) from None
    try:
        moment = mark.name_for_a_moment()
        request = REQUEST.pack(moment.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        _control(descriptor, TUNSETIFF, request, f"making the TAP {nic.tap}")
        _control(descriptor, TUNSETOWNER, OWNER, f"making root the owner of the TAP {nic.tap}")
        made = kernel.link(moment)
        if made is None:
            raise Failure(f"the new TAP {nic.tap} has gone again", code=EX_TEMPFAIL)
        dress(kernel, made, alias)
        rename(kernel, made, nic.tap)
        return Held(nic, made._replace(name=nic.tap), descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def keep(held: Held) -> None:
    """Let the TAP stay when this process ends. Raises OSError."""
    if held.is_new:
        _control(held.descriptor, TUNSETPERSIST, 1, f"keeping the TAP {held.nic.tap}")


def release(held: Held) -> None:
    """Let go of the TAP. One that keep() was not called for is gone."""
    if held.is_new:
        os.close(held.descriptor)


def dress(kernel: Kernel, link: Link, alias: str) -> None:
    """Give the TAP all that tells it from others but its name."""
    if link.alias != alias:
        kernel.set_alias(link, alias)
    if link.mac != mark.mac(alias):
        kernel.set_mac(link, mark.mac(alias))
    if link.group != INTERFACE_GROUP:
        kernel.set_group(link, INTERFACE_GROUP)


def rename(kernel: Kernel, link: Link, name: str) -> None:
    """Raises Failure where another interface has that name."""
    try:
        kernel.rename(link, name)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        raise taken(name, kernel.link(name)) from None


def taken(name: str, link: Link | None) -> Failure:
    """*link*, which isn't ours, has the *name*."""
    kind = (link.kind if link else "") or "an interface"
    also = f", which is {link.name}," if link and link.name != name else ""
    return Failure(f"{name} is there already{also} and was not made by vmsilo ({kind})", "rename one", EX_OSERR)


def _control(descriptor: int, request: int, value: bytes | int, what: str) -> None:
    try:
        fcntl.ioctl(descriptor, request, value)
    except OSError as error:
        error.filename = what
        raise
