"""Real bundles: the minimal guest, built twice from the archive. Needs root and the archive."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from project import ROOT

from vm_image import bundle
from vmsilo import paths

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.environ.get("VMSILO_SKIP_LAB") == "1", reason="VMSILO_SKIP_LAB=1"),
]


def checkout(directory: Path) -> Path:
    """A copy of what makes an image, which nobody edits between two builds."""
    for name in (
        "helpers/vm-image",
        "helpers/vsock-cmd",
        "helpers/guest-network",
        "helpers/name-rules",
        "units/guest",
        "vmsilo",
    ):
        shutil.copytree(ROOT / name, directory / name, symlinks=True)
    return directory


def build(source: Path, directory: Path, *, umask: int) -> Path:
    command = ("/usr/bin/python3", "-IS", source / "helpers/vm-image/vm-image", "build", "debian", "--minimal")
    subprocess.run((*command, "--name=twin", f"--images-dir={directory}"), check=True, umask=umask)
    assert os.listdir(directory) == ["twin"]
    return directory / "twin"


def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    source = checkout(tmp_path / "checkout")
    one = build(source, tmp_path / "one", umask=0o022)
    two = build(source, tmp_path / "two", umask=0o077)
    manifest = bundle.loads((one / paths.BUNDLE_MANIFEST).read_text())
    assert manifest.variant == "minimal"
    assert (one / paths.BUNDLE_KERNEL).read_bytes()[:4] == b"\x7fELF"
    if bundle.loads((two / paths.BUNDLE_MANIFEST).read_text()).packages != manifest.packages:
        pytest.skip("the archive changed between the two builds")
    for name in bundle.FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
