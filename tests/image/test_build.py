"""Real bundles: the minimal guest, built twice from the archive. Needs root and the archive."""

import os
import subprocess
from pathlib import Path

import pytest
from project import ROOT

from vm_image import bundle

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.environ.get("VMSILO_SKIP_LAB") == "1", reason="VMSILO_SKIP_LAB=1"),
]


def build(directory: Path) -> Path:
    command = ("/usr/bin/python3", "-IS", ROOT / "helpers/vm-image/vm-image", "build", "debian", "--minimal")
    subprocess.run((*command, "--name=twin", f"--images-dir={directory}"), check=True)
    assert os.listdir(directory) == ["twin"]
    return directory / "twin"


def test_the_same_packages_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    manifest = bundle.loads((one / bundle.MANIFEST).read_text())
    assert manifest.variant == "minimal"
    assert (one / bundle.KERNEL).read_bytes()[:4] == b"\x7fELF"
    if bundle.loads((two / bundle.MANIFEST).read_text()).packages != manifest.packages:
        pytest.skip("the archive changed between the two builds")
    for name in bundle.FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
