"""The tree under test: where it is, and what is in it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Of a tree without git, such as a released archive.
_LEFT_OUT = {".git", "__pycache__", "build", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


def files() -> list[Path]:
    """Every file that belongs to the project, sorted."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, stdout=subprocess.PIPE, encoding="utf-8"
        ).stdout
        found = [ROOT / name for name in listed.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _LEFT_OUT.intersection(path.relative_to(ROOT).parts)]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def launchers() -> list[Path]:
    """The executables of generators/ and helpers/: each stands beside its package and has no suffix."""
    places = [ROOT / "generators", *sorted((ROOT / "helpers").glob("*"))]
    return [
        path
        for place in places
        for path in sorted(place.glob("*"))
        if path.is_file() and not path.suffix and path.read_bytes()[:2] == b"#!"
    ]


def tool(name: str) -> str | None:
    """The program *name*, preferably of the environment that runs the tests."""
    beside_python = Path(sys.executable).parent / name
    return str(beside_python) if beside_python.exists() else shutil.which(name)
