"""Look after the VMs that run: give back the memory of consoles' logs beyond their last part, and say whose
disposable disk can't grow any more.

Logs are files in /run, which is memory that the whole host shares, and a guest may print without end. A hole in place
of the old part frees it, whoever writes or reads the file meanwhile: all offsets stay what they are.

Runs as root on directories that belong to hypervisors, which guests may have taken over: only a plain file of the
directory's own user, with no other name, is touched.
"""

import os
import stat

from vm_launch import overlay
from vmsilo import names, paths
from vmsilo.failure import Failure, complain

KEPT = 1 << 20  # bytes of a log
# A file that has not twice as much is let be: most are small, and punching has a price.
_WORTH_IT = 2 * KEPT

_PUNCH_HOLE_KEEP_SIZE = 0x2 | 0x1  # fallocate(2)


# A guest that finds no room for what it writes gets errors from its disk. Said while there is as little as this.
_LITTLE = 16 << 20  # bytes


def trim() -> int:
    """Look after all VMs that run."""
    try:
        vms = sorted(os.listdir(paths.RUN))
    except FileNotFoundError:
        return os.EX_OK
    for vm in vms:
        try:
            trim_log(paths.vm_dir(vm))
            look_for_room(vm)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it does not run
        except OSError as error:
            complain("vm-launch", f"cannot trim the console of {vm}: {error.strerror}")
    return os.EX_OK


def look_for_room(vm: str) -> None:
    """Say so if the disposable disk of *vm* can't grow."""
    directory = f"{paths.STATE}/{vm}"
    left = overlay.room(directory)
    if left < _LITTLE and has_disposable_disk(vm):
        # Once a minute, at a level that the unit lets through (sd-daemon(3)).
        complain(
            "<4>vm-launch", f"the disposable disk of VM {vm} can't grow: {left >> 20} MiB are left in {directory}"
        )


def has_disposable_disk(vm: str) -> bool:
    from vm_launch.running import read_plan  # rarely needed

    try:
        return read_plan(f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}").overlay.type == "raw"
    except Failure:
        return True  # the VM runs, but its file is gone


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
