"""The slice that holds all of a VM's services."""

from vmsilo import names
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.unitfile import Unit


def unit(machine: Machine) -> Unit:
    vm = machine.plan.vm
    return Unit(names.slice_unit(vm), (unitfile.about(f"VM {vm}", machine.file),))
