"""The command line of vm-net(1)."""

import sys

from vm_net import links, picture, rules, show, tool
from vmsilo import arguments, vms
from vmsilo.failure import EX_USAGE, Failure, complain

PROGRAM = "vm-net"
USAGE = "usage: vm-net [--json | --dot] [VM...]\n"


def main(argv: list[str] | None = None) -> int:
    """Exit status 0: systemd and the kernel answered, even if there is no VM."""
    return arguments.carry_out(PROGRAM, _run, argv)


def _run(argv: list[str]) -> int:
    given = arguments.parse(argv, flags=("--json", "--dot"), usage=USAGE)
    if len(given.options) > 1:
        raise Failure("--json and --dot are two answers: ask for one", code=EX_USAGE)
    states = picture.systemd()
    wanted = vms.chosen(given.operands, states)
    planned = {vm: picture.plan_of(vm) for vm in wanted}
    found = picture.draw(states, links.taps(), _tables(), planned)
    if given.operands:
        found = [vm for vm in found if vm.name in wanted]
    if "--json" in given.options:
        sys.stdout.write(show.as_json(found))
    elif "--dot" in given.options:
        sys.stdout.write(show.as_dot(found))
    elif not found:
        complain(PROGRAM, "no VM is configured, see vmsilo.toml(5)")
    else:
        sys.stdout.write(show.in_full(found) if given.operands else show.as_table(found))
        if any(vm.tables is None for vm in found):
            complain(PROGRAM, "only root sees rules, what they dropped, and what is configured but not there")
    return 0


def _tables() -> list[rules.Table] | None:
    """None for another than root."""
    try:
        return rules.tables()
    except tool.Refused:
        return None
