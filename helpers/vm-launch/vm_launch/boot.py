"""ExecStartPost=: let the guest run, and wait until it says that it is ready."""

import os
import sys
import time
from collections.abc import Callable

from vm_launch import console, ready
from vm_launch.hypervisor import Target
from vm_launch.running import Running, running
from vmsilo.failure import EX_TEMPFAIL, EX_UNAVAILABLE, Failure
from vmsilo.notify import notify, ready_status
from vmsilo.plan import CORES_UNGUARDED

# What the user of a VM that runs should know of it.
NO_CORE_SCHEDULING = "no core scheduling in this kernel"


def boot(path: str) -> int:
    """Boot the VM that was started from the plan at *path*.

    Raises Failure if the guest is not ready in time, or its hypervisor ends before.
    """
    vm = running(path, seconds=0)
    plan = vm.plan
    deadline = time.monotonic() + plan.start_timeout
    vm = vm._replace(target=vm.target._replace(deadline=deadline))
    # The guest may be quick: listen before it runs.
    listener = ready.listen(plan)
    try:
        tell(vm, vm.hypervisor.boot)
        outcome = ready.wait(
            listener,
            cid=None if plan.vsock else plan.cid,
            process=vm.process,
            deadline=deadline,
            progress=lambda unit: notify(f"STATUS=booting: {unit}"),
        )
    finally:
        ready.close(listener, plan)
    match outcome:
        case ready.Outcome.READY:
            tell(vm, vm.hypervisor.ready)
            notify(ready_status(NO_CORE_SCHEDULING if plan.core_scheduling == CORES_UNGUARDED else ""))
            return os.EX_OK
        case ready.Outcome.DIED:
            raise died(vm)
        case ready.Outcome.LATE:
            print_console(plan.run_dir)
            raise Failure(
                f"the guest was not ready after {plan.start_timeout} s", "see its last console lines", EX_TEMPFAIL
            )


def tell(vm: Running, verb: Callable[[Target], None]) -> None:
    """Say *verb* to the hypervisor. Raises Failure, which names the hypervisor's end where that is the cause."""
    try:
        verb(vm.target)
    except Failure:
        if vm.has_ended():
            raise died(vm) from None
        raise


def died(vm: Running) -> Failure:
    print_console(vm.plan.run_dir)
    return Failure(f"{vm.hypervisor.name} ended before the guest was ready", "see its messages", EX_UNAVAILABLE)


def print_console(run_dir: str) -> None:
    """Print the end of the guest's console, if it said anything."""
    lines = console.last_lines(run_dir)
    if lines:
        sys.stderr.write("\n".join(["the guest's console ends with:", *("| " + line for line in lines)]) + "\n")
        sys.stderr.flush()
