"""The socket that hands out the VM's console, while the command socket is there. It never starts the VM."""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.command import CONNECTED, listening
from vmsilo_generator.unitfile import Link, Unit

POLICY = sandbox.Policy(("base", "unix"))


def units(machine: Machine) -> Iterator[Unit | Link]:
    yield socket(machine)
    yield service(machine)


def socket(machine: Machine) -> Unit:
    vm = machine.plan.vm
    return Unit(
        names.console_socket_unit(vm),
        (
            unitfile.about(f"Console of VM {vm}", machine.file, ("PartOf", names.command_socket_unit(vm))),
            ("Socket", listening(paths.console_socket(vm), machine.owner)),
        ),
    )


def service(machine: Machine) -> Unit:
    plan = machine.plan
    return Unit(
        names.console_service_unit(plan.vm),
        (
            unitfile.about(
                f"Viewer of VM {plan.vm}'s console",
                machine.file,
                ("JoinsNamespaceOf", names.vm_unit(plan.vm)),
                ("CollectMode", "inactive-or-failed"),
            ),
            (
                "Service",
                (
                    ("ExecStart", unitfile.command(paths.LIBEXEC + "/vsock-cmd", "console", plan.run_dir)),
                    *CONNECTED,
                    *sandbox.identity(plan.vm),
                    *sandbox.NO_CAPABILITY,
                    *sandbox.NO_NETWORK,
                    *sandbox.HELPER,
                    *POLICY.lines(machine.facts),
                    *sandbox.view(plan.run_dir),
                ),
            ),
        ),
    )
