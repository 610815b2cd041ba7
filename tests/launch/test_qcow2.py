"""Headers that qemu-img writes, and such as it would not."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_launch.qcow2 import Backing, backing, backing_files
from vmsilo.failure import Failure

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def create(path: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "1M"], check=True)
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(bytes(1 << 20))
    return path


@needs_qemu_img
@pytest.mark.parametrize("version", ["compat=0.10", "compat=1.1"])
def test_chain(tmp_path: Path, raw: Path, version: str) -> None:
    middle = create(tmp_path / "middle.qcow2", "-o", version, "-b", str(raw), "-F", "raw")
    top = create(tmp_path / "top.qcow2", "-o", version, "-b", str(middle), "-F", "qcow2")
    assert backing_files(str(raw)) == ()
    assert backing_files(str(middle)) == (str(raw),)
    assert backing_files(str(top)) == (str(middle), str(raw))


@needs_qemu_img
def test_name_beside_the_disk(tmp_path: Path, raw: Path) -> None:
    assert backing_files(str(create(tmp_path / "top.qcow2", "-b", raw.name, "-F", "raw"))) == (str(raw),)


@needs_qemu_img
def test_raw_is_not_asked(tmp_path: Path, raw: Path) -> None:
    """What a guest wrote into a raw disk while that was its own."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    top = create(tmp_path / "top.qcow2", "-b", str(raw), "-F", "raw")
    trap = create(tmp_path / "trap.qcow2", "-b", str(secret), "-F", "raw")
    raw.write_bytes(trap.read_bytes())
    assert backing_files(str(top)) == (str(raw),)


@needs_qemu_img
def test_file_that_is_not_there(tmp_path: Path, raw: Path) -> None:
    top = create(tmp_path / "top.qcow2", "-b", str(raw), "-F", "raw")
    raw.unlink()
    with pytest.raises(Failure, match=f"cannot read the backing file {raw} of the disk {top}: No such file"):
        backing_files(str(top))


@needs_qemu_img
def test_disk_beneath_itself(tmp_path: Path, raw: Path) -> None:
    top = create(tmp_path / "top.qcow2", "-b", str(raw), "-F", "raw")
    subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", str(top), "-F", "qcow2", str(top)], check=True)
    with pytest.raises(Failure, match="more than 64 backing files"):
        backing_files(str(top))


@given(st.binary(max_size=300).map(lambda tail: b"QFI\xfb" + tail))
def test_any_header(header: bytes) -> None:
    found = backing(header)
    assert found is None or (isinstance(found, Backing) and 0 < len(found.path) and "\0" not in found.path)
