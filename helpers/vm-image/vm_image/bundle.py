"""Image bundles on disk: the manifest, the list of them, and how one appears and disappears. See vmsilo-image(5).

A bundle is a directory that appears whole or not at all: it is made beside its place and renamed into it. One that is
replaced stays what it was for the VMs that have it open.
"""

import ctypes
import fcntl
import json
import os
import shutil
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from vmsilo import names, paths, plan
from vmsilo.failure import EX_NOINPUT, EX_NOPERM, EX_OSERR, EX_TEMPFAIL, EX_USAGE, Failure, reason

T = TypeVar("T")

FILES = (paths.BUNDLE_KERNEL, paths.BUNDLE_INITRAMFS, paths.BUNDLE_ROOT, paths.BUNDLE_MANIFEST)

NAME_RULE = "lower-case letters, digits, dots and dashes, beginning with a letter, at most 64 characters"

_BUILD_PREFIX = ".build-"
_PLAN_MAX = 1 << 20  # bytes
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Manifest(NamedTuple):
    """What image.toml says."""

    name: str
    os: str  # debian
    suite: str
    variant: str  # full | minimal
    kernel: str  # release, as uname -r prints it
    cmdline: str  # kernel parameters that the image wants
    agent: bool  # whether the guest takes commands (vmsilo-cmd(7))
    built: int  # seconds since 1970: the date of the newest package
    packages: tuple[str, ...]  # name_version, sorted


def dumps(manifest: Manifest) -> str:
    """The manifest as TOML text, the same bytes for the same manifest."""
    lines = [f"format = {paths.BUNDLE_FORMAT}"]
    for key, value in manifest._asdict().items():
        if isinstance(value, tuple):
            lines += [f"{key} = [", *(f"  {_quoted(item)}," for item in value), "]"]
        elif isinstance(value, bool):
            lines.append(f"{key} = {str(value).lower()}")
        else:
            lines.append(f"{key} = {value if isinstance(value, int) else _quoted(value)}")
    return "\n".join(lines) + "\n"


def loads(text: str) -> Manifest:
    """Read what dumps() wrote. Raises ValueError with what is wrong."""
    table = tomllib.loads(text)
    if table.get("format") != paths.BUNDLE_FORMAT:
        raise ValueError(f"not a manifest of format {paths.BUNDLE_FORMAT}")

    def value(key: str, kind: type[T]) -> T:
        found = table.get(key)
        if type(found) is not kind:  # a bool is an int, too
            raise ValueError(f"{key} is missing or not of type {kind.__name__}")
        return found

    return Manifest(
        name=value("name", str),
        os=value("os", str),
        suite=value("suite", str),
        variant=value("variant", str),
        kernel=value("kernel", str),
        cmdline=value("cmdline", str),
        agent=value("agent", bool),
        built=value("built", int),
        packages=tuple(str(package) for package in value("packages", list)),
    )


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for one character that TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class Image(NamedTuple):
    """One bundle that is installed."""

    name: str
    path: Path
    manifest: Manifest | None  # None: there is none, or it cannot be read
    problem: str  # why manifest is None, or which file is missing
    size: int  # bytes on disk
    running: tuple[str, ...]  # VMs that run from it
    configured: tuple[str, ...]  # VMs whose next start will


def is_name(name: str) -> bool:
    """Whether *name* follows NAME_RULE."""
    return (
        0 < len(name) <= 64
        and name[0].isascii()
        and name[0].islower()
        and all(
            character.isascii() and (character.islower() or character.isdigit() or character in ".-")
            for character in name
        )
    )


def require_name(name: str) -> None:
    if not is_name(name):
        raise Failure(f"{name!r} is not a name for an image", NAME_RULE, EX_USAGE)


def images(directory: Path) -> list[Image]:
    """The bundles in *directory*, by name."""
    if not directory.is_dir():
        return []
    running = _users(
        (path.name, Path(paths.vm_dir(path.name), paths.RUNNING_PLAN)) for path in sorted(Path(paths.RUN).glob("*"))
    )
    configured = _users(
        (path.stem.removeprefix(names.PREFIX), path) for path in sorted(Path(paths.GENERATOR_DIR).glob("*.plan"))
    )
    return [
        _image(path, running, configured)
        for path in sorted(directory.iterdir())
        if path.is_dir() and is_name(path.name)
    ]


def _image(path: Path, running: dict[str, list[str]], configured: dict[str, list[str]]) -> Image:
    manifest, problem = None, ""
    try:
        manifest = loads((path / paths.BUNDLE_MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        problem = f"no {paths.BUNDLE_MANIFEST}"
    except (OSError, ValueError) as error:
        problem = f"{paths.BUNDLE_MANIFEST}: {error}"
    if missing := [name for name in FILES if not (path / name).is_file()]:
        problem = problem or f"no {missing[0]}"
    try:
        size = sum(item.lstat().st_blocks * 512 for item in path.iterdir())
    except OSError as error:
        size, problem = 0, reason(error)
    key = str(path.resolve())
    return Image(
        path.name, path, manifest, problem, size, tuple(running.get(key, ())), tuple(configured.get(key, ()))
    )


def _users(plans: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """The VMs of *plans*, by the bundle each names. A plan that is none is not counted: its VM has just ended."""
    users: dict[str, list[str]] = {}
    for vm, path in plans:
        try:
            image = plan.loads(_read_plan(path)).image
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue
        if isinstance(image, str):
            users.setdefault(os.path.realpath(image), []).append(vm)
    return users


def _read_plan(path: Path) -> str:
    """The text of a plan. That of a VM that runs belongs to its hypervisor, which a guest may have taken over."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a file")
        return file.read(_PLAN_MAX).decode()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the right to change *directory*, which is made if need be. Raises Failure if somebody else has it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"{directory}: {error.strerror}", code=EX_OSERR) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Failure(f"another vm-image is at work in {directory}", "wait for it to end", EX_TEMPFAIL) from None
    finally:
        os.close(lock)


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A directory to build in, on the file system of *directory*, gone at the end. Needs the lock.

    What a build that was killed left behind goes first.
    """
    for stale in directory.glob(_BUILD_PREFIX + "*"):
        shutil.rmtree(stale)
    path = directory / f"{_BUILD_PREFIX}{os.getpid()}"
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def install(finished: Path, place: Path) -> None:
    """Move the bundle *finished* to *place*, in one step even if there is one already, which ends in *finished*."""
    for path in (finished, *(finished / name for name in FILES)):
        _sync(path)
    if place.exists():
        _exchange(finished, place)
    else:
        finished.rename(place)
    _sync(place.parent)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        error = ctypes.get_errno()
        raise Failure(f"cannot replace {other}: {os.strerror(error)}", code=EX_OSERR)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(directory: Path, name: str, *, force: bool) -> None:
    """Remove the bundle *name*, unless a VM runs from it, or is configured to and not *force*."""
    require_name(name)
    found = [image for image in images(directory) if image.name == name]
    if not found:
        raise Failure(f"there is no image {name} in {directory}", "vm-image list shows what there is", EX_NOINPUT)
    image = found[0]
    if image.running:
        raise Failure(f"{name} is in use", f"first: vm-stop {' '.join(image.running)}", EX_TEMPFAIL)
    if image.configured and not force:
        raise Failure(
            f"{name} is the image of {', '.join(image.configured)}", "--force removes it all the same", EX_TEMPFAIL
        )
    with locked(directory), scratch(directory) as graveyard:
        # Out of the way in one step, then file by file.
        try:
            image.path.rename(graveyard / name)
        except OSError as error:
            raise Failure(f"{image.path}: {error.strerror}", code=EX_NOPERM) from None
