"""The configured disks of a VM: which there are, found, opened and locked.

The lock is flock(2)'s and belongs to the open file, so it lasts for as long as the hypervisor has the descriptor. It
is between VMs of any hypervisor; those have locks of their own besides, of another kind (fcntl), or of this one on
the same open file (crosvm).
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from vm_launch import files
from vm_launch.chase import reach
from vmsilo import names, paths
from vmsilo import plan as plans
from vmsilo.failure import EX_CONFIG, EX_OSERR, EX_UNAVAILABLE, Failure
from vmsilo.plan import Disk, Plan

# udev locks a block device for as long as it looks at it.
_LOCK_SECONDS = 3.0
_LOCK_POLL = 0.05


class Place(NamedTuple):
    """A configured disk and where in its VM it is."""

    name: str  # of its descriptor, in the service manager's store
    what: str  # in messages
    option: str  # what configures it
    disk: Disk


def places(plan: Plan) -> list[Place]:
    """The disks that the configuration names, in the guest's order."""
    found = [Place("disk-root", "root disk", "rootDisk", plan.root)] if plan.root is not None else []
    found += (Place(f"disk-{number}", "disk", "additionalDisks", disk) for number, disk in enumerate(plan.disks, 1))
    return found


def open_disk(place: Place, vm: str) -> int:
    """A descriptor of the disk, locked for VM *vm*: alone where it is written to, else with other readers."""
    disk = place.disk
    flags = (os.O_RDONLY if disk.readonly else os.O_RDWR) | (os.O_DIRECT if disk.direct else 0)
    purpose = "reading" if disk.readonly else "reading and writing"
    found = reach(disk.path, place.what, purpose)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
            raise Failure(f"the {place.what} {disk.path} is neither a file nor a block device", code=EX_CONFIG)
        if stat.S_ISBLK(mode):
            if not disk.path.startswith("/dev/"):  # by which the generator knows one
                raise Failure(f"the {place.what} {disk.path} is a block device", "name its path in /dev", EX_CONFIG)
            # Refused for what the host has mounted or made another device from, and kept from both.
            flags |= 0 if disk.readonly else os.O_EXCL
        descriptor = os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(found, place, vm, "the host itself, mounted or as part of another device") from None
        raise files.cannot_open(disk.path, place.what, purpose, error) from None
    finally:
        os.close(found)
    try:
        _lock(descriptor, place, vm, patient=stat.S_ISBLK(mode))
    except Failure:
        os.close(descriptor)
        raise
    return descriptor


def check_path(place: Place, descriptor: int) -> None:
    """Raise Failure unless the hypervisor, which opens disks itself, finds at the path what *descriptor* is."""
    disk, what = place.disk, place.what
    try:
        found = os.open(disk.path, (os.O_RDONLY if disk.readonly else os.O_RDWR) | os.O_CLOEXEC)
    except OSError as error:
        purpose = "reading" if disk.readonly else "reading and writing"
        raise files.cannot_open(disk.path, what, purpose, error) from None
    same = os.path.sameopenfile(found, descriptor)
    os.close(found)
    if not same:
        raise Failure(f"the {what} {disk.path} was replaced during this start", "start again", EX_UNAVAILABLE)


def _lock(descriptor: int, place: Place, vm: str, *, patient: bool) -> None:
    kind = fcntl.LOCK_SH if place.disk.readonly else fcntl.LOCK_EX
    deadline = time.monotonic() + (_LOCK_SECONDS if patient else 0)
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _in_use(descriptor, place, vm, "another program") from None
        except OSError as error:
            raise Failure(
                f"cannot lock the {place.what} {place.disk.path}: {error.strerror}", code=EX_OSERR
            ) from None
        else:
            return
        time.sleep(_LOCK_POLL)


def _in_use(descriptor: int, place: Place, vm: str, otherwise: str) -> Failure:
    holders = [f'VM "{name}"' for name in sorted(_users(os.fstat(descriptor))) if name != vm]
    who = " and ".join(holders) or otherwise
    hint = "one that is written to can only be in one running VM"
    return Failure(f"the {place.what} {place.disk.path} is in use by {who}", hint, EX_UNAVAILABLE)


def _users(found: os.stat_result) -> Iterator[str]:
    """The running VMs in whose plans the disk *found* is.

    These are the plans beside the units: the copies of those that run are in the hands of hypervisors.
    """
    try:
        listed = os.listdir(paths.RUN)
    except OSError:
        return
    for name in listed:
        if names.is_vm_name(name) and os.path.exists(paths.vm_dir(name)):
            try:
                with open(f"{paths.GENERATOR_DIR}/{names.plan_file(name)}", encoding="utf-8") as file:
                    plan = plans.loads(file.read())
                if any(os.path.samestat(os.stat(place.disk.path), found) for place in places(plan)):
                    yield name
            except (OSError, ValueError, TypeError, KeyError):
                continue
