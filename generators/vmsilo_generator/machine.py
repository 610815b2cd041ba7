"""One VM as its units need it: the plan, and what only units say."""

from typing import NamedTuple

from vmsilo.plan import Plan


class Machine(NamedTuple):
    plan: Plan
    file: str  # the file it was made from
    owner: str  # the user who may use it
    depends_on: tuple[str, ...]  # VMs that start with this one
    auto_start: bool
    kvm_group: bool  # whether the host has the group that /dev/kvm belongs to


class Refusal(NamedTuple):
    """A VM that can't be, and why."""

    vm: str
    file: str
    lines: tuple[str, ...]  # ready to print; the first one has place and message
