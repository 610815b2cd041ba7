"""The command lines of vm-start, vm-stop, vm-shell, vm-list and vm-net, and how these programs end.

No argparse: its import alone costs as much as the rest of such a program.
"""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from vmsilo.failure import EX_UNAVAILABLE, EX_USAGE, Failure, complain, reason

_INTERRUPTED = 130  # 128 + SIGINT, as a shell has it
_NO_READER = 141  # 128 + SIGPIPE


def carry_out(program: str, run: Callable[[list[str]], int], argv: list[str] | None, interrupted: str = "") -> int:
    """The exit status of *run* on the command line *argv*; None stands for the program's own.

    Failures are told; *interrupted* is what to say where the user interrupts.
    """
    try:
        status = run(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Failure as failure:
        complain(program, str(failure))
        return failure.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # what is still buffered has nowhere to go
        return _NO_READER
    except OSError as error:
        complain(program, reason(error))
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        if interrupted:
            complain(program, interrupted)
        return _INTERRUPTED


class Arguments(NamedTuple):
    """Options given, an option's value beside it ("" for a flag), and the operands."""

    options: dict[str, str]
    operands: list[str]


def parse(argv: list[str], *, flags: tuple[str, ...], valued: tuple[str, ...] = (), usage: str) -> Arguments:
    """Split *argv* into options and operands, as getopt_long(3) does it for long options and lone letters.

    ``--help`` prints *usage* and ends the program. Raises Failure (EX_USAGE) for what is not declared.
    """
    options: dict[str, str] = {}
    operands: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            operands += rest
            break
        if word in ("-h", "--help"):
            sys.stdout.write(usage)
            raise SystemExit(0)
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        name, value = _split(word)
        if name in valued:
            if value is None and not rest:
                raise Failure(f"{name} needs a value", code=EX_USAGE)
            options[name] = rest.pop(0) if value is None else value
        elif name in flags and value is None:
            options[name] = ""
        elif name in flags:
            raise Failure(f"{name} takes no value", code=EX_USAGE)
        else:
            raise Failure(f"there is no option {name!r}", "--help shows those there are", EX_USAGE)
    return Arguments(options, operands)


def _split(word: str) -> tuple[str, str | None]:
    """``--name=value`` and ``-nvalue``; None where no value is attached."""
    if word.startswith("--"):
        name, separator, value = word.partition("=")
        return name, value if separator else None
    return word[:2], word[2:] or None
