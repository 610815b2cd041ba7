"""What is made once and kept: under /var/cache/vmsilo, or where VMSILO_CACHE says, by the hash of its inputs."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DAY = 24 * 60 * 60  # seconds

ROOT = Path(__file__).resolve().parent.parent.parent


def directory() -> Path:
    path = Path(os.environ.get("VMSILO_CACHE") or "/var/cache/vmsilo")
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(parts: Iterable[bytes]) -> str:
    """A short name for exactly these inputs."""
    sum_ = hashlib.sha256()
    for part in parts:
        sum_.update(len(part).to_bytes(8, "big") + part)
    return sum_.hexdigest()[:16]


def contents(*paths: Path) -> Iterator[bytes]:
    """Names and bytes of the files *paths*, and of all that is under them."""
    for top in paths:
        below = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in below:
            if "__pycache__" not in path.parts:
                yield str(path.relative_to(ROOT)).encode()
                yield path.read_bytes()


def say(line: str) -> None:
    """Where progress goes; pytest's own way past its capture is set in conftest.py."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what takes long, and how long it took."""
    begin = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"{what}: {time.monotonic() - begin:.1f} s")


def run(*argv: str, env: dict[str, str] | None = None) -> None:
    """Run a command whose output matters only when it fails."""
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, check=False
    )
    if done.returncode:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-40:])
        raise RuntimeError(f"{' '.join(argv[:3])} ... failed with status {done.returncode}:\n{tail}")


def remove(path: Path) -> None:
    """Remove *path* with all in it, but never go into what something left mounted there."""
    run("rm", "-rf", "--one-file-system", str(path))


def once(name: str, what: str, make: Callable[[Path], None]) -> Path:
    """The cached directory *name*; where there is none, *make* fills it, under a lock.

    Other versions of the same thing (the part of *name* before the last dash) are removed when nobody has used them
    for a day.
    """
    path = directory() / name
    kind = name.rpartition("-")[0]
    with (directory() / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = directory() / f"{kind}.partial"
            remove(partial)
            with step(what):
                make(partial)
            partial.rename(path)
        os.utime(path)
        for other in directory().glob(f"{kind}-*"):
            if time.time() - other.stat().st_mtime > DAY:
                remove(other)
    return path
