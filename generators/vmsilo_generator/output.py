"""Writing the units: whole or not at all, and nowhere but below one directory.

systemd gives a generator an empty directory, but a run by hand may find files of an earlier one: they are replaced.
"""

import os
from collections.abc import Iterable

from vmsilo_generator.unitfile import File, Link

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class OutputError(Exception):
    """The units can't be written: one line that says which and why."""


def write(directory: str, entries: Iterable[File | Link]) -> None:
    """Write *entries* into *directory*, which is there.

    Each appears complete, by rename; the directories that links are in are made as needed. Raises OutputError.
    """
    name = ""
    opened: dict[str, int] = {}
    temporary = f".vmsilo-generator.{os.getpid()}"
    umask = os.umask(0o022)
    try:
        opened[""] = os.open(directory, _DIRECTORY)
        for entry in entries:
            name = entry.name
            if isinstance(entry, File):
                _write_file(opened[""], entry, temporary)
            else:
                parent, _, base = name.rpartition("/")
                if parent not in opened:
                    opened[parent] = _open_directory(opened[""], parent)
                _write_link(opened[parent], base, entry.target, temporary)
    except OSError as error:
        path = f"{directory}/{name}" if name else directory
        raise OutputError(f"can't write {path}: {error.strerror}") from error
    finally:
        os.umask(umask)
        for fd in opened.values():
            os.close(fd)


def _open_directory(above: int, name: str) -> int:
    """A directory in *above*, made if it isn't there. A link to somewhere else is refused."""
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:
        pass
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)


def _write_file(directory: int, file: File, temporary: str) -> None:
    data = file.text.encode()
    fd = _create(directory, temporary, file.mode)
    try:
        try:
            # The kernel writes a regular file whole, or as much as there is room for.
            if os.write(fd, data) != len(data):
                os.write(fd, data)
                raise OSError(28, "No space left on device")
        finally:
            os.close(fd)
        os.rename(temporary, file.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise


def _create(directory: int, name: str, mode: int) -> int:
    try:
        return os.open(name, _CREATE, mode, dir_fd=directory)
    except FileExistsError:  # of a process with our id that was killed
        os.unlink(name, dir_fd=directory)
        return os.open(name, _CREATE, mode, dir_fd=directory)


def _write_link(directory: int, name: str, target: str, temporary: str) -> None:
    try:
        os.symlink(target, name, dir_fd=directory)
        return
    except FileExistsError:
        pass
    try:
        os.symlink(target, temporary, dir_fd=directory)
    except FileExistsError:
        os.unlink(temporary, dir_fd=directory)
        os.symlink(target, temporary, dir_fd=directory)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise
