"""The kernel in a bzImage, for images made here of every compressor there is."""

import gzip
import shutil
import struct
import subprocess

import pytest

from vm_image import kernel
from vmsilo.failure import Failure

# What an ELF kernel looks like from far enough away.
ELF = kernel.ELF_MAGIC + bytes(range(256)) * 400

COMPRESS = {
    "zstd": ("zstd", "-q", "-c"),
    "xz": ("xz", "-q", "-c", "--check=crc32", "--x86", "--lzma2"),
    "lzma": ("xz", "-q", "-c", "--format=lzma"),
    "bzip2": ("bzip2", "-q", "-c"),
    "lz4": ("lz4", "-q", "-l", "-c"),
}


def bzimage(payload: bytes, *, protocol: int = 0x020F, sectors: int = 7, offset: int = 0x140) -> bytes:
    """A bzImage as boot.rst lays it out, with *payload* at *offset* of the protected-mode code."""
    image = bytearray((sectors or 4) * 512 + 512)
    image[0x1F1] = sectors
    struct.pack_into("<H", image, 0x1FE, 0xAA55)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, offset, len(payload))
    return bytes(image) + bytes(offset) + payload + bytes(333)


def with_size(stream: bytes, length: int = len(ELF)) -> bytes:
    return stream + struct.pack("<I", length)


@pytest.mark.parametrize("name", COMPRESS)
def test_unpacks_what_the_tool_packed(name: str) -> None:
    if shutil.which(COMPRESS[name][0]) is None:
        pytest.skip(f"no {COMPRESS[name][0]} here")
    stream = subprocess.run(COMPRESS[name], input=ELF, stdout=subprocess.PIPE, check=True).stdout
    assert kernel.compressor(stream).name == name
    assert kernel.vmlinux(bzimage(with_size(stream))) == ELF


def test_unpacks_gzip_whose_length_is_its_own() -> None:
    assert kernel.vmlinux(bzimage(gzip.compress(ELF))) == ELF


def test_takes_an_uncompressed_payload() -> None:
    assert kernel.vmlinux(bzimage(ELF))[: len(ELF)] == ELF


def test_takes_a_kernel_that_is_elf_already() -> None:
    assert kernel.vmlinux(ELF) == ELF


def test_no_set_up_sectors_means_four() -> None:
    assert kernel.header(bzimage(ELF, sectors=0)).payload_start == 5 * 512 + 0x140


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "not an x86 bzImage"),
        (bytes(4096), "not an x86 bzImage"),
        (bzimage(ELF)[:0x24F], "not an x86 bzImage"),
        (bzimage(ELF, protocol=0x0207), "boot protocol 2.07"),
        (bzimage(ELF)[:5000], "cut short"),
        (bzimage(b""), "cut short"),
        (bzimage(b"no compression starts like this"), "no known compression"),
        (bzimage(gzip.compress(b"something else")), "not an ELF kernel"),
        (bzimage(gzip.compress(ELF)[:-9] + gzip.compress(ELF)[-4:]), "gzip cannot unpack"),
    ],
)
def test_says_what_is_wrong(image: bytes, message: str) -> None:
    with pytest.raises(Failure, match=message):
        kernel.vmlinux(image)


def test_notices_a_stream_of_another_length() -> None:
    stream = subprocess.run(COMPRESS["zstd"], input=ELF, stdout=subprocess.PIPE, check=True).stdout
    with pytest.raises(Failure, match="where 5 are announced"):
        kernel.vmlinux(bzimage(with_size(stream, 5)))


def test_names_the_package_of_a_missing_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = subprocess.run(COMPRESS["xz"], input=ELF, stdout=subprocess.PIPE, check=True).stdout
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Failure, match="apt install xz-utils"):
        kernel.vmlinux(bzimage(with_size(stream)))
