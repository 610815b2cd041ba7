"""Calls that Python has no function for."""

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1  # rename(2)

_libc = ctypes.CDLL(None, use_errno=True)


def syncfs(descriptor: int) -> None:
    """Wait until all of the file system of *descriptor* is on the disk."""
    if _libc.syncfs(descriptor):
        raise _error("")


def rename_new(from_directory: int, from_name: str, to_directory: int, to_name: str) -> None:
    """Rename a directory, unless the new name is taken: FileExistsError."""
    names = os.fsencode(from_name), os.fsencode(to_name)
    if not _libc.renameat2(from_directory, names[0], to_directory, names[1], _RENAME_NOREPLACE):
        return
    error = _error(to_name)
    if error.errno != errno.EINVAL:
        raise error
    # A file system without that, such as NFS: there an empty directory of that name is replaced, and nothing else.
    os.rename(from_name, to_name, src_dir_fd=from_directory, dst_dir_fd=to_directory)


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
