"""What makes a tree of packages a guest: our files in it, and nothing of the machine that built it."""

import os
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

from vm_image.archive import run_logged
from vmsilo.failure import EX_SOFTWARE, EX_USAGE, Failure

# In the guest:
PACKAGES_DIR = "usr/lib/vmsilo"
PROGRAMS_DIR = "usr/libexec/vmsilo"
UNITS_DIR = "usr/lib/systemd/system"


class Program(NamedTuple):
    """A program of ours that runs in guests."""

    name: str  # of its launcher
    package: str  # the Python package with all that is in it
    folder: str  # of a checkout's helpers


AGENT = Program("agent", "vsock_cmd", "vsock-cmd")
NETWORK = Program("guest-network", "guest_network", "guest-network")
NAME_RULES = Program("name-rules", "name_rules", "name-rules")
PROGRAMS = (AGENT, NETWORK, NAME_RULES)

COMMON = "vmsilo"  # the package that all of them use


class Sources:
    """Where our own files for the guest are: in a checkout, or where `make install` put them."""

    def __init__(self) -> None:
        base = Path(__file__).resolve().parent.parent  # pkgdir, or helpers/vm-image
        checkout = base.parent.parent
        installed = base / "guest"
        if installed.is_dir():
            self.files = installed
            self._launchers = {program: installed / program.name for program in PROGRAMS}
            self._packages = {name: base / name for name in (COMMON, *(program.package for program in PROGRAMS))}
        else:
            self.files = checkout / "units/guest"
            helpers = {program: checkout / "helpers" / program.folder for program in PROGRAMS}
            self._launchers = {program: folder / program.name for program, folder in helpers.items()}
            self._packages = {program.package: folder / program.package for program, folder in helpers.items()}
            self._packages[COMMON] = checkout / COMMON
        needed = (self.files, *self._launchers.values(), *self._packages.values())
        missing = [path for path in needed if not path.exists()]
        if missing:
            raise Failure(f"{missing[0]} is missing", "is the installation complete?", EX_SOFTWARE)

    def launcher(self, program: Program) -> str:
        return self._launchers[program].read_text()

    def modules(self, package: str) -> list[Path]:
        """The Python files of COMMON, or of a program's package."""
        return sorted(self._packages[package].glob("*.py"))


def install_programs(tree: Path, sources: Sources, programs: tuple[Program, ...]) -> None:
    """Put the launchers of *programs* and their packages into *tree*."""
    for package in (COMMON, *(program.package for program in programs)):
        directory = tree / PACKAGES_DIR / package
        directory.mkdir(parents=True)
        for module in sources.modules(package):
            shutil.copyfile(module, directory / module.name)
    (tree / PROGRAMS_DIR).mkdir(parents=True, exist_ok=True)
    for program in programs:
        launcher = tree / PROGRAMS_DIR / program.name
        launcher.write_text(guest_launcher(sources.launcher(program)))
        launcher.chmod(0o755)


def guest_launcher(launcher: str) -> str:
    """The *launcher* of a checkout or an installation as the guest needs it: lines 1 and 3 say where things are."""
    lines = launcher.splitlines(keepends=True)
    flags = lines[0].split()[1:]
    lines[0] = " ".join(["#!/usr/bin/python3", *flags]) + "\n"
    lines[2] = f'sys.path.insert(0, "/{PACKAGES_DIR}")\n'
    return "".join(lines)


def install_files(tree: Path, files: Path) -> None:
    """Lay the directory *files* over *tree*: directories 0755, files 0755 or 0644 by their executable bit."""
    for source in sorted(files.rglob("*")):
        target = tree / source.relative_to(files)
        if source.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(source.readlink())
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            install_file(source, target, executable=os.access(source, os.X_OK))


def install_file(source: Path, target: Path, *, executable: bool = False) -> None:
    """Copy *source* to *target* in a tree. A link that is there is replaced: it may lead out of the tree."""
    if target.is_symlink():
        target.unlink()
    shutil.copyfile(source, target)
    target.chmod(0o755 if executable else 0o644)


def install_kernel_modules(tree: Path, kernel: Path, release: str, log: Path) -> None:
    """Move the modules of the unpacked package *kernel* into *tree*."""
    shutil.move(kernel / "usr/lib/modules" / release, tree / "usr/lib/modules" / release)
    run_depmod(tree, release, log)


def run_depmod(tree: Path, release: str, log: Path) -> None:
    """Write down what depends on what among the kernel modules of *tree*."""
    run_logged(["chroot", str(tree), "depmod", release], log, "depmod failed in the guest's tree")


def compile_python(tree: Path, log: Path) -> None:
    """Compile all Python modules of *tree*, such that the compiled ones hold whatever the files' times are.

    A guest cannot keep what it compiles, and all times in the image are one: a .pyc that names the time of its source
    would be discarded, and made anew at every start of the agent.
    """
    for cache in tree.glob("usr/**/__pycache__"):
        shutil.rmtree(cache)
    directories = [str(Path("/") / path.relative_to(tree)) for path in sorted(tree.glob("usr/lib/python3*"))]
    run_logged(
        [
            "chroot",
            str(tree),
            "python3",
            "-m",
            "compileall",
            "-q",
            "-j1",
            "--invalidation-mode",
            "unchecked-hash",
            *directories,
            "/" + PACKAGES_DIR,
        ],
        log,
        "cannot compile the guest's Python modules",
    )


def newest_change(tree: Path) -> int:
    """The time of the newest package of *tree*, by the changelogs, whose times are the packages' own.

    SOURCE_DATE_EPOCH overrides it (https://reproducible-builds.org/specs/source-date-epoch/).
    """
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        if not (epoch.isascii() and epoch.isdigit()):
            raise Failure(f"SOURCE_DATE_EPOCH is {epoch!r}", "seconds since 1970", EX_USAGE)
        return int(epoch)
    return max(int(path.stat().st_mtime) for path in tree.glob("usr/share/doc/*/changelog*"))


def remove(tree: Path, patterns: tuple[str, ...]) -> None:
    """Remove what matches *patterns* in *tree*, directories with all that is in them."""
    for pattern in patterns:
        # A glob without a wildcard does not see a link that leads nowhere.
        for path in sorted(tree.glob(pattern)) if "*" in pattern else [tree / pattern]:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path)


def empty(tree: Path, directories: tuple[str, ...]) -> None:
    """Empty *directories* of *tree*, and make those that are not there."""
    for name in directories:
        path = tree / name
        mode = stat.S_IMODE(path.stat().st_mode) if path.is_dir() else 0o755
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        path.chmod(mode)
