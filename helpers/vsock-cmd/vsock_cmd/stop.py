"""vm-stop: shut VMs down, or kill them."""

from vmsilo import arguments, names, systemctl, vms
from vmsilo.failure import EX_UNAVAILABLE, EX_USAGE, Failure, complain
from vmsilo.systemctl import UnitState
from vsock_cmd import progress
from vsock_cmd.start import refused

PROGRAM = "vm-stop"
USAGE = """\
usage: vm-stop [--force] NAME...
       vm-stop [--force] --all
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: none of them runs any more."""
    return arguments.carry_out(
        PROGRAM, _run, argv, "interrupted; what was asked to stop goes on stopping, --force ends it"
    )


def _run(argv: list[str]) -> int:
    given = arguments.parse(argv, flags=("--all", "--force"), usage=USAGE)
    if bool(given.operands) == ("--all" in given.options):
        raise Failure("give the names of VMs, or --all", code=EX_USAGE)
    states = vms.query()
    units = {names.vm_unit(vm): vm for vm in vms.chosen(given.operands, states)}
    present = {unit: vm for unit, vm in units.items() if unit in states}  # of a broken VM there is no unit
    return _stop(present, states, force="--force" in given.options) if present else 0


def _stop(units: dict[str, str], before: dict[str, UnitState], *, force: bool) -> int:
    """Stop the *units* (name of VM by unit) at the same time, and wait."""
    up = [unit for unit in units if not before[unit].stopped]
    if up:
        if force:
            _kill(up)
        outcomes = progress.wait(systemctl.each("stop", up), {unit: units[unit] for unit in up}, "stopping")
        if any(outcome.not_allowed for outcome in outcomes.values()):
            raise refused()
    return _report(units, up, force=force)


def _kill(units: list[str]) -> None:
    """Kill every process of the *units*.

    The stop is asked for first: a kill alone would look like a crash, and the unit might be restarted.
    """
    asked = [job.outcome() for job in systemctl.each("stop", units, "--no-block").values()]
    if any(outcome.not_allowed for outcome in asked):
        raise refused()
    # That a unit has meanwhile ended is an error to systemctl, but none here.
    for job in systemctl.each("kill", units, "--signal=SIGKILL").values():
        job.outcome()


def _report(units: dict[str, str], up: list[str], *, force: bool) -> int:
    """Say what did not go well; forget the failures that were meant or are told here."""
    after = systemctl.show(list(units))
    failed = [unit for unit in units if after[unit].active == "failed" and (force or unit in up)]
    if failed:
        for job in systemctl.each("reset-failed", failed).values():
            job.outcome()
    if not force:
        for unit in failed:
            complain(PROGRAM, f"{units[unit]} did not shut down cleanly: {vms.reason(after[unit])}")
    running = [unit for unit in units if not after[unit].stopped]
    for unit in running:
        complain(PROGRAM, f"{units[unit]} is still {vms.STATES.get(after[unit].active, after[unit].active)}")
    return EX_UNAVAILABLE if running else 0
