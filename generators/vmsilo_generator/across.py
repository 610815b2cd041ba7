"""Rules between files: what one VM says about another, and what becomes of the VMs that rely on a broken one."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vmsilo import names
from vmsilo_generator.model import PROBLEMS_MAX, Broken, Config, Host, Problem, Share, Vm
from vmsilo_generator.source import ConfigFile

Key = tuple[str | int, ...]


class Found(NamedTuple):
    """A VM's file: the VM, unless it can't be used, and the values that could be read in any case."""

    name: str
    file: str
    vm: Vm | None
    values: dict[str, Any]


def rules(host: Host | None, vms: Sequence[Found]) -> list[Problem]:
    """What is wrong between the VMs, which are sorted by name, and between them and the host's file."""
    by_name = {vm.name: vm for vm in vms}
    problems: list[Problem] = []
    edges: Edges = {}
    for vm in vms:
        needs = _needs(vm.values)
        known = len(problems)
        for other, key in needs:
            fault = _relation(vm, other, key, by_name)
            if fault:
                problems.append(Problem(vm.file, key, fault))
                if len(problems) == known + PROBLEMS_MAX:
                    break
        if needs:
            edges[vm.name] = [(other, key) for other, key in needs if other in by_name and other != vm.name]
    if edges:
        problems += (Problem(by_name[name].file, key, message) for name, key, message in _cycles(edges))
    problems += _claimed_twice(vms)
    if host is not None:
        problems += _not_isolated(host, vms)
        problems += _networks(host, vms)
    problems += _within_reach(vms)
    return problems


def _needs(values: dict[str, Any]) -> list[tuple[str, Key]]:
    """The VMs that one needs, each with the key that says so."""
    needs: list[tuple[str, Key]] = []
    for index, other in enumerate(values.get("dependsOn", ())):
        if other:
            needs.append((other, ("dependsOn", index)))
    netvm = values.get("network.netvm", names.HOST_NETVM)
    if netvm != names.HOST_NETVM:
        needs.append((netvm, ("network", "netvm")))
    return needs


def _relation(vm: Found, other: str, key: Key, by_name: dict[str, Found]) -> str:
    """What is wrong with *vm* needing *other*; "" if nothing is."""
    if other == vm.name:
        return "a VM can't depend on itself" if key[0] == "dependsOn" else "a VM can't be its own netvm"
    if other not in by_name:
        from vmsilo_generator import where  # a module of the error path

        near = where.nearest(other, [name for name in by_name if name != vm.name])
        hint = f'(did you mean "{near}"?)' if near is not None else f"(there is no {other}.toml)"
        return f'no VM is called "{other}" {hint}'
    target = by_name[other]
    readable = target.vm is not None or target.values
    if key[0] == "network" and readable and not target.values.get("network.isNetvm", False):
        return f'"{other}" is no netvm: set network.isNetvm = true in {target.file}'
    return ""


Edges = dict[str, list[tuple[str, Key]]]


def _cycles(edges: Edges) -> Iterable[tuple[str, Key, str]]:
    """For each VM that needs itself by way of others: its name, the key that starts the way, and the message."""
    left = _left_over(edges)
    for name in sorted(left):
        way, key = _way_back(name, edges, left)
        if way:
            if len(way) > _WAY_MAX:
                way = [*way[: _WAY_MAX - 2], "...", way[-1]]
            yield name, key, "these VMs need each other in a circle: " + " -> ".join(way)


_WAY_MAX = 10


def _left_over(edges: Edges) -> set[str]:
    """The VMs that can't be put in an order: on a circle, or in need of one that is."""
    waiting = {name: {other for other, _key in needs} for name, needs in edges.items()}
    needed_by: dict[str, list[str]] = {}
    for name, others in waiting.items():
        for other in others:
            needed_by.setdefault(other, []).append(name)
    ready = [other for other in needed_by if not waiting.get(other)]
    for name in ready:  # grows while it is gone through
        for other in needed_by.get(name, ()):
            waiting[other].discard(name)
            if not waiting[other]:
                ready.append(other)
    return {name for name, others in waiting.items() if others}


