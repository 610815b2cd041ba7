"""The command line of sandbox(8)."""

import os
import sys
from collections.abc import Iterable

from vm_sandbox.rules import Rule, rules
from vmsilo import policy
from vmsilo.failure import EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure, complain

USAGE = "usage: sandbox POLICY... -- PROGRAM [ARGUMENT...]\n"


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return os.EX_OK
    policies, line = split(arguments)
    if not policies or not line:
        sys.stderr.write(USAGE)
        return EX_USAGE
    try:
        allowed = policy.Policy()
        for path in policies:
            allowed |= policy.read(path)
        log_others(rules(allowed))
        os.execvp(line[0], line)
    except Failure as failure:
        complain("sandbox", str(failure))
        return failure.code
    except OSError as error:
        complain("sandbox", f"cannot execute {line[0]}: {error.strerror}")
        return EX_OSERR


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and behind the first ``--``."""
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def log_others(allowed: Iterable[Rule]) -> None:
    """From here on the kernel logs every call that no rule allows, and lets it pass."""
    try:
        import seccomp
    except ImportError:
        raise Failure("there is no libseccomp for Python", "install python3-seccomp", EX_UNAVAILABLE) from None
    kernel = seccomp.SyscallFilter(defaction=seccomp.LOG)
    kernel.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.LOG)
    for rule in allowed:
        if seccomp.resolve_syscall(seccomp.Arch(), rule.call) < 0:
            continue  # this processor, or this libseccomp, has none of that name
        conditions = []
        if rule.condition is not None:
            argument, mask, value = rule.condition
            conditions.append(seccomp.Arg(argument, seccomp.MASKED_EQ, mask, value))
        kernel.add_rule(seccomp.ALLOW, rule.call, *conditions)
    kernel.load()
