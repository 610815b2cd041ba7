"""Initramfs archives: cpio's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

Written here and not by cpio(1), so that the same members give the same bytes: no inode numbers, owners or times of
the machine that builds get in.
"""

import stat
from typing import BinaryIO, NamedTuple


class Member(NamedTuple):
    """One file of an archive, owned by root."""

    name: str  # relative, without a leading slash
    mode: int  # type and permission bits, as in st_mode
    content: bytes = b""  # a symbolic link's target, or a regular file's bytes
    device: tuple[int, int] = (0, 0)  # major and minor of a device node


def directory(name: str) -> Member:
    return Member(name, stat.S_IFDIR | 0o755)


def regular(name: str, content: bytes, *, executable: bool = False) -> Member:
    return Member(name, stat.S_IFREG | (0o755 if executable else 0o644), content)


def symlink(name: str, target: str) -> Member:
    return Member(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Member:
    return Member(name, stat.S_IFCHR | 0o600, device=(major, minor))


def write(output: BinaryIO, members: list[Member]) -> None:
    """Write *members*, sorted by name, which puts every directory before what is in it; missing parents are added.

    Raises ValueError if two members have one name.
    """
    inode = 0
    for member in _complete(members):
        inode += 1
        output.write(_record(member, inode))
    output.write(_record(Member("TRAILER!!!", 0), 0))


def _complete(members: list[Member]) -> list[Member]:
    by_name = {member.name: member for member in members}
    if len(by_name) != len(members):
        raise ValueError("two members of an archive have one name")
    for name in list(by_name):
        while name := name.rpartition("/")[0]:
            by_name.setdefault(name, directory(name))
    return [by_name[name] for name in sorted(by_name)]


def _record(member: Member, inode: int) -> bytes:
    name = member.name.encode() + b"\0"
    fields = (
        inode,
        member.mode,
        0,
        0,  # owner and group
        2 if stat.S_ISDIR(member.mode) else 1,  # links
        0,  # time
        len(member.content),
        0,
        0,  # device the file is on
        *member.device,
        len(name),
        0,  # checksum, of another variant of the format
    )
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(member.content)


def _padded(record: bytes) -> bytes:
    return record + bytes(-len(record) % 4)
