"""The command line of vm-home(8).

A home is made by its user, who needs no privilege for that as long as template and place are this user's. What the
user may not do is left to a second run as root, which is all that --foreign means.
"""

import os
import sys

from vm_home import place
from vm_home.copy import Copy
from vm_home.growing import Growing
from vmsilo.failure import EX_OSERR, EX_USAGE, Failure, complain, one_line, reason
from vmsilo.notify import notify

USAGE = """\
usage: vm-home [--parent] [--foreign] TEMPLATE HOME
"""


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return os.EX_OK
    flags = {argument for argument in arguments if argument.startswith("-")}
    operands = [argument for argument in arguments if not argument.startswith("-")]
    if flags - {"--parent", "--foreign"} or len(operands) != 2 or not all(map(os.path.isabs, operands)):
        sys.stderr.write(USAGE)
        return EX_USAGE
    template, home = operands
    try:
        make(template, home, parent="--parent" in flags)
    except OSError as error:
        if isinstance(error, PermissionError) and "--foreign" not in flags:
            return os.EX_OK  # for the second run
        return failed(f"cannot make {home} from {template}: {reason(error)}", EX_OSERR)
    except Failure as failure:
        return failed(str(failure), failure.code)
    return os.EX_OK


def failed(message: str, code: int) -> int:
    complain("vm-home", message)
    notify("STATUS=" + one_line(message))
    return code


def make(template: str, home: str, *, parent: bool) -> None:
    """Make *home* a copy of *template*, unless it is there; with *parent* also the directory that it is in.

    Raises Failure and OSError, of that PermissionError for what this user may not do.
    """
    os.umask(0)  # modes are those of the template, and nobody but the owner sees what is not complete
    name = os.path.basename(home)
    source = place.directory(template, "vmsilo-shared.service makes it from what is installed")
    directory = place.parent(home, os.fstat(source)) if parent else place.directory(os.path.dirname(home), "make it")
    growing = Growing(directory, name)
    if place.is_there(directory, name) and not growing.was_left():
        return
    with growing:
        if place.is_there(directory, name):
            return  # another one made it meanwhile
        copy = Copy(source, growing.directory, name)
        copy.run()
        growing.publish()
    for what in copy.left_out:
        complain("vm-home", f"left out of {home}: {what}")
