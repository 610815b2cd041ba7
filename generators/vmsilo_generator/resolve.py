"""From the configuration to what is decided: one plan for each VM. Pure; the same VM has the same plan whichever
other VMs there are.

Numbers come from the VM's name and not from its place among the others, so adding a VM renumbers none. Two names
that come to the same number are a problem of the later one, to be solved by writing down a number for it.
"""

from collections.abc import Sequence

from vmsilo import names, paths, plan
from vmsilo.ports import CID_END, CID_FIRST
from vmsilo_generator import derive
from vmsilo_generator.hypervisor import needs
from vmsilo_generator.machine import Machine, Server
from vmsilo_generator.model import Config, Facts, Host, Problem, Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmsilo_generator.network.plans import Decided


def resolve(config: Config, facts: Facts) -> tuple[Machine, ...]:
    """Decide everything about the VMs of *config* on a host of these *facts*."""
    if config.host is None:
        return ()
    decided = networks(config.vms, config.host)
    return tuple(
        [
            Machine(
                plan=make_plan(vm, config.host.scheduler_isolation, decided.get(vm.name)),
                file=vm.file,
                owner=config.host.user,
                depends_on=depends_on(vm),
                auto_start=vm.auto_start,
                facts=facts,
                servers=servers(vm, config.host) if vm.shares else (),
                home=vm.home,
            )
            for vm in config.vms
        ]
    )


def host_plan(host: Host, vms: Sequence[Vm]) -> plan.HostPlan:
    forced = {device.address for vm in vms for device in vm.pci if device.force}
    return plan.HostPlan(
        user=host.user,
        bash_integration=host.bash_integration,
        isolated=tuple([plan.IsolatedDevice(address, address in forced) for address in host.isolated]),
    )


def networks(vms: Sequence[Vm], host: Host) -> "dict[str, Decided]":
    """What becomes of the networks of VMs that have one, by the VMs' names."""
    if all(vm.network is None for vm in vms):
        return {}
    from vmsilo_generator.network import plans  # few VMs have one

    return plans.decide(vms, host)


def depends_on(vm: Vm) -> tuple[str, ...]:
    """The VMs that start with this one, and before it."""
    netvm = vm.network.netvm if vm.network is not None else ""
    return vm.depends_on if netvm in ("", names.HOST_NETVM, *vm.depends_on) else (*vm.depends_on, netvm)


def servers(vm: Vm, host: Host) -> tuple[Server, ...]:
    from vmsilo_generator import virtiofs  # only where a directory is shared

    return tuple(
        [
            virtiofs.server(
                virtiofs.for_guest_user(share, host) if vm.home and share.tag == names.HOME_TAG else share,
                host,
                seccomp_log=vm.share_seccomp_log,
                sandbox=vm.share_sandbox,
                tagged=needs(vm.hypervisor).tag_by_backend,
            )
            for share in vm.shares
        ]
    )


def credentials(vm: Vm) -> tuple[plan.Credential, ...]:
    """What the guest's systemd is told, see systemd.system-credentials(7)."""
    known = (plan.Credential("system.hostname", vm.name),)
    if not vm.shares:
        return known
    from vmsilo_generator import virtiofs  # only where a directory is shared

    return (*known, *virtiofs.mounts(vm.shares))


def make_plan(vm: Vm, core_scheduling: str, network: "Decided | None" = None) -> plan.Plan:
    by_hypervisor = needs(vm.hypervisor).vsock_by_hypervisor
    hybrid = by_hypervisor or needs(vm.hypervisor).vsock_by_backend
    writable = vm.root_disk is not None and not vm.root_disk.readonly
    return plan.Plan(
        vm=vm.name,
        hypervisor=str(vm.hypervisor),
        image=vm.image if vm.image.startswith("/") else f"{paths.IMAGES}/{vm.image}",
        kernel=vm.kernel or "",
        initramfs=vm.initramfs or "",
        root=vm.root_disk,
        overlay=plan.Overlay("none", 0) if writable else plan.Overlay(vm.overlay_type, vm.overlay_size),
        disks=vm.disks,
        shares=tuple([plan.Share(share.tag, paths.share_socket(vm.name, share.tag)) for share in vm.shares]),
        vhost_user=vm.vhost_user,
        pci=vm.pci,
        network=network.network if network is not None else plan.Network((), "", (), ()),
        kernel_params=vm.kernel_params,
        memory=vm.memory,
        hugepages=vm.hugepages,
        cpus=vm.cpus,
        core_scheduling=core_scheduling,
        cid=cid(vm),
        vsock=paths.hybrid_vsock(vm.name, by_hypervisor=by_hypervisor) if hybrid else "",
        credentials=(*credentials(vm), *(network.credentials if network is not None else ())),
        log_level=vm.log_level,
        extra_args=vm.extra_args,
        extra_run_args=vm.extra_run_args,
        extra_config=vm.extra_config,
        seccomp_log=vm.seccomp_log,
        sandbox=vm.sandbox,
        machine=vm.machine,
        start_timeout=vm.start_timeout,
        stop_timeout=vm.stop_timeout,
        run_dir=paths.vm_dir(vm.name),
    )


def cid(vm: Vm) -> int:
    return vm.cid if vm.cid is not None else derive.number(vm.name, CID_FIRST, CID_END)


def cid_problems(vms: Sequence[Vm]) -> list[Problem]:
    """The VMs whose context id another one has already; those that wrote theirs down come first."""
    owners: dict[int, Vm] = {}
    problems = []
    taken = {cid(vm) for vm in vms}
    for vm in sorted(vms, key=lambda vm: (vm.cid is None, vm.name)):
        number = cid(vm)
        owner = owners.setdefault(number, vm)
        if owner is not vm:
            key = ("vsock", "cid") if vm.cid is not None else ()
            message = (
                f'the context id {number} is that of VM "{owner.name}" ({owner.file}): '
                f"pin another one, such as vsock.cid = {free(number, taken)}"
            )
            problems.append(Problem(vm.file, key, message))
    return problems


def free(number: int, taken: set[int]) -> int:
    """A number near *number* that is not *taken*."""
    while number in taken:
        number = number + 1 if number + 1 < CID_END else CID_FIRST
    return number