def _way_back(start: str, edges: Edges, within: set[str]) -> tuple[list[str], Key]:
    """The shortest way from a VM back to itself, and the key that it begins with; [] if there is none."""
    before: dict[str, str] = {}
    begins: dict[str, Key] = {}
    queue = [start]
    for name in queue:  # grows while it is gone through
        for other, key in edges[name]:
            if other not in within or other in before:
                continue
            before[other] = name
            begins[other] = key if name == start else begins[name]
            queue.append(other)
            if other == start:
                way = [start]
                while way[-1] != start or len(way) == 1:
                    way.append(before[way[-1]])
                return way[::-1], begins[start]
    return [], ()


def _claimed_twice(vms: Sequence[Found]) -> list[Problem]:
    """What only one VM can have, where two ask for it. The second one, by name, has the problem."""
    owners: dict[tuple[str, ...], Found] = {}
    problems: list[Problem] = []
    for vm in vms:
        if not vm.values.keys() & _CLAIMS:
            continue
        for what, key in _claims(vm.values):
            owner = owners.setdefault(what, vm)
            if owner is not vm:
                message = f'VM "{owner.name}" ({owner.file}) has the same: expected another'
                problems.append(Problem(vm.file, key, message))
    return problems


def _not_isolated(host: Host, vms: Sequence[Found]) -> Iterable[Problem]:
    """PCI devices that a VM wants and the host keeps, whose drivers would not expect to lose them at the start."""
    for vm in vms:
        for address, key in _pci_devices(vm.values):
            if address not in host.isolated:
                message = f'the host keeps this device: add "{address}" to isolatedPciDevices in {host.file}'
                yield Problem(vm.file, key, message)


def _networks(host: Host, vms: Sequence[Found]) -> Sequence[Problem]:
    """What is wrong between the networks of VMs. Few have one."""
    good = [vm.vm for vm in vms if vm.vm is not None]
    if all(vm.network is None for vm in good):
        return ()
    from vmsilo_generator.network import clashes

    return clashes.problems(host, good)


def _within_reach(vms: Sequence[Found]) -> Iterable[Problem]:
    """Directories in which a guest may write, and in which something lies that a VM is given by its path.

    The guest could put a link to anywhere in its place, and at the next start what it leads to would be given. The
    share is what is wrong, whoever uses the path: a mistake in one file is no reason to break another's VM.
    """
    writable: dict[str, list[tuple[Found, Share]]] = {}
    for vm in vms:
        for share in vm.vm.shares if vm.vm is not None else ():
            if not share.readonly:
                writable.setdefault(share.path.rstrip("/"), []).append((vm, share))
    used = [(path, vm) for vm in vms if vm.vm is not None for path in _paths(vm.vm)] if writable else []
    for path, user in used:
        above = path.rstrip("/")
        while above:
            above = above.rpartition("/")[0]
            for vm, share in writable.pop(above, ()):
                whose = "this VM" if vm is user else f'VM "{user.name}" ({user.file})'
                message = (
                    f"the guest may write here, and could put a link to anywhere in the place of {path}, which "
                    f"{whose} uses: choose a directory that holds nothing of the kind, or make it read-only"
                )
                yield Problem(vm.file, _key(vm, share), message)


def _key(vm: Found, share: Share) -> Key:
    is_home = vm.vm is not None and vm.vm.home is not None and share.tag == names.HOME_TAG
    return ("sharedHome",) if is_home else ("sharedDirectories", share.tag, "path")


def _paths(vm: Vm) -> Iterable[str]:
    """What of the host the VM is given by its path."""
    yield from (share.path for share in vm.shares)
    yield from (disk.path for disk in vm.disks)
    if vm.root_disk is not None:
        yield vm.root_disk.path
    yield from (device.socket for device in vm.vhost_user)
    yield from (path for path in (vm.kernel, vm.initramfs, vm.image) if path and path.startswith("/"))


