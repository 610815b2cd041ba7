"""The slice that holds all of a VM's services, with the limit of what the VM can take from the host."""

from vmsilo import names
from vmsilo.plan import Plan
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.unitfile import Unit

# A hypervisor has a thread for each processor, up to 64 for its disks, and some; a backend a few.
TASKS = 1024
TASKS_PER_CPU = 2

# Beyond the guest's memory, in MiB: the code that QEMU translates (1 GiB at most), the hypervisor, the backends, and
# what they read and write of files, which the kernel drops from memory before it lets a limit be felt.
OVERHEAD = 2048
# The page tables of guest and hypervisor, and what the kernel keeps for each page.
PAGES_PER_OVERHEAD_PAGE = 32


def unit(machine: Machine) -> Unit:
    plan = machine.plan
    return Unit(
        names.slice_unit(plan.vm),
        (
            unitfile.about(f"VM {plan.vm}", machine.file),
            (
                "Slice",
                (
                    ("MemoryMax", f"{memory_max(plan)}M"),
                    ("TasksMax", str(TASKS + TASKS_PER_CPU * plan.cpus)),
                ),
            ),
        ),
    )


def memory_max(plan: Plan) -> int:
    """MiB that all services of the VM may use together, whoever has taken them over."""
    return plan.memory + plan.memory // PAGES_PER_OVERHEAD_PAGE + OVERHEAD
