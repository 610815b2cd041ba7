"""The uncompressed kernel inside a bzImage.

A hypervisor starts an ELF kernel at its PVH entry; a bzImage first unpacks itself, which costs seconds under
emulation. The layout of a bzImage is the kernel's Documentation/arch/x86/boot.rst: the set-up header names the
offset and the length of the compressed payload, counted from the end of the real-mode code.
"""

import struct
import subprocess
from typing import NamedTuple

from vmsilo.failure import EX_DATAERR, Failure

BOOT_FLAG = 0xAA55
HEADER_MAGIC = b"HdrS"
PAYLOAD_PROTOCOL = 0x0208  # the first boot protocol whose header describes the payload
SECTOR = 512
ELF_MAGIC = b"\x7fELF"


class Header(NamedTuple):
    """What the set-up header says about the payload."""

    payload_start: int  # offset in the file
    payload_length: int  # bytes


class Compressor(NamedTuple):
    """A compression format: how it starts, and the command that undoes it from stdin to stdout."""

    name: str
    magic: bytes
    command: tuple[str, ...]


COMPRESSORS = (
    Compressor("zstd", b"\x28\xb5\x2f\xfd", ("zstd", "-q", "-d", "-c")),
    Compressor("xz", b"\xfd7zXZ\x00", ("xz", "-q", "-d", "-c", "--single-stream")),
    Compressor("gzip", b"\x1f\x8b\x08", ("gzip", "-q", "-d", "-c")),
    Compressor("lz4", b"\x02\x21\x4c\x18", ("lz4", "-q", "-d", "-c")),
    Compressor("bzip2", b"BZh", ("bzip2", "-q", "-d", "-c")),
    Compressor("lzma", b"\x5d\x00\x00", ("xz", "-q", "--format=lzma", "-d", "-c")),
)


def header(image: bytes) -> Header:
    """Read the set-up header of the bzImage *image*. Raises Failure if it is none."""
    if (
        len(image) < 0x250
        or struct.unpack_from("<H", image, 0x1FE) != (BOOT_FLAG,)
        or image[0x202:0x206] != HEADER_MAGIC
    ):
        raise Failure("the kernel is not an x86 bzImage", code=EX_DATAERR)
    (protocol,) = struct.unpack_from("<H", image, 0x206)
    if protocol < PAYLOAD_PROTOCOL:
        raise Failure(
            f"the kernel's boot protocol {protocol >> 8}.{protocol & 0xFF:02} does not say where its payload is",
            "2.08 or later is needed",
            EX_DATAERR,
        )
    real_mode_sectors = image[0x1F1] or 4  # 0 means 4, for old boot loaders' sake
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (real_mode_sectors + 1) * SECTOR + offset
    if not length or start + length > len(image):
        raise Failure("the kernel is cut short: its payload ends behind the end of the file", code=EX_DATAERR)
    return Header(start, length)


def compressor(payload: bytes) -> Compressor:
    """The format *payload* is compressed with, by its first bytes. Raises Failure if it is unknown."""
    for candidate in COMPRESSORS:
        if payload.startswith(candidate.magic):
            return candidate
    raise Failure(
        f"the kernel's payload starts with {payload[:6].hex()}, which is no known compression",
        "known: " + ", ".join(known.name for known in COMPRESSORS),
        EX_DATAERR,
    )


def vmlinux(image: bytes) -> bytes:
    """The ELF kernel of the bzImage *image*; an *image* that is an ELF kernel already is returned as it is."""
    if image.startswith(ELF_MAGIC):
        return image
    where = header(image)
    payload = image[where.payload_start : where.payload_start + where.payload_length]
    if payload.startswith(ELF_MAGIC):
        return payload
    tool = compressor(payload)
    # Behind every stream but gzip's, which ends with it anyway, the kernel's build appends the length of what the
    # stream unpacks to (arch/x86/boot/compressed/Makefile, "with_size").
    (expected,) = struct.unpack_from("<I", payload, len(payload) - 4)
    kernel = _decompress(tool, payload if tool.name == "gzip" else payload[:-4])
    if len(kernel) != expected:
        raise Failure(f"the kernel unpacks to {len(kernel)} bytes where {expected} are announced", code=EX_DATAERR)
    if not kernel.startswith(ELF_MAGIC):
        raise Failure("what the bzImage unpacks to is not an ELF kernel", code=EX_DATAERR)
    return kernel


def _decompress(tool: Compressor, stream: bytes) -> bytes:
    try:
        result = subprocess.run(tool.command, input=stream, capture_output=True, check=False)
    except FileNotFoundError:
        raise Failure(
            f"the kernel is compressed with {tool.name}, and there is no such command",
            f"apt install {_package(tool)}",
        ) from None
    if result.returncode:
        complaint = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Failure(f"{tool.name} cannot unpack the kernel", complaint, EX_DATAERR)
    return result.stdout


def _package(tool: Compressor) -> str:
    return {"xz": "xz-utils"}.get(tool.command[0], tool.command[0])
