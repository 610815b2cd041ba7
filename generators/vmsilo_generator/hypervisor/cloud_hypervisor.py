"""cloud-hypervisor."""

from vmsilo.plan import Plan
from vmsilo_generator.hypervisor import Needs


def policies(_plan: Plan) -> tuple[str, ...]:
    return ("cloud-hypervisor",)


NEEDS = Needs(
    sockets_by_path=True,
    vsock_by_hypervisor=True,
    disks_by_path=True,
    policies=policies,
)
