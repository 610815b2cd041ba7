"""The root file system: same tree, same bytes."""

import os
import shutil
from pathlib import Path

import pytest

from vm_image import erofs
from vmsilo.failure import Failure

pytestmark = pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="no mkfs.erofs here")


def make_tree(tree: Path, names: list[str], time: int) -> None:
    for name in names:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name * 500)
        os.utime(path, (time, time))
    (tree / "link").symlink_to("a/b")
    os.link(tree / names[0], tree / "hard")


def test_order_and_times_of_files_do_not_matter(tmp_path: Path) -> None:
    names = ["a/b", "a/c/d", "z", "e/f/g", *(f"many/{number}" for number in range(200))]
    make_tree(tmp_path / "one", names, 1_000_000_000)
    make_tree(tmp_path / "two", [names[0], *names[:0:-1]], 1_500_000_000)
    for name in ("one", "two"):
        erofs.make(tmp_path / name, tmp_path / f"{name}.erofs", 1_700_000_000, tmp_path / "log")
    image = (tmp_path / "one.erofs").read_bytes()
    assert image == (tmp_path / "two.erofs").read_bytes()
    assert image[1024:1028] == b"\xe2\xe1\xf5\xe0"  # the superblock's magic


def test_a_change_changes_it(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", ["a/b"], 1_000_000_000)
    erofs.make(tmp_path / "tree", tmp_path / "one", 1, tmp_path / "log")
    (tmp_path / "tree/a/b").write_text("else")
    erofs.make(tmp_path / "tree", tmp_path / "two", 1, tmp_path / "log")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_a_failure_says_why(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"mkfs\.erofs cannot make the root file system \(.+\)"):
        erofs.make(tmp_path / "nothing", tmp_path / "image", 1, tmp_path / "log")
