"""What README promises is run."""

import re
from pathlib import Path

import pytest
from examples import by_file, check, of_markdown
from project import ROOT, files, launchers

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = by_file(of_markdown(README, "toml"))
BROKEN = "play.toml"


def test_the_good_files_are_good(tmp_path: Path) -> None:
    good = {name: text for name, text in SHOWN.items() if name != BROKEN}
    assert set(good) == {"host.toml", "work.toml", "browser.toml", "vpn.toml"}
    done = check(tmp_path, good)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_broken_file_fails_with_the_words_that_are_shown(tmp_path: Path) -> None:
    done = check(tmp_path, SHOWN)
    assert done.returncode == 1
    said = done.stdout.replace(str(tmp_path), "")
    shown = next(text for text in of_markdown(README, "text") if "--check" in text)
    assert shown == "$ vmsilo-generator --check\n" + said


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_pages_that_are_named_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = {f"{name}.{section}" for name, section in re.findall(r"`((?:vm|vsock)[a-z.-]*)\((\d)\)`", text)}
    assert named <= {page.name for page in (ROOT / "man").iterdir()}


def test_commands_that_are_shown_exist() -> None:
    shown = "".join(of_markdown(README, "sh"))
    used = set(re.findall(r"\b(vm-[a-z]+)\b", shown))
    assert used
    assert used <= {path.name for path in launchers()}


def test_paths_that_are_named_exist() -> None:
    """Of the tree, in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tracked = {str(path.relative_to(ROOT)) for path in files()}
    named = set(re.findall(r"`((?:vmsilo|generators|helpers|tests|units|nixos|man)/[\w./-]+)`", text))
    assert named
    assert [name for name in sorted(named) if name not in tracked and not (ROOT / name).exists()] == []
