"""One user's right to one file, given and taken back: access control lists as acl(5) has them.

The form is that of the extended attribute (linux/posix_acl_xattr.h): a version, then entries of tag, rights and id.

Nobody else's right changes. The mask, which is what the "group" digits of the mode then show, limits all users and
groups that are listed, so each of them is first given what the mask leaves of its entry.
"""

import errno
import os
import struct
from typing import NamedTuple

READ, WRITE = 4, 2

_NAME = "system.posix_acl_access"
_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP_OWNER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_MASKED = (_USER, _GROUP_OWNER, _GROUP)
_NO_ID = 0xFFFF_FFFF

# Dynamic users have ids from here (systemd's DYNAMIC_UID_MIN and _MAX).
_DYNAMIC = range(61184, 65519 + 1)


class Entry(NamedTuple):
    tag: int
    rights: int
    id: int


def grant(descriptor: int, user: int, rights: int, running: frozenset[int]) -> None:
    """Give *user* these rights to the file, and drop dynamic users who are not among the *running*.

    Such entries are left of a host that crashed. Raises OSError, EOPNOTSUPP where the file system has no lists.
    """
    left = [
        entry for entry in _read(descriptor) if not _is_stale(entry, running | {user}) and not _is_of(entry, user)
    ]
    _write(descriptor, [*left, Entry(_USER, rights, user)])


def revoke(descriptor: int, user: int, running: frozenset[int]) -> None:
    """Take back what grant() gave."""
    found = _read(descriptor)
    left = [entry for entry in found if not _is_stale(entry, running) and not _is_of(entry, user)]
    if left != found:
        _write(descriptor, left)


def _is_of(entry: Entry, user: int) -> bool:
    return entry.tag == _USER and entry.id == user


def _is_stale(entry: Entry, running: frozenset[int]) -> bool:
    return entry.tag == _USER and entry.id in _DYNAMIC and entry.id not in running


def _read(descriptor: int) -> list[Entry]:
    """The file's list without its mask, which each entry has been narrowed to."""
    try:
        raw = os.getxattr(_path(descriptor), _NAME)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        mode = os.fstat(descriptor).st_mode
        owners = ((_OWNER, mode >> 6), (_GROUP_OWNER, mode >> 3), (_OTHER, mode))
        return [Entry(tag, rights & 7, _NO_ID) for tag, rights in owners]
    entries = [Entry(*fields) for fields in _ENTRY.iter_unpack(raw[_HEADER.size :])]
    mask = next((entry.rights for entry in entries if entry.tag == _MASK), 7)
    return [
        entry._replace(rights=entry.rights & mask) if entry.tag in _MASKED else entry
        for entry in entries
        if entry.tag != _MASK
    ]


def _write(descriptor: int, entries: list[Entry]) -> None:
    if any(entry.tag in (_USER, _GROUP) for entry in entries):
        mask = 0
        for entry in entries:
            mask |= entry.rights if entry.tag in _MASKED else 0
        entries = [*entries, Entry(_MASK, mask, _NO_ID)]
    packed = [_ENTRY.pack(*entry) for entry in sorted(entries, key=lambda entry: (entry.tag, entry.id))]
    # Without entries of users and groups it is the plain mode again, and the kernel keeps no list.
    os.setxattr(_path(descriptor), _NAME, b"".join([_HEADER.pack(_VERSION), *packed]))


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"  # works for O_PATH as well
