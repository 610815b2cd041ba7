"""Give back the memory of consoles' logs beyond their last part.

Logs are files in /run, which is memory that the whole host shares, and a guest may print without end. A hole in place
of the old part frees it, whoever writes or reads the file meanwhile: all offsets stay what they are.

Runs as root on directories that belong to hypervisors, which guests may have taken over: only a plain file of the
directory's own user, with no other name, is touched.
"""

import os
import stat

from vmsilo import paths
from vmsilo.failure import complain

KEPT = 1 << 20  # bytes of a log
# A file that has not twice as much is let be: most are small, and punching has a price.
_WORTH_IT = 2 * KEPT

_PUNCH_HOLE_KEEP_SIZE = 0x2 | 0x1  # fallocate(2)


def trim() -> int:
    """Trim the consoles' logs of all VMs that run."""
    try:
        names = sorted(os.listdir(paths.RUN))
    except FileNotFoundError:
        return os.EX_OK
    for name in names:
        try:
            trim_log(paths.vm_dir(name))
        except (FileNotFoundError, NotADirectoryError):
            pass  # it does not run
        except OSError as error:
            complain("vm-launch", f"cannot trim the console of {name}: {error.strerror}")
    return os.EX_OK


def trim_log(run_dir: str) -> None:
    """Trim the log in *run_dir* if it is large."""
    directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        log = os.open(paths.CONSOLE_LOG, flags, dir_fd=directory)
    finally:
        owner = os.fstat(directory).st_uid
        os.close(directory)
    try:
        found = os.fstat(log)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner or found.st_nlink != 1:
            raise PermissionError(1, "it is not the file that vm-launch made")
        if found.st_blocks * 512 > _WORTH_IT and found.st_size > KEPT:
            punch(log, found.st_size - KEPT)
    finally:
        os.close(log)


def punch(file: int, length: int) -> None:
    """Make the first *length* bytes of *file* a hole. Python has no call for that."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = libc.fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(file, _PUNCH_HOLE_KEEP_SIZE, 0, length):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
