"""ExecStartPre=, as root: open the VM's disks for its user, who may have no right to any of them.

The open descriptors go through the service manager's store to ``vm-launch start``, and with it to the hypervisor: no
path becomes accessible, and there is nothing to take back when the hypervisor ends, however it ends.
"""

import os

from vm_launch import disks, store
from vm_launch.running import read_plan
from vmsilo.failure import EX_OSERR, Failure

_NEW_MOUNTS = 0x20000  # CLONE_NEWNS


def enter_host() -> None:
    """Leave the unit's own view of the file system, of which systemd applies binds and tmpfs to root's part too."""
    import ctypes  # os.setns() is of Python 3.12

    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open("/proc/1/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    failed = libc.setns(namespace, _NEW_MOUNTS)
    os.close(namespace)
    if failed:
        raise Failure(f"cannot enter the host's file system: {os.strerror(ctypes.get_errno())}", code=EX_OSERR)


def lend(path: str) -> int:
    """Open, lock and hand over the disks of the plan at *path*. Raises Failure if one can't be had."""
    plan = read_plan(path)
    places = disks.places(plan)
    try:
        enter_host()
        for place in places:  # of a start that did not come to its end
            store.forget(place.name)
        store.settle()
        for place in places:
            descriptor = disks.open_disk(place, plan.vm)
            store.keep(place.name, descriptor)
            os.close(descriptor)
        store.settle()
    except OSError as error:
        raise Failure(f"cannot hand over the disks of {plan.vm}: {error.strerror}", code=EX_OSERR) from None
    return os.EX_OK
