"""The programs that building takes: found, run, and quoted when they fail."""

from pathlib import Path

import pytest

from vm_image import archive
from vmsilo.failure import Failure


def test_names_the_packages_of_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "TOOLS", {"sh": "dash", "no-such-tool": "its-package", "nor-this": "another"})
    with pytest.raises(Failure, match="apt install its-package another"):
        archive.require_tools()
    monkeypatch.setattr(archive, "TOOLS", {"sh": "dash"})
    archive.require_tools()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo I: fine; echo 'E: no such suite' >&2; echo I: cleaning up; exit 1", "E: no such suite"),
        ("echo one; echo; echo last; echo; exit 1", "last"),
    ],
)
def test_quotes_the_line_that_says_why(tmp_path: Path, script: str, reason: str) -> None:
    log = tmp_path / "log"
    archive.run_logged(["sh", "-c", "echo E: not of this command"], log, "unused")
    with pytest.raises(Failure) as caught:
        archive.run_logged(["sh", "-c", script], log, "it cannot be done")
    assert str(caught.value) == f"it cannot be done ({reason})"


def test_a_silent_failure_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        archive.run_logged(["false"], tmp_path / "log", "it cannot be done")
    assert str(caught.value) == "it cannot be done"


def test_no_locale_of_the_builder_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    archive.run_logged(["sh", "-c", "echo $LC_ALL $PYTHONHASHSEED"], tmp_path / "log", "unused")
    assert (tmp_path / "log").read_text() == "C.UTF-8 0\n"


def test_a_mirror_may_be_a_snapshot() -> None:
    assert "--aptopt=Acquire::Check-Valid-Until false" in archive.source_options(archive.Source("trixie", "http://m"))
    assert archive.source_options(archive.Source("trixie", "")) == []


def test_output_of_a_program_that_only_root_has_in_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """su without "-" keeps the user's PATH, where chroot is not."""
    monkeypatch.setenv("PATH", "/usr/bin")
    assert archive.output_of(("chroot", "--version"), "no").startswith("chroot ")
    with pytest.raises(Failure, match=r"no .*chroot --help"):
        archive.output_of(("chroot", "--nonsense"), "no")