_CLAIMS = frozenset({"pciDevices", "usbDevices"})


def _claims(values: dict[str, Any]) -> Iterable[tuple[tuple[str, ...], Key]]:
    for index, device in enumerate(values.get("usbDevices", ())):
        if isinstance(device, dict):
            numbers = (device["vendorId"].lower(), device["productId"].lower(), device.get("serial", ""))
            yield ("usb", *numbers), ("usbDevices", index)
    for address, key in _pci_devices(values):
        yield ("pci", address), key


def _pci_devices(values: dict[str, Any]) -> Iterable[tuple[str, Key]]:
    """The full addresses of the VM's PCI devices, each with its key."""
    for index, device in enumerate(values.get("pciDevices", ())):
        if isinstance(device, dict):
            from vmsilo.pci import full_address  # few have anything for it

            yield full_address(device["path"]) or "", ("pciDevices", index, "path")


# The outcome.


def settle(
    host: Host | None, vms: Sequence[Found], problems: Sequence[Problem], files: Sequence[ConfigFile]
) -> Config:
    """Part the VMs, which are sorted by name, into those that can be used and those that can't."""
    if vms and host is None and not any(_is_host(problem.file) for problem in problems):
        problems = [*problems, _no_host(vms[0].file)]
    if not problems:
        return Config(host, tuple(vm.vm for vm in vms if vm.vm is not None), (), ())
    return _part(host, vms, problems, files)


def refuse(config: Config, files: Sequence[ConfigFile], problems: Sequence[Problem]) -> Config:
    """The configuration without the VMs in whose files *problems* were found later, nor those that need them."""
    vms = [Found(vm.name, vm.file, vm, {}) for vm in config.vms]
    vms += (Found(broken.name, broken.file, None, {}) for broken in config.broken)
    return settle(config.host, sorted(vms, key=lambda vm: vm.name), [*config.problems, *problems], files)


def _is_host(file: str) -> bool:
    return file.rpartition("/")[2] == f"{names.HOST_STEM}.toml"


def _no_host(beside: str) -> Problem:
    directory, slash, _name = beside.rpartition("/")
    path = f"{directory}{slash}{names.HOST_STEM}.toml"
    return Problem(path, (), 'this file is missing: it names the user whose VMs these are, as user = "<name>"')


def _part(host: Host | None, vms: Sequence[Found], faults: Sequence[Problem], files: Sequence[ConfigFile]) -> Config:
    from vmsilo_generator import problems  # a module of the error path

    located = problems.locate(faults, files)
    of_file: dict[str, list[Problem]] = {}
    for problem in located:
        of_file.setdefault(problem.file, []).append(problem)
    causes = {vm.name: problems.headline(of_file[vm.file][0]) for vm in vms if vm.file in of_file}
    followed = problems.locate(_followers(vms, causes), files)
    for problem in followed:
        of_file.setdefault(problem.file, []).append(problem)
    of_host = [problem for problem in located if _is_host(problem.file)] if host is None else []
    broken = [
        Broken(vm.name, vm.file, tuple(map(problems.render, (*of_file.get(vm.file, ()), *of_host))))
        for vm in vms
        if vm.file in of_file or of_host
    ]
    bad = {vm.name for vm in broken}
    good = tuple(vm.vm for vm in vms if vm.vm is not None and vm.name not in bad)
    return Config(host, good, tuple(broken), problems.locate((*located, *followed), files))


def _followers(vms: Sequence[Found], causes: dict[str, str]) -> list[Problem]:
    """The problems of VMs that need a broken one, directly or not; *causes* grows by them."""
    followers: list[Problem] = []
    while True:
        count = len(causes)
        for vm in vms:
            if vm.vm is None or vm.name in causes:
                continue
            for index, other in enumerate(vm.vm.depends_on):
                if other in causes:
                    message = f'"{other}" can\'t be used: {causes[other]}'
                    followers.append(Problem(vm.file, ("dependsOn", index), message))
                    causes[vm.name] = causes[other]
                    break
        if len(causes) == count:
            return followers
