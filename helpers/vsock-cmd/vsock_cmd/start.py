"""vm-start: start VMs and wait until they can be used."""

from vmsilo import arguments, names, systemctl, vms
from vmsilo.failure import EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, Failure, complain
from vmsilo.systemctl import Outcome, UnitState
from vsock_cmd import progress

PROGRAM = "vm-start"
USAGE = """\
usage: vm-start [--no-block] NAME...
       vm-start [--no-block] --all
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all run."""
    return arguments.carry_out(PROGRAM, _run, argv, "interrupted; what was started goes on, vm-stop ends it")


def _run(argv: list[str]) -> int:
    given = arguments.parse(argv, flags=("--all", "--no-block"), usage=USAGE)
    if bool(given.operands) == ("--all" in given.options):
        raise Failure("give the names of VMs, or --all", code=EX_USAGE)
    states = vms.query()
    chosen = vms.chosen(given.operands, states)
    startable = [vm for vm in chosen if not _complain_if_broken(vm, states)]
    status = 0 if len(startable) == len(chosen) else EX_UNAVAILABLE
    if startable:
        no_block = "--no-block" in given.options
        status = _start(startable, states, no_block=no_block) or status
    return status


def _units(vm: str) -> tuple[str, str]:
    """The VM, and the socket for vm-run: a VM that was configured after the boot has it stopped."""
    return names.vm_unit(vm), names.command_socket_unit(vm)


def _complain_if_broken(vm: str, states: dict[str, UnitState]) -> bool:
    message = vms.complaint(states, vm)
    if message:
        complain(PROGRAM, f"{vm} is broken: {message}")
    return bool(message)


def _start(chosen: list[str], before: dict[str, UnitState], *, no_block: bool) -> int:
    units = [unit for vm in chosen for unit in _units(vm) if unit in before and before[unit].active != "active"]
    vm_of = {names.vm_unit(vm): vm for vm in chosen}
    jobs = systemctl.each("start", units, *(["--no-block"] if no_block else []))
    outcomes = progress.wait(jobs, vm_of, "starting")
    if any(outcome.not_allowed for outcome in outcomes.values()):
        raise refused()
    failures = [] if no_block else _failures(vm_of, outcomes)
    failures += [outcome.complaint for outcome in outcomes.values() if outcome.status != 0]
    for failure in failures:
        complain(PROGRAM, failure)
    return EX_UNAVAILABLE if failures else 0


def _failures(vm_of: dict[str, str], outcomes: dict[str, Outcome]) -> list[str]:
    """A line for each VM that does not run. What systemctl said of it is in that line, and taken from *outcomes*."""
    states = systemctl.show(list(vm_of))
    stopped = [unit for unit in vm_of if states[unit].active != "active"]
    return [f"{vm_of[unit]}: {_why(states[unit], outcomes.pop(unit, None))}" for unit in stopped]


def refused() -> Failure:
    """What to say where polkit said no."""
    return Failure("not allowed", f"only the user named in {names.HOST_STEM}.toml may start and stop VMs", EX_NOPERM)


def _why(state: UnitState, outcome: Outcome | None) -> str:
    """Why the VM does not run, from its unit, or from one that it requires."""
    if state.active == "failed":
        return f"{vms.reason(state)} (see systemctl status {state.name})"
    need = vms.failed_need(state)
    if need is not None:
        return f"{need.name} failed: {vms.reason(need)} (see systemctl status {need.name})"
    return outcome.complaint if outcome and outcome.status else "it ended at once"
