"""One line on the terminal that says what is being waited for."""

import sys
import time

from vsock_cmd import plain, systemctl
from vsock_cmd.systemctl import Outcome, Running, UnitState

_PERIOD = 0.3  # seconds between two looks; a look costs a systemctl
_CLEAR = "\r\x1b[K"


def wait(job: Running, units: dict[str, str], verb: str) -> Outcome:
    """Wait for the systemctl *job*; where stderr is a terminal, show how the *units* (name of VM by unit) are doing.

    A user who interrupts gets KeyboardInterrupt; the units go on without the systemctl.
    """
    if not sys.stderr.isatty():
        return job.outcome()
    began = time.monotonic()
    shown = False
    try:
        while not job.ended(_PERIOD):
            states = systemctl.show(list(units))
            _draw(text(states, units, verb, time.monotonic() - began))
            shown = True
        return job.outcome()
    finally:
        if shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()


def text(states: dict[str, UnitState], units: dict[str, str], verb: str, seconds: float) -> str:
    """Such as ``starting demo: booting the guest, work (3 s)``: the VMs that are neither here nor there."""
    waiting = [
        vm + (f": {plain.line(states[unit].status)}" if states[unit].status else "")
        for unit, vm in units.items()
        if unit in states and states[unit].active in ("activating", "deactivating")
    ]
    return f"{verb} {', '.join(waiting or units.values())} ({seconds:.0f} s)"


def _draw(line: str) -> None:
    from shutil import get_terminal_size  # only a terminal and a VM that takes its time need it

    width = get_terminal_size().columns - 1
    sys.stderr.write(_CLEAR + line[:width])
    sys.stderr.flush()
