"""The program that vm-run starts in a guest when the host's configuration of its network has changed."""

import os
import sys

from guest_network.change import Guest
from guest_network.wanted import LENGTH_MAX, read
from vmsilo.failure import EX_DATAERR, EX_NOPERM, EX_OSERR, EX_USAGE, Failure, complain, reason

PROGRAM = "guest-network"

USAGE = """\
usage: guest-network <CREDENTIALS
"""


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return os.EX_OK
    if arguments:
        sys.stderr.write(USAGE)
        return EX_USAGE
    try:
        if os.geteuid():
            raise Failure("only root may change the network", code=EX_NOPERM)
        os.umask(0o022)
        Guest().change(read(sys.stdin.buffer.read(LENGTH_MAX + 1)))
    except Failure as failure:
        complain(PROGRAM, str(failure))
        return failure.code
    except ValueError as error:
        complain(PROGRAM, str(error))
        return EX_DATAERR
    except OSError as error:
        complain(PROGRAM, reason(error))
        return EX_OSERR
    return os.EX_OK
