"""The picture: each VM with its interfaces and rules, put together from what systemd, kernel and plans say."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vm_net.links import Tap, Traffic
from vm_net.rules import Table
from vmsilo import names, paths, systemctl, vms
from vmsilo import plan as plans
from vmsilo.plan import Nic, Plan
from vmsilo.systemctl import UnitState

ABSENT = "absent"  # the state of an interface that is configured, and not there
GONE = "gone"  # the state of a VM that has only left something behind
NO_NETWORK = "none"

_LEFT = "left behind: no such VM is configured, and none runs"

_NETWORKS = {"active": "up", "activating": "starting", "deactivating": "stopping", "inactive": "down"}


class Vm(NamedTuple):
    """One VM, and what connects it."""

    name: str
    state: str  # as vm-list(1) has it, or GONE
    network: str  # of its unit: up | starting | stopping | down | failed, or NO_NETWORK
    taps: tuple[Tap, ...]
    tables: tuple[Table, ...] | None  # None: not for this user's eyes
    message: str  # what is not as it should be


def systemd() -> dict[str, UnitState]:
    """The states of all VMs' units, and of their networks'. Raises OSError where systemd can't be asked."""
    states = vms.query()
    networks = [names.net_unit(vm.name) for vm in vms.assemble(states, now=0)]
    return states | (systemctl.show(networks) if networks else {})


def plan_of(vm: str) -> Plan | str | None:
    """The VM's plan, or why it can't be read; None where there is none.

    None for another than root, too: what it tells the guest is a secret.
    """
    path = f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}"
    try:
        with open(path, encoding="utf-8") as file:
            return plans.loads(file.read())
    except (FileNotFoundError, PermissionError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"{path}: {error}"


def draw(
    states: dict[str, UnitState],
    taps: Sequence[Tap],
    tables: Sequence[Table] | None,
    planned: Mapping[str, Plan | str | None],
) -> list[Vm]:
    """All VMs by name, those that left something behind with them. *tables* is None where they can't be seen."""
    known = {vm.name: vm.state for vm in vms.assemble(states, now=0)}
    left = {tap.vm for tap in taps} | {table.vm for table in tables or ()}
    found = []
    for name in sorted(known.keys() | left):
        own = [tap for tap in taps if tap.vm == name]
        rules = None if tables is None else tuple(table for table in tables if table.vm == name)
        unit = states.get(names.net_unit(name))
        plan = planned.get(name)
        found.append(
            Vm(
                name=name,
                state=known.get(name, GONE),
                network=_network(unit),
                taps=(*own, *_absent(plan, own)),
                tables=rules,
                message="; ".join(_complaints(unit, plan, own, rules)) if name in known else _LEFT,
            )
        )
    return found


def _network(unit: UnitState | None) -> str:
    return _NETWORKS.get(unit.active, unit.active) if unit and unit.known else NO_NETWORK


def _absent(plan: Plan | str | None, there: Sequence[Tap]) -> list[Tap]:
    if not isinstance(plan, Plan):
        return []
    present = {tap.interface for tap in there}
    return [_to_be(plan.vm, nic) for nic in plan.network.nics if nic.name not in present]


def _to_be(vm: str, nic: Nic) -> Tap:
    nothing = Traffic(0, 0, 0, 0)
    return Tap(
        vm=vm,
        interface=nic.name,
        tap=nic.tap,
        state=ABSENT,
        mtu=0,
        addresses=nic.addresses,
        bridge=nic.bridge,
        peer=nic.peer or ("host" if nic.addresses else ""),
        serves=bool(nic.peer) and nic.name != names.UPSTREAM,
        sent=nothing,
        received=nothing,
    )


def _complaints(
    unit: UnitState | None,
    plan: Plan | str | None,
    taps: Sequence[Tap],
    tables: Sequence[Table] | None,
) -> list[str]:
    """What the kernel has too much or too little of, and why."""
    if unit and unit.active == "failed":
        return [vms.reason(unit)]
    if isinstance(plan, str):
        return [plan]
    if not unit or unit.active != "active" or not plan:
        return []
    missing = [f"interface {tap.interface} is missing" for tap in _absent(plan, taps)]
    configured = {nic.name for nic in plan.network.nics}
    surplus = [f"interface {tap.interface} is not configured" for tap in taps if tap.interface not in configured]
    there = {table.name for table in tables or ()}
    unruled = [f"table {name} is missing" for name in plan.network.tables if tables is not None and name not in there]
    return missing + surplus + unruled
