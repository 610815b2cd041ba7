"""What is done to a guest's tree, on trees of a few files."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from project import ROOT

from vm_image import full, guest, initramfs, minimal
from vmsilo.failure import Failure


def test_the_launcher_finds_its_modules_in_the_guest() -> None:
    launcher = (ROOT / "helpers/vsock-cmd/agent").read_text()
    lines = guest.guest_launcher(launcher).splitlines()
    assert lines[0] == "#!/usr/bin/python3 -IS"
    assert lines[2] == 'sys.path.insert(0, "/usr/lib/vmsilo")'
    assert lines[3:] == launcher.splitlines()[3:]
    assert guest.guest_launcher(launcher.replace("/usr/bin/python3", "/opt/python 3")).splitlines()[3:] == lines[3:]


def test_the_agent_is_all_there(tmp_path: Path) -> None:
    guest.install_programs(tmp_path, guest.Sources(), minimal.PROGRAMS)
    assert os.listdir(tmp_path / guest.PROGRAMS_DIR) == ["agent"]
    assert os.access(tmp_path / guest.PROGRAMS_DIR / "agent", os.X_OK)
    for name in ("vmsilo/__init__.py", "vmsilo/ports.py", "vsock_cmd/agent.py", "vsock_cmd/session.py"):
        assert (tmp_path / guest.PACKAGES_DIR / name).is_file()


@pytest.mark.parametrize("program", full.PROGRAMS, ids=lambda program: program.name)
def test_programs_of_the_full_guest_run_from_there(program: guest.Program, tmp_path: Path) -> None:
    guest.install_programs(tmp_path, guest.Sources(), full.PROGRAMS)
    launcher = tmp_path / guest.PROGRAMS_DIR / program.name
    launcher.write_text(launcher.read_text().replace('"/usr/lib/vmsilo"', f'"{tmp_path}/usr/lib/vmsilo"'))
    done = subprocess.run([launcher, "--help"], capture_output=True, encoding="utf-8")
    assert f"usage: {program.name}" in done.stdout + done.stderr


def test_files_get_the_modes_of_a_package(tmp_path: Path) -> None:
    source, tree = tmp_path / "source", tmp_path / "tree"
    (source / "etc").mkdir(parents=True)
    (source / "etc/rc").write_text("run")
    (source / "etc/rc").chmod(0o700)
    (source / "etc/conf").write_text("new")
    (source / "etc/conf").chmod(0o600)
    (source / "etc/link").symlink_to("conf")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/conf").write_text("old")
    (tree / "etc/link").symlink_to("elsewhere")
    for _ in range(2):
        guest.install_files(tree, source)
    assert stat.S_IMODE((tree / "etc/rc").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree / "etc/conf").stat().st_mode) == 0o644
    assert (tree / "etc/link").read_text() == "new"


def test_files_do_not_follow_a_link_out_of_the_tree(tmp_path: Path) -> None:
    source, tree, host = tmp_path / "source", tmp_path / "tree", tmp_path / "host"
    for directory in (source, tree):
        (directory / "etc").mkdir(parents=True)
    (source / "etc/conf").write_text("new")
    host.write_text("host's")
    (tree / "etc/conf").symlink_to(host)
    guest.install_files(tree, source)
    assert host.read_text() == "host's"
    assert (tree / "etc/conf").read_text() == "new"


def test_removes_what_matches_and_links_to_nowhere(tmp_path: Path) -> None:
    for name in ("var/log/a/b", "usr/keep", "usr/games/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling").symlink_to("/nowhere")
    (tmp_path / "dir").symlink_to("usr")
    guest.remove(tmp_path, ("var/*", "dangling", "dir", "usr/games", "not/there", "usr/none*"))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["usr", "usr/keep", "var"]


def test_empties_and_keeps_the_mode(tmp_path: Path) -> None:
    (tmp_path / "tmp/left").mkdir(parents=True)
    (tmp_path / "tmp").chmod(0o1777)
    guest.empty(tmp_path, ("tmp", "run"))
    assert os.listdir(tmp_path / "tmp") == []
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o1777
    assert (tmp_path / "run").is_dir()


def test_the_epoch_is_the_newest_package_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for package, changed in (("a", 1000), ("b", 3000), ("c", 2000)):
        changelog = tmp_path / "usr/share/doc" / package / "changelog.Debian.gz"
        changelog.parent.mkdir(parents=True)
        changelog.touch()
        os.utime(changelog, (changed, changed))
    assert guest.newest_change(tmp_path) == 3000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "77")
    assert guest.newest_change(tmp_path) == 77
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(Failure, match="seconds since 1970"):
        guest.newest_change(tmp_path)


@pytest.mark.parametrize(("version", "good"), [("252", False), ("254", True), ("257", True), ("", False)])
def test_an_old_systemd_is_refused(tmp_path: Path, version: str, good: bool) -> None:  # noqa: FBT001
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu/systemd"
    libraries.mkdir(parents=True)
    if version:
        (libraries / f"libsystemd-shared-{version}.so").touch()
    if good:
        full.require_systemd(tmp_path)
    else:
        with pytest.raises(Failure, match="too old"):
            full.require_systemd(tmp_path)


def test_reads_links_as_the_guest_would(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/real").write_bytes(b"here")
    (tmp_path / "usr/absolute").symlink_to("/usr/lib/real")
    (tmp_path / "usr/relative").symlink_to("lib/real")
    (tmp_path / "usr/loop").symlink_to("loop")
    assert initramfs.read(tmp_path, "/usr/absolute") == b"here"
    assert initramfs.read(tmp_path, "usr/relative") == b"here"
    (tmp_path / "usr/outside").symlink_to("../../../../usr/lib/real")
    assert initramfs.read(tmp_path, "usr/outside") == b"here"
    with pytest.raises(Failure, match="link to itself"):
        initramfs.read(tmp_path, "usr/loop")
