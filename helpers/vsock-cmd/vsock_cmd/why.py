"""Why a VM can't be reached, in a line: what systemd knows about its units. Only loaded once something failed."""

from vmsilo import names
from vmsilo.failure import Failure
from vsock_cmd import systemctl, vms


def no_socket(vm: str) -> Failure:
    """There is no command socket, or nobody listens at it."""
    try:
        states = _states(vm)
        if not vms.complaint(states, vm) and not _known(states, names.command_socket_unit(vm)):
            found = [names.vm_of_vm_unit(unit) for unit in systemctl.unit_files([names.VM_UNIT_GLOB])]
            return vms.unknown(vm, [name for name in found if name])
    except OSError as error:
        return Failure(f"VM {vm} has no command socket, and systemd can't be asked why: {error}")
    broken = vms.complaint(states, vm)
    if broken:
        return Failure(f"VM {vm} is broken: {broken}")
    unit = names.command_socket_unit(vm)
    return Failure(f"nobody listens for commands to VM {vm}", f"systemctl start {unit}")


def never_ran(vm: str) -> Failure:
    """The socket is there, but the connection was closed before the connector ran."""
    try:
        states = _states(vm)
    except OSError as error:
        return Failure(f"VM {vm} did not start, and systemd can't be asked why: {error}")
    state = states.get(names.vm_unit(vm))
    hint = f"journalctl -u {names.vm_unit(vm)} tells more"
    if state is None or not state.known:
        return Failure(f"VM {vm} has no unit {names.vm_unit(vm)}", "systemctl daemon-reload")
    if state.active == "active":
        return Failure(
            f"VM {vm} runs, but the connector to it failed", f"journalctl -u '{names.command_service_unit(vm)}*'"
        )
    return Failure(f"VM {vm} did not start: {vms.reason(state) or 'it was stopped'}", hint)


def _states(vm: str) -> dict[str, systemctl.UnitState]:
    return systemctl.show([names.command_socket_unit(vm), names.vm_unit(vm)])


def _known(states: dict[str, systemctl.UnitState], unit: str) -> bool:
    return unit in states and states[unit].known
