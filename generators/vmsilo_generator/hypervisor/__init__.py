"""What each hypervisor needs from its units. One module each; nothing else asks which one it is."""

from collections.abc import Callable
from typing import NamedTuple

from vmsilo.plan import Plan


def nothing(_plan: Plan) -> tuple[str, ...]:
    return ()


class Needs(NamedTuple):
    """What a hypervisor's unit must provide or leave open, beyond what every VM's unit does."""

    vsock_by_hypervisor: bool = False  # serves the hybrid vsock socket itself
    vsock_by_backend: bool = False  # is served by vhost-device-vsock where the kernel has no vsock
    vsock_by_kernel: bool = False  # uses the kernel's vsock, where there is one
    disks_by_path: bool = False  # opens disks itself; the others are given them open
    sockets_by_path: bool = False  # connects to vhost-user backends itself
    tag_by_backend: bool = False  # asks virtiofsd for the tag of a shared directory
    policies: Callable[[Plan], tuple[str, ...]] = nothing  # files of units/seccomp, beyond those of every VM
    reads_proc: bool = False  # reads more of /proc than its own process
    reboot_status: str = ""  # the exit status that means: start the guest again


def needs(hypervisor: str) -> Needs:
    """Of the hypervisor of that name; only the modules of those in use are loaded."""
    if hypervisor == "qemu":
        from vmsilo_generator.hypervisor.qemu import NEEDS
    elif hypervisor == "cloud-hypervisor":
        from vmsilo_generator.hypervisor.cloud_hypervisor import NEEDS
    elif hypervisor == "crosvm":
        from vmsilo_generator.hypervisor.crosvm import NEEDS
    else:
        raise ValueError(f"no hypervisor is called {hypervisor!r}")
    return NEEDS
