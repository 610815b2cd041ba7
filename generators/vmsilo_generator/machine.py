"""One VM as its units need it: the plan, and what only units say."""

from typing import NamedTuple

from vmsilo.plan import Plan
from vmsilo_generator.model import Facts, Home

ROOT = "root"


class Server(NamedTuple):
    """The virtiofsd of a shared directory, as its unit has it."""

    tag: str
    path: str  # of the directory
    readonly: bool
    user: str
    reason: str  # for that user
    arguments: tuple[str, ...]
    uid_map: str  # by which root makes it a user namespace; "" = it has none
    gid_map: str
    seccomp_log: bool  # log instead of block
    sandbox: bool


class Machine(NamedTuple):
    plan: Plan
    file: str  # the file it was made from
    owner: str  # the user who may use it
    depends_on: tuple[str, ...]  # VMs that start with this one
    auto_start: bool
    facts: Facts  # of the host
    servers: tuple[Server, ...]  # one for each of the plan's shares
    home: Home | None


class Refusal(NamedTuple):
    """A VM that can't be, and why."""

    vm: str
    file: str
    lines: tuple[str, ...]  # ready to print; the first one has place and message
