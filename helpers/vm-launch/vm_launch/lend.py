"""ExecStartPre= and ExecStopPost=, as root: what the VM's user may not open by itself.

Open descriptors go through the service manager's store to ``vm-launch start``, and with it to the hypervisor: no path
becomes accessible, and there is nothing to take back when the hypervisor ends, however it ends. A hypervisor that
opens things itself is given the right to, on the one file, and that is taken back when its unit ends; after a crash
of the host, before the next VM is given one to the file.
"""

import fcntl
import os

from vm_launch import acl, chase, disks, sockets, store, taps
from vm_launch.hypervisor import Traits, find
from vm_launch.running import read_plan
from vmsilo import paths
from vmsilo.failure import EX_OSERR, Failure, complain, reason
from vmsilo.plan import Plan

_LOCK = "rights.lock"  # of root alone: whoever else could open it, could hold up all starts

_MOUNTS = "mnt"  # of /proc/1/ns
_NETWORK = "net"
_WORDS = {_MOUNTS: "file system", _NETWORK: "network"}


def lend(path: str) -> int:
    """Open, lock and hand over what the plan at *path* names. Raises Failure if something can't be had."""
    enter_host()
    plan = read_plan(path)
    hypervisor = find(plan.hypervisor)
    names = [place.name for place in disks.places(plan)] + [place.name for place in sockets.places(plan)]
    names += [place.name for place in taps.places(plan)]
    try:
        for name in names:  # of a start that did not come to its end
            store.forget(name)
        store.settle()
        lend_disks(plan, hypervisor)
        lend_sockets(plan, hypervisor)
        lend_taps(plan, hypervisor)
        store.settle()
    except OSError as error:
        raise Failure(f"cannot hand over what {plan.vm} is to have: {error.strerror}", code=EX_OSERR) from None
    return os.EX_OK


def reclaim(path: str) -> int:
    """Take back the rights to the files of the plan at *path*. What of them is gone is no failure."""
    enter_host()
    plan = read_plan(path)
    try:
        user = os.stat(plan.run_dir).st_uid
    except OSError as error:
        raise Failure(f"cannot take back rights of {plan.vm}: {reason(error)}", code=EX_OSERR) from None
    for file in lent_by_path(plan, find(plan.hypervisor)):
        try:
            take_right(file, user)
        except FileNotFoundError:
            continue
        except (OSError, chase.UnsafeError) as error:
            complain("vm-launch", f"cannot take back the right to {file}: {error}")
    return os.EX_OK


def lend_disks(plan: Plan, hypervisor: Traits) -> None:
    for place in disks.places(plan):
        descriptor = disks.open_disk(place, plan.vm)
        if hypervisor.disks_by_path:
            give_right(descriptor, place.disk.path, plan, readonly=place.disk.readonly)
        store.keep(place.name, descriptor)  # with the lock, in any case
        os.close(descriptor)


def lend_sockets(plan: Plan, hypervisor: Traits) -> None:
    for place in sockets.places(plan):
        if hypervisor.takes_connections:
            found = sockets.connect(place)
            store.keep(place.name, found)
        else:
            found = sockets.find(place)
            give_right(found, place.device.socket, plan, readonly=False)
        os.close(found)


def lend_taps(plan: Plan, hypervisor: Traits) -> None:
    """The last of all: this process is in the host's network from then on."""
    if not plan.network.nics:
        return
    if hypervisor.asks_for_mtu:
        taps.make_namesakes(plan)
    enter_network()
    for place in taps.places(plan):
        tap = taps.open_tap(place.nic, plan.vm)
        store.keep(place.name, tap)
        os.close(tap)


def give_right(descriptor: int, path: str, plan: Plan, *, readonly: bool) -> None:
    """Give the VM's user the right to the file, unless everybody has it."""
    rights = acl.READ if readonly else acl.READ | acl.WRITE
    if os.fstat(descriptor).st_mode & rights == rights:
        return
    try:
        lock = alone()
        try:
            acl.grant(descriptor, os.stat(plan.run_dir).st_uid, rights, running_users())
        finally:
            os.close(lock)
    except OSError as error:
        message = f"cannot give {plan.hypervisor} the right to {path}: {error.strerror}"
        hint = "that takes a file system with access control lists; qemu does without"
        raise Failure(message, hint, EX_OSERR) from None


def take_right(path: str, user: int) -> None:
    """Take back the right to the file *path*. Raises OSError and chase.UnsafeError."""
    found = chase.chase(path)
    try:
        lock = alone()
        try:
            acl.revoke(found, user, running_users() - {user})
        finally:
            os.close(lock)
    finally:
        os.close(found)


def alone() -> int:
    """Wait until no one else changes rights, and let no one until the descriptor is closed.

    A list can only be replaced as a whole, and VMs that share a read-only disk may start at the same time. Whose
    rights are stale has to be asked within, too: a VM has its directory before it is given a right.
    """
    lock = os.open(f"{paths.RUN}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def lent_by_path(plan: Plan, hypervisor: Traits) -> list[str]:
    found = [place.disk.path for place in disks.places(plan)] if hypervisor.disks_by_path else []
    return found + ([] if hypervisor.takes_connections else [device.socket for device in plan.vhost_user])


def running_users() -> frozenset[int]:
    """The ids of the users that running VMs have."""
    found = set()
    for vm in os.listdir(paths.RUN):
        try:
            found.add(os.stat(paths.vm_dir(vm)).st_uid)
        except OSError:
            continue  # it does not run
    return frozenset(found)


def enter_host() -> None:
    """Leave the unit's own view of the file system, of which systemd applies binds and tmpfs to root's part too.

    Even the VM's plan is not there. Raises Failure.
    """
    enter(_MOUNTS)


def enter_network() -> None:
    """Leave the unit's own network, in which root's part is, too. Raises Failure."""
    enter(_NETWORK)


def enter(kind: str) -> None:
    """Change from the unit's namespace of this kind to the host's. Raises Failure."""
    import ctypes  # os.setns() is of Python 3.12

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        namespace = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"cannot enter the host's {_WORDS[kind]}: {reason(error)}", code=EX_OSERR) from None
    failed = libc.setns(namespace, 0)  # the descriptor says of which kind it is
    os.close(namespace)
    if failed:
        raise Failure(f"cannot enter the host's {_WORDS[kind]}: {os.strerror(ctypes.get_errno())}", code=EX_OSERR)
