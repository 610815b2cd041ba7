"""`make install` and `make uninstall`, and that what was installed runs by itself."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from examples import HOST
from project import ROOT, launchers

PYTHON = "/usr/bin/python3"
QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(target: str, **variables: str) -> None:
    settings = [f"{name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT), target, *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout


def below(top: Path) -> set[str]:
    """Files under *top*, by the path they will have."""
    return {f"/{path.relative_to(top)}" for path in top.rglob("*") if not path.is_dir()}


def run(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd="/",
        env={**QUIET, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a packager sees: files for /usr in a directory of their own."""
    top = tmp_path_factory.mktemp("staged")
    make("install", DESTDIR=str(top), prefix="/usr", python=PYTHON)
    return top


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed to be used where it is, with directories that nobody would guess."""
    top = tmp_path_factory.mktemp("elsewhere")
    make("install", **elsewhere_variables(top))
    return top


def elsewhere_variables(top: Path) -> dict[str, str]:
    return {
        "prefix": str(top),
        "libexecdir": str(top / "lib/programs"),
        "pkgdir": str(top / "share/modules"),
        "python": PYTHON,
    }


def test_files_are_where_the_system_looks(staged: Path) -> None:
    there = below(staged)
    assert there >= {
        "/usr/bin/vm-run",
        "/usr/bin/vm-start",
        "/usr/bin/vm-stop",
        "/usr/bin/vm-shell",
        "/usr/bin/vm-list",
        "/usr/bin/vm-net",
        "/usr/bin/vm-image",
        "/usr/bin/vm-pci",
        "/usr/libexec/vmsilo/net",
        "/usr/libexec/vmsilo/vm-home",
        "/usr/libexec/vmsilo/sandbox",
        "/usr/libexec/vmsilo/vm-launch",
        "/usr/libexec/vmsilo/vm-pci",
        "/usr/libexec/vmsilo/vsock-cmd",
        "/usr/lib/systemd/system-generators/vmsilo-generator",
        "/usr/lib/vmsilo/vmsilo/names.py",
        "/usr/lib/systemd/network/05-vmsilo.link",
        "/usr/lib/systemd/network/05-vmsilo.network",
        "/usr/lib/systemd/network/06-vmsilo.network",
        "/usr/lib/udev/rules.d/70-vmsilo.rules",
        "/usr/lib/NetworkManager/conf.d/vmsilo.conf",
        "/usr/lib/vmsilo/guest/agent",
        "/usr/lib/vmsilo/seccomp/base.conf",
        "/usr/share/man/man7/vmsilo.7",
        "/usr/share/vmsilo/home-template/.profile",
    }
    assert {path for path in there if not path.startswith("/usr/")} == set()


def test_every_launcher_is_installed_but_the_guest_s(staged: Path) -> None:
    places = ("/usr/bin/", "/usr/libexec/vmsilo/", "/usr/lib/systemd/system-generators/")
    names = {path.rpartition("/")[2] for path in below(staged) if path.startswith(places)}
    assert names == {path.name for path in launchers()} - {"agent", "guest-network"}


def test_every_module_comes_compiled(staged: Path) -> None:
    package = staged / "usr/lib/vmsilo"
    modules = {path for path in package.rglob("*.py") if "guest" not in path.relative_to(package).parts}
    assert modules
    tag = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.implementation.cache_tag)"],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout.strip()
    assert [
        str(path) for path in modules if not (path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc").exists()
    ] == []


def test_nothing_remembers_where_it_was_staged(staged: Path) -> None:
    traces = [str(staged).encode(), str(ROOT).encode()]
    files = [path for path in staged.rglob("*") if path.is_file()]
    assert [str(path) for path in files for trace in traces if trace in path.read_bytes()] == []


def test_modes(staged: Path) -> None:
    for path in staged.rglob("*"):
        mode = path.stat().st_mode & 0o777
        program = path.is_dir() or path.read_bytes().startswith(b"#!")
        assert mode == (0o755 if program else 0o644), path


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    """As a user who may write nowhere but into DESTDIR."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root, to become somebody else")
    staging = tmp_path / "dest"
    staging.mkdir()
    os.chown(staging, 65534, 65534)
    for directory in [tmp_path, *tmp_path.parents[:2]]:
        directory.chmod(0o755)
    checkout = tmp_path / "checkout"
    leave_out = shutil.ignore_patterns(".git", "build", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, checkout, ignore=leave_out, symlinks=True)
    done = run(
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *("make", "-s", "-C", str(checkout), "install", f"DESTDIR={staging}", "prefix=/usr", f"python={PYTHON}"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "/usr/bin/vm-run" in below(staging)


def test_uninstall_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/vm-run-of-somebody-else").write_text("")
    make("install", DESTDIR=str(tmp_path), prefix="/usr", python=PYTHON)
    make("uninstall", DESTDIR=str(tmp_path), prefix="/usr", python=PYTHON)
    assert below(tmp_path) == {"/usr/bin/vm-run-of-somebody-else"}


def programs(top: Path) -> list[Path]:
    places = [top / "bin", top / "lib/programs/vmsilo", top / "lib/systemd/system-generators"]
    return sorted(path for place in places for path in place.iterdir())


def test_launchers_find_their_modules_and_nothing_else(elsewhere: Path) -> None:
    assert {program.name for program in programs(elsewhere)} == {path.name for path in launchers()} - {
        "agent",
        "guest-network",
    }
    for program in programs(elsewhere):
        lines = program.read_text().splitlines()
        assert re.fullmatch(rf"#!{PYTHON} -I[S]?", lines[0])
        assert lines[2] == f'sys.path.insert(0, "{elsewhere}/share/modules")'


def test_every_program_says_how_it_is_used(elsewhere: Path) -> None:
    for program in programs(elsewhere):
        done = run(str(program), "--help")
        assert (done.returncode, done.stderr) == (0, ""), program
        assert program.name in done.stdout


def config(where: Path) -> Path:
    where.mkdir()
    user = subprocess.run(["id", "-un", "65534"], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()
    (where / "host.toml").write_text(HOST["host.toml"].replace("alice", user))
    (where / "work.toml").write_text('hypervisor = "qemu"\n')
    return where


def test_installed_generator(elsewhere: Path, tmp_path: Path) -> None:
    """It runs, needs nothing compiled anew, and its units name the helpers of the same installation."""
    generator = str(elsewhere / "lib/systemd/system-generators/vmsilo-generator")
    directory = str(config(tmp_path / "vmsilo.d"))
    compiled = {path: path.stat().st_mtime_ns for path in (elsewhere / "share/modules").rglob("*.pyc")}
    done = run(generator, "--check", VMSILO_CONFIG_DIRS=directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / "units").mkdir()
    done = run(generator, *[str(tmp_path / "units")] * 3, VMSILO_CONFIG_DIRS=directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    services = [path for path in (tmp_path / "units").glob("*.service") if path.is_file()]
    text = "".join(path.read_text() for path in services)
    helpers = {path for path in re.findall(r"^Exec\w+=(/\S+)", text, re.MULTILINE) if "/vmsilo/" in path}
    assert {path.rpartition("/")[2] for path in helpers} == {"vm-home", "vm-launch", "vsock-cmd"}
    assert {path.rpartition("/")[0] for path in helpers} == {str(elsewhere / "lib/programs/vmsilo")}
    assert all(os.access(path, os.X_OK) for path in helpers)
    assert {path: path.stat().st_mtime_ns for path in (elsewhere / "share/modules").rglob("*.pyc")} == compiled
