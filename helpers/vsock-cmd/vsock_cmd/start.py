"""vm-start: start VMs and wait until they can be used."""

import sys

from vmsilo import names
from vmsilo.failure import EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, Failure, complain
from vsock_cmd import arguments, progress, systemctl, vms
from vsock_cmd.systemctl import Outcome, Running, UnitState

PROGRAM = "vm-start"
USAGE = """\
usage: vm-start [--no-block] NAME...
       vm-start [--no-block] --all
"""


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: all run."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except Failure as failure:
        complain(PROGRAM, str(failure))
        return failure.code
    except OSError as error:
        complain(PROGRAM, str(error))
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        complain(PROGRAM, "interrupted; what was started goes on, vm-stop ends it")
        return 130


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
    if not units:
        return 0
    if no_block:
        return _judge_queueing(systemctl.run(["--no-block", "start", "--", *units]))
    shown = {names.vm_unit(vm): vm for vm in chosen}
    outcome = progress.wait(Running(["start", "--", *units]), shown, "starting")
    if outcome.not_allowed:
        raise refused()
    after = systemctl.show(list(shown))
    stopped = [vm for vm in chosen if after[names.vm_unit(vm)].active != "active"]
    for vm in stopped:
        complain(PROGRAM, f"{vm}: {_why(vm, after[names.vm_unit(vm)], outcome)}")
    if outcome.status != 0 and not stopped:
        complain(PROGRAM, outcome.complaint)  # a socket, then
    return 0 if outcome.status == 0 and not stopped else EX_UNAVAILABLE


def _judge_queueing(outcome: Outcome) -> int:
    if outcome.not_allowed:
        raise refused()
    if outcome.status != 0:
        complain(PROGRAM, outcome.complaint)
    return EX_UNAVAILABLE if outcome.status else 0


def refused() -> Failure:
    """What to say where polkit said no."""
    return Failure("not allowed", f"only the user named in {names.HOST_STEM}.toml may start and stop VMs", EX_NOPERM)


def _why(vm: str, state: UnitState, outcome: Outcome) -> str:
    """Why the VM does not run, from its unit, or from one that it requires."""
    if state.active == "failed":
        return f"{vms.reason(state)} (see systemctl status {state.name})"
    ours = [unit for unit in state.requires if unit.startswith(names.PREFIX)]
    if ours:
        for needed in systemctl.show(ours).values():
            if needed.active == "failed":
                return f"{needed.name} failed: {vms.reason(needed)} (see systemctl status {needed.name})"
    return outcome.complaint if outcome.status else "it ended at once"
