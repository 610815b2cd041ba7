"""The command, run as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from image.test_bundle import make_bundle

COMMAND = (sys.executable, "-IS", str(ROOT / "helpers/vm-image/vm-image"))


def vm_image(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*COMMAND, *map(str, arguments)), capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("bake",), "invalid choice: 'bake'"),
        (("build",), "required: os"),
        (("build", "fedora"), "invalid choice: 'fedora'"),
        (("remove",), "required: name"),
        (("list", "--yaml"), "unrecognized arguments: --yaml"),
    ],
)
def test_usage(arguments: tuple[str, ...], message: str) -> None:
    result = vm_image(*arguments)
    assert result.returncode == 64
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("vm-image: ")
    assert result.stderr.count("\n") == 1


def test_lists_for_people_and_programs(tmp_path: Path) -> None:
    make_bundle(tmp_path, "work")
    (tmp_path / "bad").mkdir()
    result = vm_image("list", "--images-dir", tmp_path)
    assert result.returncode == 0
    head, bad, work = result.stdout.splitlines()
    assert head.split() == ["IMAGE", "SYSTEM", "KERNEL", "DATE", "SIZE", "VMS"]
    assert bad.split() == ["bad", "?", "?", "?", "0M"]
    assert work.split() == ["work", "debian", "trixie", "6.12.1-amd64", "2026-11-08", "0M"]
    assert result.stderr == "vm-image: bad: no image.toml\n"
    found = json.loads(vm_image("list", "--json", "--images-dir", tmp_path).stdout)
    assert [image["name"] for image in found] == ["bad", "work"]
    assert found[0]["manifest"] is None
    assert found[1]["manifest"]["packages"] == ["bash_5.2.37-2", "zstd_1:1.5.7"]


def test_an_empty_list_is_no_output(tmp_path: Path) -> None:
    result = vm_image("list", "--images-dir", tmp_path / "none")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_removes(tmp_path: Path) -> None:
    make_bundle(tmp_path, "one")
    make_bundle(tmp_path, "two")
    assert vm_image("remove", "one", "two", "--images-dir", tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []
    result = vm_image("remove", "one", "--images-dir", tmp_path)
    assert result.returncode == 66
    assert "there is no image one" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root builds, and only root can be somebody else")
def test_only_root_builds(tmp_path: Path) -> None:
    # The launcher is read before the user changes: the checkout may be out of another user's reach.
    program = (
        f"import os, sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'helpers/vm-image')!r}]\n"
        "from vm_image.main import main; from vm_image import build\n"
        f"os.setuid(65534); sys.argv[1:] = ['build', 'debian', '--images-dir', {str(tmp_path)!r}]; sys.exit(main())"
    )
    result = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=False)
    assert result.returncode == 77
    assert "only root can build an image" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root builds")
def test_a_bad_name_is_refused_before_anything_happens(tmp_path: Path) -> None:
    result = vm_image("build", "debian", "--images-dir", tmp_path / "images", "--name", "Bad")
    assert result.returncode == 64
    assert "'Bad' is not a name for an image" in result.stderr
    assert not (tmp_path / "images").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root builds")
def test_minimal_takes_no_packages(tmp_path: Path) -> None:
    result = vm_image("build", "debian", "--minimal", "--packages", "vim", "--images-dir", tmp_path)
    assert result.returncode == 64
    assert "--packages does not go with --minimal" in result.stderr
