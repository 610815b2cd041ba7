"""The disposable disk that takes what the guest writes over its read-only root.

It has no name: when the hypervisor ends, however it ends, the file is gone.
"""

import errno
import os

from vm_launch import files
from vmsilo.failure import EX_OSERR, Failure

_CREATE = os.O_RDWR | os.O_CLOEXEC


def create(directory: str, size: int) -> int:
    """An unnamed sparse file of *size* bytes in *directory*: its descriptor."""
    descriptor = -1
    try:
        descriptor = _open(directory)
        os.ftruncate(descriptor, size)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise Failure(
            f"cannot make an overlay disk of {size} bytes in {directory}: {error.strerror}",
            "see rootOverlay.size and rootOverlay.type",
            EX_OSERR,
        ) from None
    return descriptor


def room(directory: str) -> int:
    """Bytes that *directory*'s file system has left for us."""
    system = os.statvfs(directory)
    return system.f_bavail * system.f_frsize


def _open(directory: str) -> int:
    try:
        # O_EXCL: nor can it be given a name later.
        return os.open(directory, _CREATE | os.O_TMPFILE | os.O_EXCL, 0o600)
    except OSError as error:
        # A file system without unnamed files says one of these (open(2)).
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
    # For a moment it has a name there, which a crash of the host can leave.
    path = os.path.join(directory, "overlay")
    files.remove(path)
    descriptor = os.open(path, _CREATE | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return descriptor
