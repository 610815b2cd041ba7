"""Why a VM can't be reached, in a line: what systemd knows about its units. Only loaded once something failed."""

from vmsilo import names, systemctl, vms
from vmsilo.failure import Failure, reason


def open_socket(vm: str) -> None:
    """Start the command socket, which a VM that was configured since the boot has stopped.

    Raises Failure where that can't be, saying why.
    """
    unit = names.command_socket_unit(vm)
    try:
        states = _states(vm)
        broken = vms.complaint(states, vm)
        if broken:
            raise Failure(f"VM {vm} is broken: {broken}")
        if not _known(states, unit):
            found = [names.vm_of_vm_unit(file) for file in systemctl.unit_files([names.VM_UNIT_GLOB])]
            raise vms.unknown(vm, [name for name in found if name])
        started = systemctl.run(["start", "--", unit])
    except OSError as error:
        raise Failure(f"VM {vm} has no command socket, and systemd can't be asked why: {reason(error)}") from None
    if started.not_allowed:
        raise Failure(f"nobody listens for commands to VM {vm}, and you may not start {unit}")
    if started.status:
        raise Failure(f"nobody listens for commands to VM {vm}: {started.complaint}")


def never_ran(vm: str) -> Failure:
    """The socket is there, but the connection was closed before the connector ran."""
    try:
        states = _states(vm)
    except OSError as error:
        return Failure(f"VM {vm} did not start, and systemd can't be asked why: {reason(error)}")
    state = states.get(names.vm_unit(vm))
    hint = hint_of(names.vm_unit(vm))
    if state is None or not state.known:
        return Failure(f"VM {vm} has no unit {names.vm_unit(vm)}", "systemctl daemon-reload")
    if state.active == "active":
        return Failure(
            f"VM {vm} runs, but the connector to it failed", f"journalctl -u '{names.command_service_unit(vm)}*'"
        )
    need = vms.failed_need(state) if state.active == "inactive" else None
    if need is not None:
        return Failure(f"VM {vm} did not start: {need.name} failed: {vms.reason(need)}", hint_of(need.name))
    return Failure(f"VM {vm} did not start: {vms.reason(state) or 'it was stopped'}", hint)


def hint_of(unit: str) -> str:
    return f"journalctl -u {unit} tells more"


def _states(vm: str) -> dict[str, systemctl.UnitState]:
    return systemctl.show([names.command_socket_unit(vm), names.vm_unit(vm)])


def _known(states: dict[str, systemctl.UnitState], unit: str) -> bool:
    return unit in states and states[unit].known
