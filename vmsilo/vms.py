"""The VMs that systemd knows. Nothing else is asked, and nothing is remembered."""

from typing import NamedTuple

from vmsilo import names, systemctl
from vmsilo.failure import EX_NOINPUT, Failure, one_line
from vmsilo.notify import note_of
from vmsilo.systemctl import UnitState

STATES = {
    "active": "running",
    "reloading": "running",
    "refreshing": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "inactive": "stopped",
    "failed": "failed",
}

_SOCKET_GLOB = names.command_socket_unit("*")


class Vm(NamedTuple):
    """One VM as the user sees it."""

    name: str
    state: str  # running | starting | stopping | stopped | failed | broken
    hypervisor: str | None
    memory: int | None  # bytes that the hypervisor uses now
    uptime: float | None  # seconds since the guest was ready
    message: str  # progress, or what is wrong, or not as it should be
    lost: tuple[str, ...] = ()  # tags of the shared directories that the running VM has lost


def query() -> dict[str, UnitState]:
    """The states of all VMs' units, command sockets and shares. Raises OSError where systemd can't be asked."""
    units = systemctl.unit_files([names.VM_UNIT_GLOB, _SOCKET_GLOB])
    # The pattern adds VMs that run although their unit file is gone.
    return systemctl.show([*units, names.VM_UNIT_GLOB, names.SHARE_SERVICE_GLOB])


def assemble(states: dict[str, UnitState], now: float) -> list[Vm]:
    """The VMs behind the states of query(), sorted by name; *now* is in seconds of CLOCK_MONOTONIC."""
    found = {}
    lost = _lost(states)
    for unit, state in states.items():
        name = names.vm_of_vm_unit(unit)
        if name and state.known:
            tags = tuple(sorted(tag for vm, tag in lost if vm == name)) if state.active == "active" else ()
            found[name] = _vm(name, state, complaint(states, name), tags, now)
    for unit in states:
        name = unit.removeprefix(names.PREFIX).removesuffix(".socket")
        message = complaint(states, name)
        if message and name not in found:
            found[name] = Vm(name, "broken", None, None, None, message)
    return [found[name] for name in sorted(found)]


def complaint(states: dict[str, UnitState], vm: str) -> str:
    """What is wrong with the VM's file, or "" where nothing is; its socket says so."""
    socket = states.get(names.command_socket_unit(vm))
    return one_line(names.message_of_description(socket.description) or "") if socket else ""


def _lost(states: dict[str, UnitState]) -> list[tuple[str, str]]:
    """VM and tag of each share whose virtiofsd has failed. Only a VM that runs can have lost something with it."""
    failed = [names.share_of_description(state.description) for state in states.values() if state.active == "failed"]
    return [share for share in failed if share]


def _vm(name: str, state: UnitState, complaint: str, lost: tuple[str, ...], now: float) -> Vm:
    running = state.active in ("active", "reloading")
    return Vm(
        name=name,
        state=STATES.get(state.active, state.active),
        hypervisor=names.hypervisor_of_description(state.description),
        memory=None if state.stopped else state.memory,
        uptime=max(0.0, now - state.active_since / 1_000_000) if running else None,
        message=complaint or _message(state, lost),
        lost=lost,
    )


def _message(state: UnitState, lost: tuple[str, ...]) -> str:
    if state.load == "not-found":
        return "runs although its file is gone"
    if state.active in ("activating", "deactivating"):
        return one_line(state.status)
    if state.active == "failed":
        return reason(state)
    if state.active != "active":
        return ""
    notes = [f"share {tag} lost" for tag in lost] + [one_line(note_of(state.status))]
    return "; ".join([note for note in notes if note])


_RESULTS = {
    "exit-code": "a program of it failed",
    "signal": "a program of it was killed by a signal",
    "core-dump": "a program of it crashed",
    "oom-kill": "the host ran out of memory",
    "timeout": "it took too long",
    "start-limit-hit": "it failed too often in a short time",
    "resources": "the host lacks something to start it",
}


def reason(state: UnitState) -> str:
    """Why the unit failed: its own last words, which explain an exit, but not what was done to it from outside."""
    words = one_line(state.status)
    if words and state.result == "exit-code":
        return words
    judgement = _RESULTS.get(state.result, state.result)
    return f"{judgement}; its last words: {words}" if words else judgement


def failed_need(state: UnitState) -> UnitState | None:
    """The unit of ours that failed where this one requires it, which is why it was not started."""
    ours = [unit for unit in state.requires if unit.startswith(names.PREFIX)]
    needed = systemctl.show(ours).values() if ours else ()
    return next((unit for unit in needed if unit.active == "failed"), None)


def chosen(wanted: list[str], states: dict[str, UnitState]) -> list[str]:
    """The names *wanted*, each once; all VMs where none are. Raises Failure for the first that is no VM's."""
    known = [vm.name for vm in assemble(states, now=0)]
    for name in wanted:
        if name not in known:
            raise unknown(name, known)
    return list(dict.fromkeys(wanted or known))


def unknown(name: str, known: list[str]) -> Failure:
    """What to say of a name that no VM has."""
    if not names.is_vm_name(name):
        return Failure(f"{name!r} can't be the name of a VM", names.VM_NAME_RULE, EX_NOINPUT)
    from difflib import get_close_matches  # costs more than all the rest; only a typing error needs it

    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "vm-list shows all"
    return Failure(f"no VM is called {name!r}", hint, EX_NOINPUT)
