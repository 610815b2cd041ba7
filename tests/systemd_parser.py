"""systemd's own parser of unit files, without a manager: what it reads where we wrote something.

``systemd --user --test`` loads units, prints what it made of them and exits. As root it refuses, so root's tests run
it as nobody.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import strategies as st

from vmsilo_generator.unitfile import Unit, command

SYSTEMD = next((path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(path)), "")
NOBODY = 65534

need_systemd = pytest.mark.skipif(not SYSTEMD, reason="systemd is not installed")

# Any string, with those characters often that mean something to somebody.
_MEANINGFUL = st.sampled_from(
    [*"%$\\\"'`;:#=-@!+ \t\n\r\x00\x01\x7f{}()*?~nsx0", "$$", "%%", "${A}", "\\x41", "é", "日", "😀"]
)
VALUES = st.lists(_MEANINGFUL | st.characters(), max_size=12).map("".join)


def load(units: Iterable[Unit]) -> dict[str, list[tuple[str, str]]]:
    """What systemd says about each of *units*: label and value, in its order."""
    units = list(units)
    with directory() as where:
        for unit in units:
            (where / unit.name).write_text(unit.file().text, encoding="utf-8")
        wanted = " ".join(unit.name for unit in units)
        (where / "default.target").write_text(f"[Unit]\nWants={wanted}\n")
        dump = run(where)
    return {unit.name: section(dump, unit.name) for unit in units}


@contextmanager
def directory() -> Iterator[Path]:
    """One that nobody can read, and with a directory to write."""
    where = Path(tempfile.mkdtemp(prefix="vmsilo-units."))
    try:
        where.chmod(0o755)
        (where / "run").mkdir()
        if os.geteuid() == 0:
            os.chown(where / "run", NOBODY, NOBODY)
        yield where
    finally:
        shutil.rmtree(where)


def run(where: Path) -> str:
    done = subprocess.run(
        [SYSTEMD, "--user", "--test", "--unit=default.target", "--no-pager"],
        env={
            "XDG_RUNTIME_DIR": str(where / "run"),
            "SYSTEMD_UNIT_PATH": str(where),
            "SYSTEMD_GENERATOR_PATH": str(where / "none"),
            "HOME": "/nonexistent",
        },
        user=NOBODY if os.geteuid() == 0 else None,
        extra_groups=[] if os.geteuid() == 0 else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    complaints = [line for line in done.stderr.decode().split("\n") if str(where) in line]
    assert not complaints, "\n".join(complaints)
    return done.stdout.decode()


def section(dump: str, unit: str) -> list[tuple[str, str]]:
    dump = dump.replace("\t→ Unit ", "\t-> Unit ")  # as newer ones print where the locale allows it
    _, found, rest = dump.partition(f"\t-> Unit {unit}:\n")
    assert found, f"systemd did not load {unit}"
    text = rest.partition("\n\t-> Unit ")[0]
    pairs = (line.strip("\t").partition(": ") for line in text.split("\n"))
    return [(label, value) for label, _, value in pairs]


def values(pairs: list[tuple[str, str]], label: str) -> list[str]:
    return [value for found, value in pairs if found == label]


def split(line: str) -> list[str]:
    """The words of a command line as systemd prints it: bare, or quoted with the escapes of C."""
    return [
        unescaped(word[1:-1]) if word[:1] == '"' else word for word in re.findall(r'"(?:\\.|[^"\\])*"|[^ ]+', line)
    ]


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


def unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code, 8)) if code.isdigit() else _ESCAPES.get(code, code)

    return re.sub(r"\\([0-7]{3}|.)", one, text)


def probe(name: str, arguments: Iterable[str], into: str) -> Unit:
    """A service that writes its arguments, each ended by NUL, to the file *into*: for a manager that runs it."""
    script = "import sys; open(sys.argv[1], 'wb').write(b''.join(a.encode() + b'\\0' for a in sys.argv[2:]))"
    line = command("/usr/bin/python3", "-c", script, into, *arguments)
    return Unit(name, (("Service", (("Type", "oneshot"), ("ExecStart", line))),))
