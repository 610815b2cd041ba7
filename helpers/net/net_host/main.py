"""The command line of vmsilo-net(8)."""

import gc
import sys
from collections.abc import Callable, Sequence

from vmsilo import names
from vmsilo import plan as plans
from vmsilo.failure import EX_CONFIG, EX_NOINPUT, EX_OSERR, EX_USAGE, Failure, complain, one_line, reason
from vmsilo.notify import notify
from vmsilo.plan import Plan

PROGRAM = "net"
USAGE = """\
usage: net up PLAN
       net down VM
"""


def main(argv: Sequence[str] | None = None) -> int:
    if argv is None:
        gc.disable()  # as a program of its own it ends before that would be worth anything
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    match arguments:
        case ["up", path] if not path.startswith("-"):
            return told(lambda: up(path))
        case ["down", vm] if names.is_vm_name(vm):
            return told(lambda: down(vm))
    sys.stderr.write(USAGE)
    return EX_USAGE


def told(deed: Callable[[], None]) -> int:
    """Do it; what goes wrong is told where people look for it."""
    try:
        deed()
        return 0
    except Failure as failure:
        message, code = str(failure), failure.code
    except OSError as error:
        message, code = f"the kernel refuses: {reason(error)}", EX_OSERR
    complain(PROGRAM, message)
    notify("STATUS=" + one_line(message))
    return code


def up(path: str) -> None:
    plan = read(path)
    from net_host.rtnetlink import Kernel  # here, where a missing pyroute2 is told like all else
    from net_host.up import up as make

    make(Kernel(), plan)


def down(vm: str) -> None:
    from net_host.down import down as remove
    from net_host.rtnetlink import Kernel

    remove(Kernel(), vm)


def read(path: str) -> Plan:
    """The plan in file *path*. Raises Failure."""
    try:
        with open(path, encoding="utf-8") as file:
            return plans.loads(file.read())
    except FileNotFoundError:
        raise Failure(f"there is no plan {path}", code=EX_NOINPUT) from None
    except OSError as error:
        raise Failure(f"can't read the plan: {reason(error)}", code=EX_NOINPUT) from None
    except (ValueError, TypeError, KeyError) as error:
        raise Failure(f"{path}: {error}", code=EX_CONFIG) from None
