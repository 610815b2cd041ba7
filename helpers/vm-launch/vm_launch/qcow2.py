"""Which files a qcow2 disk consists of, by the headers of the format (docs/interop/qcow2 of QEMU).

A guest can't write to the header of a disk that its hypervisor was told is qcow2: what stands there is of whoever
made the image. A guest could have written all of a raw one, so a file is asked only if the header before says qcow2.
"""

import os
import struct
from typing import NamedTuple

from vmsilo.failure import EX_CONFIG, EX_NOINPUT, Failure

_MAGIC = b"QFI\xfb"
_START = struct.Struct(">4sIQI")  # magic, version, offset and length of the backing file's name
_HEADER_LENGTH = struct.Struct(">I")
_HEADER_LENGTH_AT = 100  # from version 3 on
_HEADER_LENGTH_2 = 72  # before
_EXTENSION = struct.Struct(">II")  # type, length
_BACKING_FORMAT = 0xE2792ACA

_HEADER_MAX = 65536  # bytes that are read: header, extensions and name stand in the first cluster
_NAME_MAX = 1023
_FILES_MAX = 64


class Backing(NamedTuple):
    """What a header says is beneath its disk."""

    path: str
    format: str  # "" = not said


def backing_files(path: str) -> tuple[str, ...]:
    """The files beneath the qcow2 disk *path*, the next one first. Raises Failure if one can't be read."""
    found: list[str] = []
    below = read_backing(path)
    while below is not None:
        file = os.path.join(os.path.dirname(found[-1] if found else path), below.path)
        found.append(file)
        if len(found) > _FILES_MAX:
            raise Failure(f"the disk {path} has more than {_FILES_MAX} backing files", code=EX_CONFIG)
        below = read_backing(file, of=path, follow=below.format == "qcow2")
    return tuple(found)


def read_backing(path: str, *, of: str = "", follow: bool = True) -> Backing | None:
    """What the file *path* has beneath it, if it is to be asked. Raises Failure, which names the disk it is *of*."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return backing(os.pread(descriptor, _HEADER_MAX, 0)) if follow else None
        finally:
            os.close(descriptor)
    except OSError as error:
        what = f"the backing file {path} of the disk {of}" if of else f"the disk {path}"
        raise Failure(f"cannot read {what}: {error.strerror}", code=EX_NOINPUT) from None


def backing(header: bytes) -> Backing | None:
    """What a disk that begins with *header* says is beneath it; None for nothing, or if it is no header."""
    if len(header) < _HEADER_LENGTH_2 or not header.startswith(_MAGIC):
        return None
    _, version, offset, length = _START.unpack_from(header)
    name = header[offset : offset + length]
    if not 0 < length <= _NAME_MAX or len(name) < length or b"\0" in name:
        return None
    return Backing(os.fsdecode(name), _format(header, version))


def _format(header: bytes, version: int) -> str:
    """The format that the extensions behind the header say the backing file has."""
    place = _HEADER_LENGTH_2
    if version > 2 and len(header) >= _HEADER_LENGTH_AT + _HEADER_LENGTH.size:
        place = _HEADER_LENGTH.unpack_from(header, _HEADER_LENGTH_AT)[0]
    while place + _EXTENSION.size <= len(header):
        kind, length = _EXTENSION.unpack_from(header, place)
        place += _EXTENSION.size
        if kind == 0:
            break
        if kind == _BACKING_FORMAT:
            return header[place : place + length].decode("ascii", "replace")
        place += length + -length % 8
    return ""
