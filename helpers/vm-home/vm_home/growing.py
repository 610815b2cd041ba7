"""A home appears at one stroke, with all that is in it.

It grows in a directory beside its place, and is renamed when all of it is on the disk. Whoever dies before that
leaves the directory, which the next one empties and begins anew; two at the same time take turns.
"""

import fcntl
import os
import stat
from types import TracebackType

from vm_home import libc
from vm_home.copy import attributes
from vm_home.place import is_there
from vmsilo.failure import EX_CONFIG, Failure

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Nobody else may enter. Sticky, which makes no sense for such a directory: by that it is known to be ours, since
# whoever may write beside it can rename another directory of its owner's to this name, but not change it.
_MODE = stat.S_ISVTX | stat.S_IRWXU


class Growing:
    """The directory in which *home*, which is to be in *parent*, grows: locked, empty, and gone in the end."""

    def __init__(self, parent: int, home: str) -> None:
        self._parent = parent
        self._home = home
        self._name = f".{home}.vmsilo-{os.geteuid()}"
        self.directory = -1

    def was_left(self) -> bool:
        """Whether somebody is at work, or died."""
        return is_there(self._parent, self._name)

    def __enter__(self) -> "Growing":
        self.directory = self._claim()
        empty(self.directory)
        for name in attributes(self.directory):
            os.removexattr(self.directory, name)  # an inherited ACL, which the home would inherit from here
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            empty(self.directory)
            os.rmdir(self._name, dir_fd=self._parent)
        except OSError:
            pass  # the next one empties it
        finally:
            os.close(self.directory)

    def publish(self) -> None:
        """Put what has grown in its place, unless another user's run was first."""
        libc.syncfs(self.directory)
        try:
            libc.rename_new(self.directory, self._home, self._parent, self._home)
        except FileExistsError:
            return
        os.fsync(self._parent)

    def _claim(self) -> int:
        """Wait for whoever has the directory, and have it."""
        while True:
            if not is_there(self._parent, self._name):
                try:
                    os.mkdir(self._name, _MODE, dir_fd=self._parent)
                except FileExistsError:
                    pass
            try:
                directory = os.open(self._name, _OPEN, dir_fd=self._parent)
            except FileNotFoundError:
                continue  # who had it is done
            if self._have(directory):
                return directory
            os.close(directory)

    def _have(self, directory: int) -> bool:
        """Lock *directory*: whether it is still the one of that name then. Raises Failure if it is not ours."""
        its = os.fstat(directory)
        if its.st_uid != os.geteuid() or stat.S_IMODE(its.st_mode) != _MODE:
            raise Failure(f"{self._name} is in the way", "remove it", EX_CONFIG)
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            found = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(its, found)


def empty(directory: int) -> None:
    """Remove all that is in *directory*, and follow no link while doing so."""
    for name in os.listdir(directory):
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            inside = os.open(name, _OPEN, dir_fd=directory)
            try:
                os.fchmod(inside, stat.S_IRWXU)
                empty(inside)
            finally:
                os.close(inside)
            os.rmdir(name, dir_fd=directory)
