"""The helper vsock-cmd: one subcommand per kind of client."""

import sys

from vmsilo.failure import EX_USAGE, complain

USAGE = "usage: vsock-cmd connect --cid N [--socket PATH] | vsock-cmd console RUN_DIR"


def main() -> int:
    argv = sys.argv[1:]
    # Each subcommand imports what it needs and nothing of the other's: this is on the way of every command.
    if argv[:1] == ["connect"]:
        from vsock_cmd import connect

        return connect.main(argv[1:])
    if argv[:1] == ["console"]:
        from vsock_cmd import console

        return console.main(argv[1:])
    if argv in (["-h"], ["--help"]):
        sys.stdout.write(USAGE + "\n")
        return 0
    complain("vsock-cmd", USAGE)
    return EX_USAGE
