"""QEMU."""

from vmsilo_generator.hypervisor import Needs

NEEDS = Needs(
    vsock_by_backend=True,
    vsock_by_kernel=True,
    # TCG, which is what QEMU falls back to without KVM, writes the code that it runs.
    writes_code=True,
    # It confines itself with one more filter (-sandbox on).
    further_calls="seccomp",
)
