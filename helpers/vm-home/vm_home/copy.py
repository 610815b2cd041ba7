"""A copy of a directory tree: contents with their holes, owners, modes, times, links, extended attributes, ACLs.

Only what an open file says of itself is believed, so that whoever changes the template meanwhile gets a copy of
something that was in it. The copy's owner can't touch it before it is complete.
"""

import errno
import os
import stat

from vmsilo.failure import EX_DATAERR, EX_OSERR, Failure

# A pipe must not wait for a writer, nor a terminal become ours.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_READ_DIRECTORY = _READ | os.O_DIRECTORY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Each level takes two descriptors and two calls.
_DEPTH_MAX = 200

_CHUNK = 1 << 24  # bytes for one call

# Of extended attributes, those that people set, and ACLs. Labels and capabilities are the system's to give.
_ATTRIBUTES = ("user.", "system.posix_acl_")

# What makes a file run as its owner or group.
_PRIVILEGED = stat.S_ISUID | stat.S_ISGID

_NOT_COPIED = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device node",
    stat.S_IFBLK: "a device node",
}


class Copy:
    """Of the directory *source*, as *name* in the directory *target*, both open."""

    def __init__(self, source: int, target: int, name: str) -> None:
        self._source = source
        self._target = target
        self._name = name
        self._owner = os.fstat(source).st_uid
        self._first: dict[tuple[int, int], str] = {}  # of files with several names: the first, from *target*
        self._at = "."  # what is being copied, for messages
        self.left_out: list[str] = []  # in words

    def run(self) -> None:
        """Raises Failure, and OSError with the name of the file; then what was copied so far is of no use."""
        try:
            self._directory(self._source, self._target, self._name, (self._name,))
        except OSError as error:
            error.filename = self._at
            raise

    def _directory(self, source: int, parent: int, name: str, way: tuple[str, ...]) -> None:
        """Copy the open directory *source*; *way* is where its copy is, from *target*."""
        if len(way) > _DEPTH_MAX:
            raise Failure("directories of the template are nested too deeply", f"{_DEPTH_MAX} at most", EX_DATAERR)
        os.mkdir(name, stat.S_IRWXU, dir_fd=parent)
        target = os.open(name, _READ_DIRECTORY, dir_fd=parent)
        try:
            for entry in sorted(os.listdir(source)):
                self._entry(source, target, entry, (*way, entry))
            self._at = "/".join(way[1:]) or "."
            its = os.fstat(source)
            _dress(source, target, its, stat.S_IMODE(its.st_mode))
        finally:
            os.close(target)

    def _entry(self, source: int, target: int, name: str, way: tuple[str, ...]) -> None:
        self._at = "/".join(way[1:])
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind in _NOT_COPIED:
            self.left_out.append(f"{self._at}, {_NOT_COPIED[kind]}")
        elif kind == stat.S_IFREG or kind == stat.S_IFDIR:
            self._open(source, target, name, way)
        elif not self._linked(found, target, name, way):
            if kind == stat.S_IFLNK:
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            else:
                os.mkfifo(name, stat.S_IMODE(found.st_mode), dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
            os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _open(self, source: int, target: int, name: str, way: tuple[str, ...]) -> None:
        """Copy a file or directory."""
        opened = os.open(name, _READ, dir_fd=source)
        try:
            its = os.fstat(opened)
            if stat.S_ISDIR(its.st_mode):
                self._directory(opened, target, name, way)
            elif not stat.S_ISREG(its.st_mode):
                raise Failure(f"{self._at} changed while it was copied", "start again", EX_OSERR)
            elif not self._linked(its, target, name, way):
                self._file(opened, its, target, name)
        finally:
            os.close(opened)

    def _linked(self, its: os.stat_result, target: int, name: str, way: tuple[str, ...]) -> bool:
        """Whether the file was copied under another name, to which *name* is now a link.

        Raises Failure for a file of another owner than the template's: whoever may write in the template can give any
        file a name in it, where the kernel lets everybody do so (fs.protected_hardlinks in proc_sys_fs(5)).
        """
        if its.st_nlink == 1:
            return False
        if its.st_uid != self._owner:
            message = f"{self._at} is not of the template's owner, and has {its.st_nlink} names"
            raise Failure(message, "another one may be anywhere: copy the file into the template", EX_DATAERR)
        first = self._first.setdefault((its.st_dev, its.st_ino), "/".join(way))
        if first == "/".join(way):
            return False
        os.link(first, name, src_dir_fd=self._target, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _file(self, source: int, its: os.stat_result, parent: int, name: str) -> None:
        mode = stat.S_IMODE(its.st_mode)
        if mode & _PRIVILEGED and os.geteuid() == 0:
            # The template may be a file system that its owner has mounted, which makes any file root's, and would
            # have it made here. Whoever copies as himself gives away no rights but his own.
            mode &= ~_PRIVILEGED
            self.left_out.append(f"{self._at}, set-user-ID and set-group-ID bits")
        target = os.open(name, _CREATE, stat.S_IRUSR | stat.S_IWUSR, dir_fd=parent)
        try:
            _contents(source, target, its.st_size)
            _dress(source, target, its, mode)
        finally:
            os.close(target)


def _contents(source: int, target: int, size: int) -> None:
    """Copy *size* bytes, and what is a hole as a hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole is all that is left
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        _stretch(source, target, start, end)
    os.ftruncate(target, size)


def _stretch(source: int, target: int, start: int, end: int) -> None:
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        count = _some(source, target, start, min(end - start, _CHUNK))
        if not count:
            break  # it became shorter
        start += count


def _some(source: int, target: int, start: int, count: int) -> int:
    """Copy up to *count* bytes to where *target* is, shared with the source where the file system can: how many."""
    try:
        return os.copy_file_range(source, target, count, offset_src=start)
    except OSError as error:
        # Between file systems, or where it is not allowed (copy_file_range(2)).
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return os.sendfile(target, source, start, count)


def _dress(source: int, target: int, its: os.stat_result, mode: int) -> None:
    """Give *target* this mode, and owner, attributes, times of *source*, both open, in the order that keeps all."""
    os.fchown(target, its.st_uid, its.st_gid)  # takes set-user-ID away
    for name in attributes(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, mode)
    os.utime(target, ns=(its.st_atime_ns, its.st_mtime_ns))


def attributes(opened: int) -> list[str]:
    """The names of those extended attributes that a copy has as well."""
    try:
        return [name for name in os.listxattr(opened) if name.startswith(_ATTRIBUTES)]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []
