"""The hypervisor."""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo.plan import Disk
from vmsilo_generator import unitfile
from vmsilo_generator.hypervisor import Needs
from vmsilo_generator.machine import Machine
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.sandbox import Assignments, Policy
from vmsilo_generator.unitfile import Link, Section, Unit, command, words

LAUNCH = paths.LIBEXEC + "/vm-launch"
KVM = "/dev/kvm"

# Beyond what the guest is given: vm-launch says in a clear line what it waits for before systemd stops waiting.
START_SLACK = 30  # seconds
STOP_SLACK = 10  # seconds


def units(machine: Machine, need: Needs) -> Iterator[Unit | Link]:
    vm = machine.plan.vm
    policy = policy_of(machine, need)
    yield Unit(
        names.vm_unit(vm),
        (
            unit_section(machine, need),
            ("Service", service_section(machine, need, policy)),
        ),
    )
    if machine.auto_start:
        yield unitfile.wants("multi-user.target", names.vm_unit(vm))


def policy_of(machine: Machine, need: Needs) -> Policy:
    plan = machine.plan
    vsock = ["vsock"] if need.vsock_by_kernel else []
    return Policy(("base", "unix", *vsock, "threads", "vm-launch", *need.policies(plan)), log=plan.seccomp_log)


def unit_section(machine: Machine, need: Needs) -> Section:
    plan = machine.plan
    wanted = [names.vm_unit(vm) for vm in machine.depends_on]
    # Not Requires=: where the program is missing, vm-launch says so in a line that names it.
    wanted += [names.vsock_unit(plan.vm)] if need.vsock_by_backend else []
    # Stopped after this one: the guest writes to them until it is off.
    wanted += [names.share_socket_unit(plan.vm, share.tag) for share in plan.shares]
    wanted += [names.share_service_unit(plan.vm, share.tag) for share in plan.shares]
    required = [names.pci_unit(plan.vm)] if plan.pci else []
    # A VM without the network that it is to have has no business to run; one with another has less.
    required += [names.net_unit(plan.vm)] if plan.network.nics else []
    return unitfile.about(
        names.vm_description(plan.vm, plan.hypervisor, sandbox.note(off=not plan.sandbox, log=plan.seccomp_log)),
        machine.file,
        *([("Wants", " ".join(wanted))] if wanted else []),
        *([("Requires", " ".join(required))] if required else []),
        *([("After", " ".join(wanted + required))] if wanted or required else []),
        ("RequiresMountsFor", words(*configured_paths(machine))),
        # Each start is somebody's wish, and what went wrong with it is worth more than "repeated too quickly".
        ("StartLimitIntervalSec", "0"),
    )


def service_section(machine: Machine, need: Needs, policy: Policy) -> Assignments:
    plan = machine.plan
    running_plan = f"{plan.run_dir}/{paths.RUNNING_PLAN}"
    return (
        # vm-launch says READY=1 when control socket and running plan are there, which ExecStartPost= needs.
        ("Type", "notify"),
        ("NotifyAccess", "exec"),
        *lending(machine, need),
        # Opened by systemd: the VM's user can't.
        ("StandardInput", "file:" + plan_path(plan.vm)),
        ("ExecStart", policy.command(LAUNCH, "start", "-")),
        ("ExecStartPost", command(LAUNCH, "boot", running_plan)),
        ("ExecStop", command(LAUNCH, "stop", running_plan)),
        ("ExecStopPost", command(LAUNCH, "explain", plan.hypervisor)),
        ("TimeoutStartSec", str(plan.start_timeout + START_SLACK)),
        ("TimeoutStopSec", str(plan.stop_timeout + STOP_SLACK)),
        ("KillMode", "mixed"),
        *restart(need),
        *sandbox.identity(plan.vm),
        *([("SupplementaryGroups", "kvm")] if machine.facts.kvm_group else []),
        ("RuntimeDirectory", plan.run_dir.removeprefix("/run/")),
        ("RuntimeDirectoryMode", "0700"),
        ("StateDirectory", f"{paths.STATE}/{plan.vm}".removeprefix("/var/lib/")),
        ("StateDirectoryMode", "0700"),
        *of_pci(machine),
        *policy.lines(machine.facts),
        *(hardening(machine, need) if plan.sandbox else exposed(machine, need)),
    )


