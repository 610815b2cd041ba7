"""The NixOS part: in step with the table of options, and well-formed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from project import ROOT

NIX_FILES = sorted((ROOT / "nixos").glob("*.nix"))


def test_options_json_is_what_the_table_says() -> None:
    tool = ROOT / "nixos" / "render-options"
    rendered = subprocess.run([tool], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    kept = (ROOT / "nixos" / "options.json").read_text(encoding="utf-8")
    assert kept == rendered, "run: nixos/render-options >nixos/options.json"


@pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="nix-instantiate (Debian: nix-bin) is not installed"
)
@pytest.mark.parametrize("path", NIX_FILES, ids=lambda path: path.name)
def test_nix_file_parses(path: Path) -> None:
    done = subprocess.run(
        ["nix-instantiate", "--parse", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
