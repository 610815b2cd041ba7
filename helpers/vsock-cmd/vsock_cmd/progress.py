"""One line on the terminal that says what is being waited for."""

import sys
import time

from vmsilo import systemctl
from vmsilo.failure import one_line
from vmsilo.systemctl import Outcome, Running, UnitState

_PERIOD = 0.3  # seconds between two looks; a look costs a systemctl
_CLEAR = "\r\x1b[K"


def wait(jobs: dict[str, Running], vm_of: dict[str, str], verb: str) -> dict[str, Outcome]:
    """Wait for the systemctls at work, by unit. Meanwhile, where stderr is a terminal, show how the VMs are doing.

    A user who interrupts gets KeyboardInterrupt; the units go on without the systemctls.
    """
    if sys.stderr.isatty():
        _show_until_ended(list(jobs.values()), vm_of, verb)
    return {unit: job.outcome() for unit, job in jobs.items()}


def _show_until_ended(jobs: list[Running], vm_of: dict[str, str], verb: str) -> None:
    began = time.monotonic()
    shown = False
    try:
        while jobs:
            if jobs[-1].ended(_PERIOD):
                jobs.pop()
                continue
            states = systemctl.show(list(vm_of))
            _draw(text(states, vm_of, verb, time.monotonic() - began))
            shown = True
    finally:
        if shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def text(states: dict[str, UnitState], vm_of: dict[str, str], verb: str, seconds: float) -> str:
    """Such as ``starting demo: booting the guest, work (3 s)``: the VMs that are neither here nor there."""
    waiting = [
        vm + (f": {one_line(states[unit].status)}" if states[unit].status else "")
        for unit, vm in vm_of.items()
        if unit in states and states[unit].active in ("activating", "deactivating")
    ]
    return f"{verb} {', '.join(waiting or vm_of.values())} ({seconds:.0f} s)"


def _draw(line: str) -> None:
    from shutil import get_terminal_size  # only a terminal and a VM that takes its time need it

    width = get_terminal_size().columns - 1
    sys.stderr.write(_CLEAR + line[:width])
    sys.stderr.flush()
