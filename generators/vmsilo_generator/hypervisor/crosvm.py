"""crosvm."""

from vmsilo.plan import Plan
from vmsilo_generator.hypervisor import Needs


def policies(_plan: Plan) -> tuple[str, ...]:
    return ("crosvm",)


NEEDS = Needs(
    sockets_by_path=True,
    vsock_by_kernel=True,
    tag_by_backend=True,
    policies=policies,
    # It reads its host's processors and memory from /proc.
    reads_proc=True,
    # A guest's reboot is an exit with this status (--extended-status); the two others reboot by themselves.
    reboot_status="32",
)
