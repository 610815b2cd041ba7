"""A VM that has been started: its plan, its hypervisor's process, its control socket."""

import os
import select
import time
from typing import NamedTuple

from vm_launch.hypervisor import Target, Traits, find
from vmsilo import plan as plans
from vmsilo.failure import EX_CONFIG, EX_NOINPUT, EX_UNAVAILABLE, Failure

CONTROL = "control.socket"  # in the runtime directory
CONFIG = "vm.json"
TAPS = "taps.socket"


class Running(NamedTuple):
    plan: plans.Plan
    hypervisor: Traits
    target: Target
    process: int  # a descriptor that is readable once the hypervisor has ended; -1 if systemd named none

    def has_ended(self, within: float = 0) -> bool:
        """Whether the hypervisor has ended, or does within so many seconds."""
        if self.process < 0:
            return False
        poll = select.poll()
        poll.register(self.process, select.POLLIN)
        return bool(poll.poll(within * 1000))


def read_input() -> plans.Plan:
    """The plan on standard input, where there is nothing from then on: the hypervisor inherits that."""
    plan = read_plan("standard input", 0)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    return plan


def read_plan(path: str, descriptor: int = -1) -> plans.Plan:
    """The plan in the file *path*; open, if there is a *descriptor*."""
    try:
        with open(path if descriptor < 0 else descriptor, encoding="utf-8", closefd=descriptor < 0) as file:
            return plans.loads(file.read())
    except FileNotFoundError:
        raise Failure(f"there is no plan {path}", code=EX_NOINPUT) from None
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", code=EX_NOINPUT) from None
    except (ValueError, TypeError, KeyError) as error:
        raise Failure(f"{path}: {error}", code=EX_CONFIG) from None


def find_binary(hypervisor: Traits) -> str:
    """The path of the hypervisor's program. Raises Failure if it is not installed."""
    directories = os.get_exec_path()
    for name in hypervisor.binaries:
        for directory in directories:
            path = os.path.join(directory, name)  # an absolute name stays what it is
            if os.access(path, os.X_OK) and os.path.isfile(path):
                return path
    raise Failure(f"{hypervisor.binaries[0]} is not installed", "looked in " + ":".join(directories), EX_UNAVAILABLE)


def running(path: str, *, seconds: float) -> Running:
    """The VM that was started from the plan at *path*; what is said to it has to be done in *seconds*."""
    plan = read_plan(path)
    hypervisor = find(plan.hypervisor)
    target = Target(
        binary=find_binary(hypervisor),
        socket=os.path.join(plan.run_dir, CONTROL),
        config=os.path.join(plan.run_dir, CONFIG),
        deadline=time.monotonic() + seconds,
        nics=plan.network.nics,
        taps=os.path.join(plan.run_dir, TAPS),
    )
    return Running(plan, hypervisor, target, _main_process())


def _main_process() -> int:
    """A descriptor that is readable once the unit's main process has ended; -1 if systemd does not name one."""
    named = os.environ.get("MAINPID", "")
    if not named.isdigit():
        return -1
    try:
        return os.pidfd_open(int(named))
    except ProcessLookupError:
        return os.eventfd(1)
