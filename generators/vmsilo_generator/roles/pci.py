"""PCI devices of the host: kept for VMs from early in the boot on, and handed to one when it starts.

Both units run vm-pci as root, since devices are bound to drivers by writing to files of root's in sysfs. Neither
has a capability for that: root owns the files.
"""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo.plan import HostPlan, Plan
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.model import Facts
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.sandbox import Assignments
from vmsilo_generator.unitfile import Link, Unit

PROGRAM = paths.LIBEXEC + "/vm-pci"

# systemd's own template; a module's name may be written with either dash.
MODULE_UNIT = "modprobe@vfio_pci.service"

# For a driver that does not let go of its device. It would hold up the boot.
TIMEOUT = 60  # seconds

# Beyond the guest's memory, for what else a hypervisor locks along with it: firmware, video memory, tables.
MEMLOCK_SLACK = 1024  # MiB

# Of devices that are on the host's bus there are files below these alone.
SYSFS = "/sys/bus/pci /sys/devices"


def isolation(plan: HostPlan, file: str, facts: Facts) -> Iterator[Unit | Link]:
    """What takes the devices from the host's drivers."""
    if not plan.isolated:
        return
    yield Unit(
        names.PCI_ISOLATION_UNIT,
        (
            unitfile.about(
                "Isolation of PCI devices for VMs",
                file,
                ("Documentation", "man:vm-pci(8)"),
                ("DefaultDependencies", "no"),
                ("Wants", MODULE_UNIT),
                ("After", MODULE_UNIT),
                # Before anything makes the kernel load a driver for a device that it has found.
                ("Before", "systemd-modules-load.service systemd-udev-trigger.service sysinit.target"),
                ("Conflicts", "shutdown.target"),
                ("Before", "shutdown.target"),
            ),
            (
                "Service",
                (
                    ("ExecStart", unitfile.command(PROGRAM, "isolate")),
                    *ONESHOT,
                    *sandbox.NO_CAPABILITY,
                    *ROOM,
                    *POLICY.lines(facts),
                    ("PrivateDevices", "yes"),
                    *sandbox.view(paths.GENERATOR_DIR),
                ),
            ),
        ),
    )
    yield unitfile.wants("sysinit.target", names.PCI_ISOLATION_UNIT)


def grant(machine: Machine) -> Iterator[Unit | Link]:
    """What checks the VM's devices and hands them to its hypervisor."""
    vm = machine.plan.vm
    plan = f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}"
    yield Unit(
        names.pci_unit(vm),
        (
            unitfile.about(
                f"PCI devices of VM {vm}",
                machine.file,
                ("Wants", MODULE_UNIT),
                ("After", f"{MODULE_UNIT} {names.PCI_ISOLATION_UNIT}"),
                ("StopWhenUnneeded", "yes"),
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Service",
                (
                    ("ExecStart", unitfile.command(PROGRAM, "attach", plan)),
                    ("ExecStopPost", unitfile.command(PROGRAM, "detach", vm)),
                    # Says what is wrong in the status line, where vm-start looks.
                    ("NotifyAccess", "exec"),
                    *ONESHOT,
                    ("Slice", names.slice_unit(vm)),
                    # To make nodes of VFIO's in the directory that the hypervisor sees.
                    ("CapabilityBoundingSet", "CAP_MKNOD"),
                    *ROOM,
                    *POLICY.lines(machine.facts),
                    ("PrivateTmp", "yes"),
                    ("DeviceAllow", "char-vfio m"),
                    ("DeviceAllow", f"{paths.VFIO}/vfio m"),
                    *sandbox.view(sandbox.NOTIFY_SOCKET, paths.GENERATOR_DIR),
                ),
            ),
        ),
    )


POLICY = sandbox.Policy(("base", "unix", "vm-pci"))

ONESHOT: Assignments = (
    ("Type", "oneshot"),
    ("RemainAfterExit", "yes"),
    ("TimeoutStartSec", str(TIMEOUT)),
)

# Without PrivateDevices=, in which no node can be made, and with all of /proc: what the host has mounted, which is
# more than there is to see in here, and its swap spaces. Early in the boot
# PrivateTmp= would wait for file systems, which wait for what comes after.
ROOM: Assignments = (
    *sandbox.NO_NETWORK,
    *((key, value) for key, value in sandbox.HELPER if key not in ("PrivateDevices", "ProcSubset", "ProtectProc")),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ReadWritePaths", SYSFS),
    ("RestrictSUIDSGID", "yes"),
    ("UMask", "0077"),
)


def of_hypervisor(machine: Machine) -> Assignments:
    """What the unit of a hypervisor with devices says about them."""
    plan = machine.plan
    granted = paths.pci_grant(plan.vm)
    # By the names that are known before the group is. Without a sandbox all devices are allowed.
    nodes = ["vfio", *(device.address for device in plan.pci)] if plan.sandbox else []
    return (
        ("LimitMEMLOCK", f"{memlock(plan)}M"),
        # Both paths consist of plain characters, and between quotes the colon would not separate them.
        ("BindPaths", f"-{granted}:{paths.VFIO}"),
        *[("DeviceAllow", unitfile.words(f"{granted}/{node}", "rw")) for node in nodes],
    )


def memlock(plan: Plan) -> int:
    """MiB that the hypervisor may lock: devices reach all of the guest's memory, so none of it may move.

    Behind an IOMMU of the guest's each device has a view of its own, and the kernel counts each of them.
    """
    views = sum(any(setting.key == "iommu" for setting in device.settings) for device in plan.pci)
    return plan.memory * (views + 1) + MEMLOCK_SLACK
