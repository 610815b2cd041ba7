"""What takes the host's end of a VM's network away. It needs no plan: the kernel knows what is whose."""

from net_host import bridge, rules
from net_host.rtnetlink import Kernel
from net_host.up import of_vm


def down(kernel: Kernel, vm: str) -> None:
    """Remove the VM's TAPs, then its rules, and bridges of ours that have no ports left. Raises Failure, OSError."""
    kernel.remove_all(of_vm(kernel, vm))
    rules.remove(vm)
    bridge.sweep(kernel, everything=True)
