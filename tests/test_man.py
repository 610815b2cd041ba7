"""Every command, option and unit has its page, and the pages are right."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from examples import GENERATOR, HOST, by_file, check, of_mdoc
from project import ROOT, launchers

from vmsilo_generator.options import OPTIONS

PAGES = sorted((ROOT / "man").glob("*.[1-8]"))
NAMES = {page.name for page in PAGES}

# In the guest, and never typed: vmsilo-cmd(7) and vmsilo-image(5) are what they speak.
WITHOUT_PAGE = {"agent", "guest-network"}

# Where another program has a page of the command's name: net(8) is Samba's.
PAGE_NAMES = {"net": "vmsilo-net"}

each_command = pytest.mark.parametrize(
    "launcher", [path for path in launchers() if path.name not in WITHOUT_PAGE], ids=lambda path: path.name
)
needs_mandoc = pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")


def rendered(page: Path) -> str:
    """The page as a reader sees it, on one very wide line per paragraph."""
    text = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=1000", str(page)],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout
    return re.sub(r".\x08", "", text)


def page_of(command: str) -> Path:
    return next(page for page in PAGES if page.stem == PAGE_NAMES.get(command, command))


@each_command
def test_command_has_its_page(launcher: Path) -> None:
    assert page_of(launcher.name).suffix in (".1", ".8")


@needs_mandoc
def test_option_has_its_entry() -> None:
    text = rendered(ROOT / "man/vmsilo.toml.5")
    paths = [option.path for option in OPTIONS]
    assert [path for path in paths if not re.search(rf"(?<![\w.]){re.escape(path)}(?![\w.<-])", text)] == []


def emitted_units(root: Path) -> set[str]:
    """Names of the unit files of one VM per hypervisor, each with all there is, ``name`` in the VM's place."""
    files = {
        f"{hypervisor}.toml": f'hypervisor = "{kind}"\nsharedDirectories.tag.path = "/srv"\n'
        for hypervisor, kind in [("a", "qemu"), ("b", "cloud-hypervisor"), ("c", "crosvm")]
    }
    files["c.toml"] += 'pciDevices = [{ path = "01:00.0" }]\n'
    files["host.toml"] = HOST["host.toml"] + 'isolatedPciDevices = ["01:00.0"]\n'
    (root / "etc/vmsilo.d").mkdir(parents=True)
    (root / "etc/passwd").write_text("alice:x:1000:1000::/home/alice:/bin/sh\n")
    for name, text in files.items():
        (root / "etc/vmsilo.d" / name).write_text(text)
    places = [str(root / place) for place in ("normal", "early", "late")]
    for place in places:
        Path(place).mkdir()
    environment = {"PATH": os.defpath, "VMSILO_CONFIG_DIRS": str(root / "etc/vmsilo.d")}
    command = [str(GENERATOR), "--root", str(root), *places]
    subprocess.run(command, check=True, env=environment)
    found = {
        path.name
        for path in (root / "normal").iterdir()
        if path.is_file() and path.suffix not in (".network", ".plan")
    }
    found = {unit.replace("-virtiofs-home.", "-virtiofs-tag.") for unit in found}  # the home is a share like others
    return {re.sub(r"^vmsilo-[abc]\b", "vmsilo-name", unit) for unit in found}


@needs_mandoc
def test_unit_has_its_section(tmp_path: Path) -> None:
    static = {path.name for path in (ROOT / "units").glob("*.*")}
    sections = re.findall(r"^\.Ss (.+)$", (ROOT / "man/vmsilo-units.7").read_text(), re.MULTILINE)
    described = {section.replace(" Ns ", "").replace("Ar ", "").replace(" ", "") for section in sections}
    emitted = emitted_units(tmp_path)
    assert len(emitted) >= 7
    assert described == emitted | static | {"vmsilo-name-net.service"}
    overview = rendered(ROOT / "man/vmsilo.7")
    assert [unit for unit in sorted(emitted) if unit not in overview] == []


@needs_mandoc
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lint(page: Path) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_what_its_name_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    title, section = re.findall(r"^\.Dt (\S+) (\d)$", text, re.MULTILINE)[0]
    assert (title, section) == (page.stem.upper(), page.suffix[1:])
    assert re.search(r"^\.Nd \S", text, re.MULTILINE)


def references(page: Path) -> set[str]:
    return {f"{name}.{section}" for name, section in re.findall(r"\bXr (\S+) (\d)", page.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_references_to_our_pages_lead_somewhere(page: Path) -> None:
    ours = {name for name in references(page) if name.startswith(("vm-", "vmsilo", "vsock-cmd"))}
    assert ours <= NAMES
    assert page.name not in ours


def test_every_page_is_found_from_the_overview() -> None:
    assert NAMES - {"vmsilo.7"} <= references(ROOT / "man/vmsilo.7")


def flags_in_help(launcher: Path) -> set[str]:
    done = subprocess.run(
        [str(launcher), "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout)) - {"--help", "--version"}


@each_command
def test_flags_of_the_program_and_of_its_page_agree(launcher: Path) -> None:
    text = page_of(launcher.name).read_text(encoding="utf-8").replace("\\-", "-")
    items = re.findall(r"^\.It Fl .*$", text, re.MULTILINE)
    documented = {f"-{flag}" for item in items for flag in re.findall(r"Fl (-[a-z][a-z-]+)", item)}
    assert flags_in_help(launcher) == documented - {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configuration_that_is_shown_is_accepted(page: Path, tmp_path: Path) -> None:
    shown = by_file(of_mdoc(page.read_text(encoding="utf-8")))
    done = check(tmp_path, {**HOST, **shown})
    assert (done.stdout, done.returncode) == ("", 0)


def test_some_page_shows_configuration() -> None:
    assert of_mdoc((ROOT / "man/vmsilo.7").read_text(encoding="utf-8"))
