"""The start of the generator: away at once where nothing is configured.

It is in the path of every boot and every reload, so what is imported here is what a host without VMs pays for.
"""

import gc
import posix  # os without what it adds; the interpreter has it loaded
import sys

from vmsilo.paths import CONFIG_DIRECTORIES, CONFIG_DIRECTORIES_VARIABLE, CONFIG_SUFFIX


def start() -> int:
    """main() as a program of its own. Does not return.

    To look for garbage on the way, and to take apart what was built, object by object, would be a sixth of the time
    that all takes. It is little, and all of it is needed until it is written.
    """
    gc.disable()
    posix._exit(main())  # nothing that is printed is held back


def main() -> int:
    arguments = sys.argv[1:]
    if len(arguments) in (1, 3) and arguments[0][:1] == "/" and nothing_configured():
        return 0
    from vmsilo_generator.run import run  # late: see above

    return run(arguments)


def nothing_configured() -> bool:
    """Whether no configuration directory has a file that could be meant for us, or is in a state to be reported."""
    variable = posix.environ.get(CONFIG_DIRECTORIES_VARIABLE.encode(), b"").decode(errors="surrogateescape")
    for directory in filter(None, variable.split(":")) if variable else CONFIG_DIRECTORIES:
        try:
            if any(name.endswith(CONFIG_SUFFIX) for name in posix.listdir(directory)):
                return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
