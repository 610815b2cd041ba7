"""The units of a VM, one module per family."""

from collections.abc import Iterator

from vmsilo import names
from vmsilo.plan import HostPlan
from vmsilo_generator import unitfile
from vmsilo_generator.hypervisor import needs
from vmsilo_generator.machine import Machine, Refusal
from vmsilo_generator.model import Facts, Host
from vmsilo_generator.roles import command, console, slices, vm, vsock
from vmsilo_generator.roles import refusal as refusals
from vmsilo_generator.unitfile import Link, Unit


def units(machine: Machine) -> Iterator[Unit | Link]:
    """Everything systemd is told about one VM.

    Raises ValueError for a value that can't be written into a unit, Failure for a policy that is missing.
    """
    need = needs(machine.plan.hypervisor)
    yield from command.units(machine, need)
    yield from console.units(machine)
    if need.vsock_by_backend:
        yield from vsock.units(machine)
    if machine.servers:
        from vmsilo_generator.roles import share  # only where a directory is shared

        yield from share.units(machine)
    if machine.plan.pci:
        from vmsilo_generator.roles import pci

        yield from pci.grant(machine)
    if machine.plan.network.nics:
        from vmsilo_generator.roles import net

        yield from net.units(machine)
    if machine.home is not None:
        from vmsilo_generator.roles import home

        yield from home.units(machine, machine.home)
    yield from vm.units(machine, need)
    yield slices.unit(machine)


def of_host(plan: HostPlan, file: str, facts: Facts) -> Iterator[Unit | Link]:
    """What concerns all VMs."""
    if plan.isolated:
        from vmsilo_generator.roles import pci

        yield from pci.isolation(plan, file, facts)


def of_homes(host: Host, facts: Facts) -> Iterator[Unit | Link]:
    """What all VMs that have a home use."""
    from vmsilo_generator.roles import home

    yield from home.shared(host, facts)
    yield unitfile.wants("multi-user.target", names.SHARED_UNIT)


def refusing(refusal: Refusal) -> Iterator[Unit | Link]:
    """What stands for a VM that can't be."""
    return refusals.units(refusal)