def lending(machine: Machine, need: Needs) -> Assignments:
    """What root opens for the VM: its own user may have no right to any of it."""
    plan = machine.plan
    disks, sockets, taps = len(configured_disks(machine)), len(plan.vhost_user), len(plan.network.nics)
    if not disks + sockets + taps:
        return ()
    lines = [
        ("ExecStartPre", "+" + command(LAUNCH, "lend", plan_path(plan.vm))),
        ("FileDescriptorStoreMax", str(disks + sockets + taps)),
    ]
    if (disks and need.disks_by_path) or (sockets and need.sockets_by_path):
        lines.append(("ExecStopPost", "+" + command(LAUNCH, "reclaim", plan_path(plan.vm))))
    return tuple(lines)


def restart(need: Needs) -> Assignments:
    if not need.reboot_status:
        return ()
    return (
        ("SuccessExitStatus", need.reboot_status),
        ("RestartForceExitStatus", need.reboot_status),
    )


def hardening(machine: Machine, need: Needs) -> Assignments:
    plan = machine.plan
    return (
        *sandbox.NO_CAPABILITY,
        *sandbox.NO_NETWORK,
        *sandbox.KERNEL,
        *([] if need.reads_proc else [("ProcSubset", "pid")]),
        *[("DeviceAllow", words(device, "rw")) for device in devices(machine, need)],
        # Root opens the VM's disks and TAPs from within the unit, so the unit's limits hold for that too. The
        # hypervisor finds no node of these in its own /dev, and can make none.
        *[("DeviceAllow", words(disk.path, "r" if disk.readonly else "rw")) for disk in block_devices(machine)],
        *([("DeviceAllow", words(paths.TUN, "rw"))] if plan.network.nics else []),
        *sandbox.view(
            sandbox.NOTIFY_SOCKET,
            *readable_paths(machine, need),
            *share_sockets(machine),
            writable=(plan.run_dir, *writable_paths(machine, need), *devices(machine, need)),
        ),
    )


def exposed(machine: Machine, need: Needs) -> Assignments:
    """Instead of hardening(): what DynamicUser= alone would make read-only, and sockets that are locked away."""
    writable = [*writable_paths(machine, need), *share_sockets(machine)]
    locked = [f"{paths.share_dir(machine.plan.vm, share.tag)}:ro" for share in machine.plan.shares]
    return (
        *([("TemporaryFileSystem", words(*locked))] if locked else []),
        *([("BindPaths", words(*["-" + path for path in writable]))] if writable else []),
    )


def share_sockets(machine: Machine) -> list[str]:
    """Their directories are closed to all but root. Who has the socket itself in his view, may connect to it."""
    return [share.socket for share in machine.plan.shares]


def devices(machine: Machine, need: Needs) -> list[str]:
    """Device nodes that are to be in the hypervisor's own /dev."""
    found = [KVM]
    if need.vsock_by_kernel:
        found.append(paths.KERNEL_VSOCK)
    return found


def configured_disks(machine: Machine) -> list[Disk]:
    plan = machine.plan
    return [*([plan.root] if plan.root is not None else []), *plan.disks]


def block_devices(machine: Machine) -> list[Disk]:
    return [disk for disk in configured_disks(machine) if disk.path.startswith("/dev/")]


def of_pci(machine: Machine) -> Assignments:
    """What PCI devices of the host need. Few VMs have any."""
    if not machine.plan.pci:
        return ()
    from vmsilo_generator.roles import pci

    return pci.of_hypervisor(machine)


def readable_paths(machine: Machine, need: Needs) -> list[str]:
    """Configured files the hypervisor reads, wherever they are."""
    plan = machine.plan
    found = [path for path in (plan.image, plan.kernel, plan.initramfs) if path]
    if need.disks_by_path:
        found += [disk.path for disk in configured_disks(machine) if disk.readonly]
    return found


def writable_paths(machine: Machine, need: Needs) -> list[str]:
    """Files the hypervisor writes outside the directories that systemd makes for it."""
    found = []
    if need.disks_by_path:
        found += [disk.path for disk in configured_disks(machine) if not disk.readonly]
    if need.sockets_by_path:
        found += [device.socket for device in machine.plan.vhost_user]
    if need.vsock_by_backend:
        # vm-launch listens beside the device's own sockets. Their directory may come after this unit's view is made.
        found.append(paths.machine_dir(machine.plan.vm))
    return found


def configured_paths(machine: Machine) -> list[str]:
    plan = machine.plan
    disks = [disk.path for disk in configured_disks(machine)]
    sockets = [device.socket for device in plan.vhost_user]
    return [path for path in (plan.image, plan.kernel, plan.initramfs, *disks, *sockets) if path]


def plan_path(vm: str) -> str:
    return f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}"
