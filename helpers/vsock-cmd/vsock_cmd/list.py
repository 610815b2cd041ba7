"""vm-list: the VMs, and how they are."""

import sys
import time

from vmsilo import arguments, vms
from vmsilo.amounts import duration, size
from vmsilo.failure import EX_USAGE, Failure, complain
from vmsilo.vms import Vm

PROGRAM = "vm-list"
USAGE = "usage: vm-list [--json]\n"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: systemd answered, even if there is no VM."""
    return arguments.carry_out(PROGRAM, _run, argv)


def _run(argv: list[str]) -> int:
    given = arguments.parse(argv, flags=("--json",), usage=USAGE)
    if given.operands:
        raise Failure("vm-list takes no names", code=EX_USAGE)
    found = vms.assemble(vms.query(), time.clock_gettime(time.CLOCK_MONOTONIC))
    if "--json" in given.options:
        sys.stdout.write(as_json(found))
    elif found:
        sys.stdout.write(as_table(found))
    else:
        complain(PROGRAM, "no VM is configured, see vmsilo.toml(5)")
    return 0


def as_json(found: list[Vm]) -> str:
    """An array with an object per VM; vm-list(1) describes the keys."""
    import json  # the table does without

    rounded = [vm._replace(uptime=None if vm.uptime is None else round(vm.uptime, 3)) for vm in found]
    return json.dumps([vm._asdict() for vm in rounded], indent=1, ensure_ascii=False) + "\n"


def as_table(found: list[Vm]) -> str:
    """Aligned columns under a heading; the last one only where a VM has something to say."""
    rows = [("NAME", "STATE", "HYPERVISOR", "MEMORY", "UPTIME", "")]
    rows += [
        (vm.name, vm.state, vm.hypervisor or "-", size(vm.memory), duration(vm.uptime), vm.message) for vm in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    name, state, hypervisor, memory, uptime, message = row
    cells = [
        name.ljust(widths[0]),
        state.ljust(widths[1]),
        hypervisor.ljust(widths[2]),
        memory.rjust(widths[3]),
        uptime.rjust(widths[4]),
        message,
    ]
    return "  ".join(cells).rstrip() + "\n"
