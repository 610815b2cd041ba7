"""The socket that takes commands, and the service that connects each of them to the guest."""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.hypervisor import Needs
from vmsilo_generator.machine import Machine
from vmsilo_generator.roles import sandbox
from vmsilo_generator.unitfile import Link, Unit, text

# Commands whose connection is being made at the same time; those under way don't count.
CONNECTIONS_MAX = "256"


def units(machine: Machine, need: Needs) -> Iterator[Unit | Link]:
    yield socket(machine)
    yield unitfile.wants("sockets.target", names.command_socket_unit(machine.plan.vm))
    policy = sandbox.Policy(("base", "unix", *(["vsock"] if need.vsock_by_kernel else [])))
    yield service(machine, need, policy)


def socket(machine: Machine) -> Unit:
    vm = machine.plan.vm
    return Unit(
        names.command_socket_unit(vm),
        (
            unitfile.about(
                f"Commands for VM {vm}",
                machine.file,
                # The user may start this one (polkit), also for a VM that is new since the boot.
                ("Wants", names.console_socket_unit(vm)),
            ),
            ("Socket", listening(paths.command_socket(vm), machine.owner)),
        ),
    )


def listening(path: str, owner: str) -> tuple[tuple[str, str], ...]:
    """A socket for *owner* alone, each of whose connections is a service of its own."""
    return (
        ("ListenStream", text(path)),
        ("SocketUser", text(owner)),
        ("SocketMode", "0600"),
        ("Accept", "yes"),
        ("MaxConnections", CONNECTIONS_MAX),
        # A user who is quick must not lose the socket: by default 200 connections in 2 s close it for good.
        ("TriggerLimitIntervalSec", "0"),
        ("RemoveOnStop", "yes"),
    )


def service(machine: Machine, need: Needs, policy: sandbox.Policy) -> Unit:
    plan = machine.plan
    vm_unit = names.vm_unit(plan.vm)
    socket = ("--socket", plan.vsock) if plan.vsock else ()
    return Unit(
        names.command_service_unit(plan.vm),
        (
            unitfile.about(
                f"Command for VM {plan.vm}",
                machine.file,
                ("Requires", vm_unit),
                ("After", vm_unit),
                ("JoinsNamespaceOf", vm_unit),
                ("CollectMode", "inactive-or-failed"),
            ),
            (
                "Service",
                (
                    (
                        "ExecStart",
                        unitfile.command(paths.LIBEXEC + "/vsock-cmd", "connect", "--cid", str(plan.cid), *socket),
                    ),
                    *CONNECTED,
                    *sandbox.identity(plan.vm),
                    *(RESERVED_PORT if need.vsock_by_kernel else sandbox.NO_CAPABILITY),
                    *sandbox.NO_NETWORK,
                    *sandbox.HELPER,
                    *policy.lines(machine.facts),
                    *sandbox.view(*([plan.vsock.rpartition("/")[0]] if plan.vsock else [])),
                ),
            ),
        ),
    )


# Of a service that a socket starts for each connection.
CONNECTED = (
    ("StandardInput", "socket"),
    ("StandardOutput", "journal"),
    ("StandardError", "journal"),
)

# By the port it comes from the guest tells the host's connector from any other program, where the host's kernel
# carries the connection (vmsilo.ports.LAST_RESERVED).
RESERVED_PORT = (
    ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
    ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
)
