"""QEMU."""

from vmsilo.plan import Plan
from vmsilo_generator.hypervisor import Needs


def policies(plan: Plan) -> tuple[str, ...]:
    return ("qemu", "translator") if emulates(plan) else ("qemu",)


def emulates(plan: Plan) -> bool:
    """Whether it may run with TCG, which writes the code that it runs: unless the machine is to have KVM alone."""
    properties = plan.machine.replace(",,", "\0").split(",")
    accelerators = [word for item in properties if item.startswith("accel=") for word in item[6:].split(":")]
    return set(accelerators) != {"kvm"}


NEEDS = Needs(
    vsock_by_backend=True,
    vsock_by_kernel=True,
    policies=policies,
)
