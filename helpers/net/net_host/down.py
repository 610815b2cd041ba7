"""What takes the host's end of a VM's network away. It needs no plan: the kernel knows what is whose."""

from net_host import bridge, rules, tap
from net_host.rtnetlink import Kernel


def down(kernel: Kernel, vm: str) -> None:
    """Remove the VM's TAPs, then its rules, and bridges of ours that have no ports left. Raises Failure, OSError."""
    kernel.remove_all(tap.of_vm(kernel, vm))
    rules.remove(vm)
    bridge.sweep(kernel)
    bridge.remove_of(kernel, vm)
