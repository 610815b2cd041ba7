"""The archive writer, against cpio(1) and against itself."""

import io
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_image import cpio

MEMBERS = [
    cpio.regular("init", b"#!/bin/sh\n", executable=True),
    cpio.regular("etc/deep/down/odd", b"xyz"),
    cpio.regular("etc/empty", b""),
    cpio.symlink("bin", "usr/bin"),
    cpio.directory("dev"),
]


def archive(members: list[cpio.Member]) -> bytes:
    output = io.BytesIO()
    cpio.write(output, members)
    return output.getvalue()


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio here")
def test_cpio_extracts_it(tmp_path: Path) -> None:
    subprocess.run(("cpio", "-id", "--quiet"), cwd=tmp_path, input=archive(MEMBERS), check=True)
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert stat.S_IMODE((tmp_path / "init").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "etc/deep/down/odd").stat().st_mode) == 0o644
    assert (tmp_path / "etc/deep/down/odd").read_bytes() == b"xyz"
    assert (tmp_path / "etc/empty").read_bytes() == b""
    assert (tmp_path / "bin").readlink() == Path("usr/bin")
    assert (tmp_path / "dev").is_dir()


def test_order_of_members_does_not_matter() -> None:
    assert archive(MEMBERS) == archive(MEMBERS[::-1])


def test_device_nodes_have_their_numbers() -> None:
    record = archive([cpio.character_device("dev/console", 5, 1)]).split(b"070701")[2]
    assert record[: 8 * 2][8:] == b"%08X" % (stat.S_IFCHR | 0o600)
    assert record[8 * 9 : 8 * 11] == b"0000000500000001"


def test_two_members_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="one name"):
        archive([cpio.directory("a"), cpio.regular("a", b"")])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=9), st.binary(max_size=40), max_size=8))
def test_reads_back_whatever_the_lengths_are(files: dict[str, bytes]) -> None:
    blob = archive([cpio.regular(name, content) for name, content in files.items()])
    assert len(blob) % 4 == 0
    found = {}
    while True:
        size, length = int(blob[6 + 8 * 6 : 6 + 8 * 7], 16), int(blob[6 + 8 * 11 : 6 + 8 * 12], 16)
        name = blob[110 : 110 + length - 1].decode()
        body = (110 + length + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = blob[body : body + size]
        blob = blob[(body + size + 3) // 4 * 4 :]
    assert found == files
