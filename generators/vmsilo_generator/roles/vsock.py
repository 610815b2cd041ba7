"""The vsock device as a program, for a host whose kernel has none."""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.roles import sandbox
from vmsilo_generator.unitfile import Link, Unit

# It loses packets that are larger than this, and with them the connection. The credit it gives is this much, so
# none is.
PACKET_MAX = 32768


POLICY = sandbox.Policy(("base", "unix", "threads", "vhost-device-vsock"))


def units(machine: Machine) -> Iterator[Unit | Link]:
    plan = machine.plan
    yield Unit(
        names.vsock_unit(plan.vm),
        (
            unitfile.about(
                f"vsock device of VM {plan.vm}",
                machine.file,
                ("ConditionPathExists", "!" + paths.KERNEL_VSOCK),
                ("JoinsNamespaceOf", names.vm_unit(plan.vm)),
                ("StopWhenUnneeded", "yes"),
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Service",
                (
                    # The hypervisor, whose unit is after this one so as to end first, need not wait for more:
                    # vm-launch waits, once it has to connect.
                    ("Type", "simple"),
                    (
                        "ExecStart",
                        unitfile.command(
                            "vhost-device-vsock",
                            f"--guest-cid={plan.cid}",
                            f"--socket={paths.device_vsock(plan.vm)}",
                            f"--uds-path={plan.vsock}",
                            f"--tx-buffer-size={PACKET_MAX}",
                        ),
                    ),
                    # It has no other way to end than by this signal.
                    ("SuccessExitStatus", "SIGTERM"),
                    *sandbox.identity(plan.vm),
                    ("RuntimeDirectory", runtime_directory(plan.vm)),
                    ("RuntimeDirectoryMode", "0700"),
                    *sandbox.NO_CAPABILITY,
                    *sandbox.NO_NETWORK,
                    *sandbox.BACKEND,
                    *POLICY.lines(machine.facts),
                    *sandbox.view(writable=(paths.vsock_dir(plan.vm),)),
                ),
            ),
        ),
    )


def runtime_directory(vm: str) -> str:
    """The directory of this unit as RuntimeDirectory= wants it, below /run."""
    return paths.vsock_dir(vm).removeprefix("/run/")
