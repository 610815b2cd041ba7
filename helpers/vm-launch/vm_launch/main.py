"""The command line of vm-launch(8)."""

import sys

from vmsilo.failure import EX_CONFIG, EX_USAGE, Failure, complain, one_line
from vmsilo.notify import notify

USAGE = """\
usage: vm-launch lend PLAN          as root, open the disks for the next verb
       vm-launch start PLAN         become the hypervisor, paused
       vm-launch boot PLAN          let the guest run and wait until it is ready
       vm-launch stop PLAN          press the power button and wait
       vm-launch reclaim PLAN       as root, take back what lend gave
       vm-launch explain HYPERVISOR say why the hypervisor ended, from the environment of ExecStopPost=
       vm-launch find DIRECTORY NOTE
                                    as root, note which directory is there
       vm-launch serve DIRECTORY NOTE PROGRAM [ARGUMENT...]
                                    become PROGRAM if it is the noted one
       vm-launch map UIDS GIDS PROGRAM [ARGUMENT...]
                                    become PROGRAM where ids stand for others
       vm-launch trim               bound the consoles' logs of all VMs
       vm-launch refuse MESSAGE...  say why the VM can't start
"""


def refuse(lines: list[str]) -> int:
    """Fail with a message that was decided when the units were made."""
    sys.stderr.write("\n".join(lines) + "\n")
    notify("STATUS=" + one_line(lines[0]))
    return EX_CONFIG


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    try:
        return run(arguments[0] if arguments else "", arguments[1:])
    except Failure as failure:
        complain("vm-launch", str(failure))
        notify("STATUS=" + one_line(str(failure)))
        return failure.code


def run(verb: str, operands: list[str]) -> int:
    # Each verb loads only what it needs: this program stands in the way of every start.
    match verb, operands:
        case "lend", [plan]:
            from vm_launch.lend import lend

            return lend(plan)
        case "reclaim", [plan]:
            from vm_launch.lend import reclaim

            return reclaim(plan)
        case "start", [plan]:
            from vm_launch.start import start

            start(plan)
        case "boot", [plan]:
            from vm_launch.boot import boot

            return boot(plan)
        case "stop", [plan]:
            from vm_launch.stop import stop

            return stop(plan)
        case "explain", [hypervisor]:
            from vm_launch.stop import explain

            return explain(hypervisor)
        case "find", [directory, note]:
            from vm_launch.shared import find

            return find(directory, note)
        case "serve", [directory, note, _, *_]:
            from vm_launch.shared import serve

            serve(directory, note, operands[2:])
        case "map", [uids, gids, _, *_]:
            from vm_launch.idmap import become

            become(uids, gids, operands[2:])
        case "trim", []:
            from vm_launch.trim import trim

            return trim()
        case "refuse", [_, *_]:
            return refuse(operands)
        case _:
            sys.stderr.write(USAGE)
            return EX_USAGE
