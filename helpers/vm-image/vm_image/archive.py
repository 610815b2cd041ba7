"""The Debian archive: a tree of packages by mmdebstrap, and single packages by apt with that tree's sources.

The kernel comes as a single package and is unpacked without being installed: its scripts would make an initramfs that
nobody boots, and an upgrade inside a guest would change nothing, since the kernel is the bundle's.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vmsilo.failure import EX_UNAVAILABLE, Failure

KERNEL_METAPACKAGE = "linux-image-amd64"  # the generic kernel: the cloud one has no USB, sound or graphics

TOOLS = {"mmdebstrap": "mmdebstrap", "mkfs.erofs": "erofs-utils", "zstd": "zstd", "xz": "xz-utils"}


class Source(NamedTuple):
    """Where packages come from."""

    suite: str
    mirror: str  # "" = mmdebstrap's own choice, with updates and security


def require_tools() -> None:
    """Raise Failure with the command that installs what is missing."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool, path=_environment()["PATH"]) is None]
    if missing:
        raise Failure("building an image takes programs that are not installed", f"apt install {' '.join(missing)}")


def make_tree(tree: Path, source: Source, packages: Sequence[str], *, configure: bool, log: Path) -> None:
    """Put *packages* and all they depend on into the new directory *tree*.

    Without *configure* they are only unpacked: no script of theirs runs, and no essential package comes along.
    """
    variant = "minbase" if configure else "extract"
    command = [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        f"--variant={variant}",
        "--architectures=amd64",
        f"--include={','.join(packages)}",
        "--skip=cleanup/apt",
        "--aptopt=Acquire::Languages none",
        "--aptopt=APT::Install-Recommends false",
        "--dpkgopt=force-unsafe-io",
        *source_options(source),
        source.suite,
        str(tree),
        *([source.mirror] if source.mirror else []),
    ]
    run_logged(command, log, f"mmdebstrap cannot make a tree of {source.suite}")


def source_options(source: Source) -> list[str]:
    """mmdebstrap's options for *source*. A mirror that was asked for may be a snapshot, which expired long ago."""
    return ["--aptopt=Acquire::Check-Valid-Until false"] if source.mirror else []


def unpack_kernel(tree: Path, into: Path, log: Path) -> None:
    """Unpack the kernel package that *tree*'s sources offer into the new directory *into*."""
    into.mkdir()
    environment = _environment() | {"APT_CONFIG": str(_apt_config(tree, into))}
    depends = subprocess.run(
        ("apt-cache", "depends", "--important", KERNEL_METAPACKAGE),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    kernels = [line.split()[-1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    if not kernels:
        raise Failure(f"the archive has no {KERNEL_METAPACKAGE}")
    run_logged(
        ["apt-get", "-q", "download", kernels[0]],
        log,
        f"cannot download {kernels[0]}",
        cwd=into,
        environment=environment,
    )
    (package,) = into.glob("*.deb")
    run_logged(["dpkg-deb", "-x", str(package), str(into)], log, f"cannot unpack {package.name}")
    package.unlink()


def _apt_config(tree: Path, scratch: Path) -> Path:
    config = scratch / "apt.conf"
    config.write_text(
        'APT::Architecture "amd64";\n'
        f'Dir "{tree}";\n'
        'Dir::Etc::Trusted "/etc/apt/trusted.gpg";\n'
        'Dir::Etc::TrustedParts "/usr/share/keyrings";\n'
        'APT::Sandbox::User "root";\n'
    )
    return config


def run_logged(
    command: Sequence[str],
    log: Path,
    failure: str,
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> None:
    """Run *command*, its output appended to *log*. Raises Failure(*failure*) with the last line that says why."""
    with log.open("ab") as output:
        start = output.tell()
        status = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment or _environment(),
            check=False,
        ).returncode
    if status:
        raise Failure(failure, _reason(log.read_bytes()[start:].decode(errors="replace")), EX_UNAVAILABLE)


def output_of(command: Sequence[str], failure: str) -> str:
    """What *command* prints. Raises Failure(*failure*) with the last line of its complaints."""
    result = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if result.returncode:
        raise Failure(failure, _reason(result.stderr), EX_UNAVAILABLE)
    return result.stdout


def _reason(output: str) -> str:
    """The line of *output* that most likely says what was wrong: the first that is marked as an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E: ", "Err:"))]
    return (errors or lines[-1:] or [""])[0]


def _environment() -> dict[str, str]:
    """What the tools run with: the user's proxies, but the C locale, and sbin in the path."""
    path = os.environ.get("PATH", os.defpath)
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "PATH": f"{path}:/usr/local/sbin:/usr/sbin:/sbin",
        "PYTHONHASHSEED": "0",
        "DEBIAN_FRONTEND": "noninteractive",
    }
