"""Files and links are whole or not there, and nowhere else."""

import errno
import os
from pathlib import Path

import pytest

from vmsilo_generator import output
from vmsilo_generator.output import OutputError
from vmsilo_generator.unitfile import File, Link

UNIT = File("a.service", "[Unit]\nDescription=ä\n")
LINK = Link("x.target.wants/a.service", "../a.service")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_files_and_links(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        output.write(str(tmp_path), [UNIT, LINK])
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert (tmp_path / "a.service").read_bytes() == UNIT.text.encode()
    assert (tmp_path / LINK.name).readlink() == Path(LINK.target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.service", "x.target.wants"]
    # Whatever the caller's umask.
    assert (mode(tmp_path / "a.service"), mode(tmp_path / "x.target.wants")) == (0o644, 0o755)


def test_a_file_for_root_alone(tmp_path: Path) -> None:
    """From the beginning, and in place of one that was for everybody."""
    secret = UNIT._replace(mode=0o600)
    for before in ([], [UNIT]):
        output.write(str(tmp_path), [*before, secret])
        assert mode(tmp_path / UNIT.name) == 0o600


def test_what_was_there_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.service").symlink_to(target)
    (tmp_path / "out" / "x.target.wants").mkdir()
    (tmp_path / "out" / LINK.name).symlink_to("elsewhere")
    output.write(str(tmp_path / "out"), [UNIT, LINK])
    assert target.read_text() == "untouched"
    assert not (tmp_path / "out" / "a.service").is_symlink()
    assert (tmp_path / "out" / LINK.name).readlink() == Path(LINK.target)


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "x.target.wants"):
        directory.mkdir(exist_ok=True)
        (directory / f".vmsilo-generator.{os.getpid()}").write_text("half")
    (tmp_path / LINK.name).symlink_to("elsewhere")
    output.write(str(tmp_path), [UNIT, LINK])
    assert (tmp_path / "a.service").read_text() == UNIT.text
    assert not list(tmp_path.rglob(".vmsilo*"))


def test_a_full_file_system_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes what there is room for, and then says so."""
    write = os.write
    room = 30

    def some(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", some)
    with pytest.raises(OutputError, match=r"b\.service: No space left on device"):
        output.write(str(tmp_path), [UNIT, File("b.service", "x" * 100), LINK])
    assert [path.name for path in tmp_path.iterdir()] == ["a.service"]
    assert (tmp_path / "a.service").read_text() == UNIT.text


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "x.target.wants").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="Not a directory"):
        output.write(str(tmp_path / "out"), [LINK])
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    output.write(str(tmp_path), [UNIT, LINK])
    with pytest.raises(OutputError):
        output.write(str(tmp_path / "missing"), [UNIT])
    assert len(os.listdir("/proc/self/fd")) == len(before)
