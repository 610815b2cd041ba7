"""Finding files: real directories, links, FIFOs and bytes."""

import os
from pathlib import Path

import pytest

from vmsilo_generator import check, problems, source
from vmsilo_generator.source import ConfigFile


@pytest.fixture
def dirs(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("etc", "run", "lib")]
    for directory in made:
        directory.mkdir()
    return made


def find(dirs: list[Path]) -> list[ConfigFile]:
    return source.find([str(directory) for directory in dirs])


def test_nothing(dirs: list[Path]) -> None:
    assert find(dirs) == []
    assert source.find(["/nonexistent/vmsilo.d"]) == []


def test_the_first_directory_counts(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").write_text("cpus = 1")
    (dirs[2] / "a.toml").write_text("cpus = 3")
    (dirs[2] / "b.toml").write_text("cpus = 4")
    assert find(dirs) == [
        ConfigFile("a", str(dirs[0] / "a.toml"), "cpus = 1"),
        ConfigFile("b", str(dirs[2] / "b.toml"), "cpus = 4"),
    ]


def test_a_link_to_dev_null_removes(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").symlink_to("/dev/null")
    (dirs[2] / "a.toml").write_text("")
    assert find(dirs) == []


def test_an_empty_file_is_a_file(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").write_text("")
    assert [file.name for file in find(dirs)] == ["a"]


def test_other_names_are_none_of_ours(dirs: list[Path]) -> None:
    for name in ("README", ".a.toml", "a.toml~", "a.toml.bak", "toml", ".toml", "a.TOML"):
        (dirs[0] / name).write_text("")
    assert find(dirs) == []


def test_order_does_not_depend_on_the_directory(dirs: list[Path]) -> None:
    for name in ("c", "a", "b"):
        (dirs[0] / f"{name}.toml").write_text("")
    assert [file.name for file in find(dirs)] == ["a", "b", "c"]


def test_what_is_no_file_is_a_fault_and_never_a_wait(dirs: list[Path]) -> None:
    os.mkfifo(dirs[0] / "fifo.toml")
    (dirs[0] / "directory.toml").mkdir()
    (dirs[0] / "dangling.toml").symlink_to("nowhere")
    (dirs[0] / "device.toml").symlink_to("/dev/zero")
    (dirs[0] / "loop.toml").symlink_to("loop.toml")
    faults = {file.name: file.fault for file in find(dirs)}
    assert faults["fifo"] == faults["directory"] == faults["device"]
    assert faults["fifo"].startswith("not a file: expected a regular file")
    assert faults["dangling"] == "can't read this file: No such file or directory"
    assert faults["loop"].startswith("can't read this file: ")


def test_too_large(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").write_text("#" * source.SIZE_MAX)
    (dirs[0] / "b.toml").write_text("#" * (source.SIZE_MAX + 1))
    a, b = find(dirs)
    assert (a.fault, len(a.text)) == ("", source.SIZE_MAX)
    assert b.fault.startswith("too large: expected at most")


def test_not_utf8(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").write_bytes('# ü\nimage = "é'.encode() + b'\xff"\n')
    (file,) = find(dirs)
    assert (file.line, file.column) == (2, 11)
    config = check.load([file], "")
    (message,) = (problems.render(problem) for problem in config.problems if problem.line)
    assert message.split("\n") == [
        f"{file.path}:2:11: byte 0xff is not UTF-8: save the file as UTF-8 text",
        '    image = "é\\xff"',
        "              ^",
    ]
    assert [broken.name for broken in config.broken] == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(dirs: list[Path]) -> None:
    (dirs[0] / "a.toml").write_text("")
    (dirs[0] / "a.toml").chmod(0)
    assert [file.fault for file in find(dirs)] == ["can't read this file: Permission denied"]


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (fault,) = source.find([str(tmp_path / "file")])
    assert fault.fault == "can't list this directory: Not a directory"
    config = check.load([fault], "")
    assert [problem.message for problem in config.problems] == [fault.fault]


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"a\x1b[1m"])
def test_a_path_that_no_unit_can_name(tmp_path: Path, name: bytes) -> None:
    directory = tmp_path / os.fsdecode(name)
    directory.mkdir()
    for file in ("host.toml", "a.toml"):
        (directory / file).write_text("")
    (tmp_path / os.fsdecode(name + b".toml")).write_text("")
    found = find([directory, tmp_path])
    config = check.load(found, "")
    assert (config.vms, config.broken) == ((), ())
    assert len(config.problems) == len(found) == 3
    assert all("a unit can't name this file" in problem.message for problem in config.problems)
    assert all(problems.render(problem).isprintable() for problem in config.problems)


def test_directories() -> None:
    assert source.directories() == ("/etc/vmsilo.d", "/run/vmsilo.d", "/usr/lib/vmsilo.d")
    assert source.directories("/root/") == ("/root/etc/vmsilo.d", "/root/run/vmsilo.d", "/root/usr/lib/vmsilo.d")
    assert source.directories(environment="/a::/b") == ("/a", "/b")
    assert source.directories("b", "a:/c") == (f"{os.getcwd()}/a", "/c")
    assert source.directories("b")[0] == f"{os.getcwd()}/b/etc/vmsilo.d"


def test_passwd(tmp_path: Path) -> None:
    assert source.passwd(str(tmp_path)) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_bytes(b"a:x:1:1:\xff::\n")
    assert source.passwd(str(tmp_path)).startswith("a:x:1:1:")
