"""The console's files, and what of the guest's output is shown."""

import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_launch import console
from vsock_cmd import console as viewer
from vsock_cmd import shell


def test_fifo_stays_open(tmp_path: Path) -> None:
    """Viewers come and go; the reader sees no end, and an opening to read does not wait."""
    descriptor = console.make(str(tmp_path))
    with (tmp_path / "console.in").open("rb", buffering=0) as reader:
        for text in (b"one", b"two"):
            with (tmp_path / "console.in").open("wb") as writer:
                writer.write(text)
            assert reader.read(10) == text
    os.close(descriptor)
    for name in ("console.in", "console.out"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_terminal_passes_bytes_as_they_are(tmp_path: Path) -> None:
    """Viewers write to the link; the hypervisor reads, whatever the bytes are, and viewers may go."""
    reader, line = console.make_terminal(str(tmp_path))
    everything = bytes(range(256))
    for _ in range(2):
        with (tmp_path / "console.in").open("wb", buffering=0) as writer:
            writer.write(everything)
        assert os.read(reader, 1000) == everything
    assert os.isatty(reader)
    os.close(line)
    os.close(reader)


def test_viewers_get_the_terminal(tmp_path: Path) -> None:
    reader, line = console.make_terminal(str(tmp_path))
    keyboard = viewer._open_keyboard(str(tmp_path / "console.in"))
    assert shell._is_keyboard(os.fstat(keyboard))
    os.write(keyboard, b"typed\r\x03")
    assert os.read(reader, 100) == b"typed\r\x03"
    for descriptor in (keyboard, line, reader):
        os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        viewer._open_keyboard(str(tmp_path / "console.in"))


@pytest.mark.parametrize("target", ["/dev/null", "/dev/tty", "12", "/dev/pts/ptmx", "/dev/pts/../null", "/dev/pts/"])
def test_viewers_get_no_other_device(tmp_path: Path, target: str) -> None:
    (tmp_path / "console.in").symlink_to(target)
    with pytest.raises(OSError, match="not what it should be"):
        viewer._open_keyboard(str(tmp_path / "console.in"))


def test_only_terminals_and_fifos_are_keyboards() -> None:
    with open("/dev/null", "wb") as null, socket.socket() as other:
        assert not shell._is_keyboard(os.fstat(null.fileno()))
        assert not shell._is_keyboard(os.fstat(other.fileno()))


def test_nothing_left_of_an_earlier_start(tmp_path: Path) -> None:
    """Neither its log, nor what somebody put in place of one."""
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "console.out").symlink_to(precious)
    (tmp_path / "console.in").write_text("old")
    os.close(console.make(str(tmp_path)))
    assert (tmp_path / "console.out").read_bytes() == b""
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (b"", []),
        (b"\r\n\r\n", [""]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"\n".join(b"%d" % number for number in range(100)), [str(number) for number in range(80, 100)]),
        (b"\x1b[31mred\x07\t\x9b0m", [r"\x1b[31mred\x07\t\x9b0m"]),
        ("grün \u202e\u200b \U0001f427".encode(), ["grün \\u202e\\u200b \U0001f427"]),
        (b"x" * 100_000, ["x" * 200 + "..."]),
    ],
)
def test_last_lines(tmp_path: Path, log: bytes, shown: list[str]) -> None:
    (tmp_path / "console.out").write_bytes(log)
    assert console.last_lines(str(tmp_path)) == shown


def test_no_log(tmp_path: Path) -> None:
    assert console.last_lines(str(tmp_path)) == []


@given(st.binary(max_size=2000))
def test_visible_is_harmless(line: bytes) -> None:
    shown = console.visible(line)
    assert all(character.isprintable() for character in shown)
    assert len(shown) <= 203


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=200))
def test_visible_keeps_plain_text(line: str) -> None:
    assert console.visible(line.encode()) == line
