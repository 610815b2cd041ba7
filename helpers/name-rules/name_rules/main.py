"""The command line of name-rules(8), and its two processes."""

import os
import socket
import sys
from collections.abc import Callable

from name_rules import privilege, sockets
from name_rules.feeder import Feeder, nft
from name_rules.rules import Set, sets
from name_rules.server import Lost, Server
from name_rules.sockets import Listening
from vmsilo import name_rules
from vmsilo.failure import EX_DATAERR, EX_NOINPUT, EX_OSERR, EX_USAGE, Failure, complain, one_line, reason
from vmsilo.name_rules import NameRules
from vmsilo.notify import notify

PROGRAM = "name-rules"

USAGE = """\
usage: name-rules RULES
"""

LENGTH_MAX = 16 << 20  # bytes of the rules

# Seconds without a question after which one that systemd has started for a question ends.
IDLE = 60.0


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return os.EX_OK
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return EX_USAGE
    try:
        return serve(arguments[0])
    except Failure as failure:
        return failed(str(failure), failure.code)
    except OSError as error:
        return failed(reason(error), EX_OSERR)


def failed(message: str, code: int) -> int:
    complain(PROGRAM, message)
    notify("STATUS=" + one_line(message))
    return code


def serve(path: str) -> int:
    """Answer until there is nothing to do; the exit status."""
    with open(path, encoding="utf-8") as file:
        identity = _identity(os.fstat(file.fileno()))
        rules = _read(path, file.read(LENGTH_MAX))
    listening = sockets.passed(rules.clients)
    by_systemd = bool(listening)
    listening = listening or sockets.made(rules.clients)
    known = sets(rules.clients)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        theirs.close()
        os._exit(
            _talk(listening, known, rules, ours, parent, IDLE if by_systemd else 0.0, lambda: _is(path, identity))
        )
    ours.close()
    for one in listening:
        one.socket.close()
    privilege.keep(privilege.CAP_NET_ADMIN)
    feeder = Feeder(known, nft())
    notify("READY=1")
    feeder.serve(theirs)
    theirs.close()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _talk(
    listening: list[Listening],
    known: list[Set],
    rules: NameRules,
    channel: socket.socket,
    parent: int,
    idle: float,
    current: Callable[[], bool],
) -> int:
    """The process without a capability; its exit status."""
    try:
        privilege.keep()
        privilege.end_with(parent)
        resolvers = tuple((address, sockets.PORT) for address in rules.resolvers)
        Server(listening, known, resolvers, channel, idle=idle, current=current).run()
        return os.EX_OK
    except Lost:
        return EX_OSERR  # the other one has said why
    except OSError as error:
        complain(PROGRAM, reason(error))
        return EX_OSERR
    except BaseException:
        import traceback  # late: a fault of ours

        traceback.print_exc()
        return 1


def _read(path: str, text: str) -> NameRules:
    try:
        rules = name_rules.loads(text)
    except ValueError as error:
        raise Failure(f"{path}: {error}", code=EX_DATAERR) from None
    if not rules.resolvers or not any(client.listen for client in rules.clients):
        raise Failure(f"{path}: nobody to ask, or nobody to answer", code=EX_NOINPUT)
    return rules


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is(path: str, identity: tuple[int, int, int]) -> bool:
    """Whether the file at *path* is still the one that was read."""
    try:
        return _identity(os.stat(path)) == identity
    except OSError:
        return False
