"""From the configuration to what is decided: one plan for each VM. Pure; the same VM has the same plan whichever
other VMs there are.

Numbers come from the VM's name and not from its place among the others, so adding a VM renumbers none. Two names
that come to the same number are a problem of the later one, to be solved by writing down a number for it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from vmsilo import paths, plan
from vmsilo_generator.hypervisor import needs
from vmsilo_generator.machine import Machine
from vmsilo_generator.model import Config, Problem, Vm

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12
except ImportError:
    # hashlib has the same function behind 2 ms of looking for OpenSSL, at every boot.
    from _sha256 import sha256  # type: ignore[import-not-found]

# Context ids are derived into this range: clear of the numbers people write down, and of those for which the
# kernel keeps vsock ports to itself (a VM's CID is also the port of its ready message).
CID_FIRST = 65536
CID_END = 1 << 31


class Resolved(NamedTuple):
    machines: tuple[Machine, ...]
    host: plan.HostPlan | None
    problems: tuple[Problem, ...]  # of VMs that are therefore not among the machines


def resolve(config: Config, *, kvm_group: bool) -> Resolved:
    """Decide everything about the VMs of *config*, which names host.user if there is a VM at all."""
    if config.host is None:
        return Resolved((), None, ())
    problems = tuple(cid_problems(config.vms))
    faulty = {problem.file for problem in problems}
    unusable = {broken.name for broken in config.broken}
    unusable |= {vm.name for vm in config.vms if vm.file in faulty}
    machines = [
        Machine(
            plan=make_plan(vm),
            file=vm.file,
            owner=config.host.user,
            depends_on=tuple([name for name in vm.depends_on if name not in unusable]),
            broken_dependencies=tuple([name for name in vm.depends_on if name in unusable]),
            auto_start=vm.auto_start,
            kvm_group=kvm_group,
        )
        for vm in config.vms
        if vm.file not in faulty
    ]
    host = plan.HostPlan(user=config.host.user, bash_integration=config.host.bash_integration)
    return Resolved(tuple(machines), host, problems)


def without(machine: Machine, broken: Iterable[str]) -> Machine:
    """*machine* after it turned out that the VMs *broken* can't be either."""
    gone = set(broken)
    return machine._replace(
        depends_on=tuple([name for name in machine.depends_on if name not in gone]),
        broken_dependencies=machine.broken_dependencies
        + tuple([name for name in machine.depends_on if name in gone]),
    )


def make_plan(vm: Vm) -> plan.Plan:
    by_hypervisor = needs(vm.hypervisor).vsock_by_hypervisor
    hybrid = by_hypervisor or needs(vm.hypervisor).vsock_by_backend
    root = vm.root_disk._replace(readonly=vm.root_disk_readonly) if vm.root_disk is not None else None
    writable = root is not None and not root.readonly
    return plan.Plan(
        vm=vm.name,
        hypervisor=str(vm.hypervisor),
        image=vm.image if vm.image.startswith("/") else f"{paths.IMAGES}/{vm.image}",
        kernel=vm.kernel or "",
        initramfs=vm.initramfs or "",
        root=root,
        overlay=plan.Overlay("none", 0) if writable else plan.Overlay(vm.overlay_type, vm.overlay_size),
        kernel_params=vm.kernel_params,
        memory=vm.memory,
        cpus=vm.cpus,
        cid=cid(vm),
        vsock=paths.hybrid_vsock(vm.name, by_hypervisor=by_hypervisor) if hybrid else "",
        credentials=(plan.Credential("system.hostname", vm.name),),
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
    return vm.cid if vm.cid is not None else derived(vm.name, CID_FIRST, CID_END)


def derived(name: str, first: int, end: int) -> int:
    """A number from *first* up to before *end* that depends on nothing but *name*."""
    return first + int.from_bytes(sha256(name.encode()).digest(), "big") % (end - first)


def cid_problems(vms: Iterable[Vm]) -> Iterable[Problem]:
    """The VMs whose context id another one has; those that wrote theirs down come first."""
    owners: dict[int, Vm] = {}
    for vm in sorted(vms, key=lambda vm: (vm.cid is None, vm.name)):
        number = cid(vm)
        owner = owners.setdefault(number, vm)
        if owner is not vm:
            yield Problem(
                vm.file,
                ("vsock", "cid") if vm.cid is not None else (),
                f"the context id {number} is that of VM {owner.name} ({owner.file}) already: "
                f"choose another one with vsock.cid = {free(number, owners)}",
            )


def free(number: int, taken: Iterable[int]) -> int:
    """A number near *number* that is not *taken*."""
    numbers = set(taken)
    while number in numbers:
        number = number + 1 if number + 1 < CID_END else CID_FIRST
    return number


def name_problems(emitted: Iterable[tuple[str, str, str]]) -> Iterable[Problem]:
    """The VMs that meet in the name of a unit: one problem for each of the two, for each name.

    *emitted* are VM, its file and the name of a file made for it. Which VM is refused must not depend on order,
    so both are.
    """
    owners: dict[str, tuple[str, str]] = {}
    for vm, file, name in emitted:
        owner, owners_file = owners.setdefault(name, (vm, file))
        if owner != vm:
            for one, other, others_file in ((file, owner, owners_file), (owners_file, vm, file)):
                yield Problem(one, (), f"VM {other} ({others_file}) needs the name {name} too: rename one of them")
