"""Logs stay small while a guest prints without end, and nothing else is touched."""

import os
from pathlib import Path

import pytest

from launch.hosts import minimal_plan
from vm_launch import trim
from vmsilo import names, paths
from vmsilo.plan import Overlay, dumps


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    run_dir = Path(paths.vm_dir("demo"))
    run_dir.mkdir(parents=True)
    return run_dir / paths.CONSOLE_LOG


def allocated(file: Path) -> int:
    return file.stat().st_blocks * 512


def test_writers_and_readers_notice_nothing(log: Path) -> None:
    with log.open("wb", buffering=0) as writer, log.open("rb", buffering=0) as reader:
        for part in (b"a", b"b"):
            writer.write(part * (8 << 20))
            assert trim.trim() == 0
        size = 16 << 20
        assert log.stat().st_size == size
        assert trim.KEPT <= allocated(log) <= trim.KEPT + 8192
        reader.seek(size - trim.KEPT)
        assert reader.read() == b"b" * trim.KEPT
        writer.write(b"c")
        assert reader.read() == b"c"


def test_small_logs_are_let_be(log: Path) -> None:
    text = b"x" * (trim.KEPT + trim.KEPT // 2)
    log.write_bytes(text)
    trim.trim()
    assert log.read_bytes() == text


def large(file: Path) -> Path:
    file.write_bytes(b"x" * (4 << 20))
    return file


def hard_link(log: Path, other: Path) -> None:
    os.link(other, log)


def symbolic_link(log: Path, other: Path) -> None:
    log.symlink_to(other)


def linked_directory(log: Path, other: Path) -> None:
    log.parent.rmdir()
    (other.parent / "elsewhere").mkdir()
    other.rename(other.parent / "elsewhere/console.out")
    log.parent.symlink_to(other.parent / "elsewhere")


def somebody_elses(log: Path, other: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    other.rename(log)
    os.chown(log, 12345, 12345)


@pytest.mark.parametrize("trick", [hard_link, symbolic_link, linked_directory, somebody_elses])
def test_nothing_else_is_touched(
    log: Path, tmp_path: Path, trick: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a hypervisor that was taken over could put in place of its log."""
    other = large(tmp_path / "precious")
    trick(log, other)  # type: ignore[operator]
    assert trim.trim() == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert all(path.read_bytes() == b"x" * (4 << 20) for path in files)
    if trick is not linked_directory:
        assert "cannot trim the console of demo" in capsys.readouterr().err


def test_pipe_in_its_place(log: Path) -> None:
    """Does not wait for a writer."""
    os.mkfifo(log)
    assert trim.trim() == 0


def test_no_vm(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log.parent.rmdir()
    assert trim.trim() == 0
    monkeypatch.setattr(paths, "RUN", "/nonexistent")
    assert trim.trim() == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("overlay", "little", "said"), [("raw", 1 << 60, True), ("tmpfs", 1 << 60, False), ("raw", 0, False)]
)
def test_a_disposable_disk_that_cannot_grow(
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overlay: str,
    little: int,
    said: bool,  # noqa: FBT001
) -> None:
    log.touch()
    monkeypatch.setattr(paths, "STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "GENERATOR_DIR", str(tmp_path))
    monkeypatch.setattr(trim, "_LITTLE", little)
    (tmp_path / "state/demo").mkdir(parents=True)
    (tmp_path / names.plan_file("demo")).write_text(dumps(minimal_plan(overlay=Overlay(overlay, 1 << 30))))
    assert trim.trim() == 0
    expected = "<4>vm-launch: the disposable disk of VM demo can't grow: "
    assert capsys.readouterr().err.startswith(expected) == said
