"""What a reviewer should not have to say: formatting, types, spelling, and the shape of launchers."""

import configparser
import os
import re
import subprocess
from pathlib import Path

import pytest
from project import ROOT, files, launchers, tool

TEXT = [path for path in files() if b"\0" not in path.read_bytes()]
CASES = (ROOT / "tests/errors", ROOT / "tests/trees")  # what users might write
PROSE_AND_CODE = [path for path in TEXT if path.name != "LICENSE" and not set(CASES).intersection(path.parents)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines() -> list[tuple[str, str]]:
    """Every line of every text file, with its place."""
    return [
        (f"{relative(path)}:{number}", line)
        for path in PROSE_AND_CODE
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
    ]


def need(name: str) -> str:
    """A tool that a developer may lack and CI may not."""
    found = tool(name)
    if found is None:
        message = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    assert done.returncode == 0, done.stdout


def test_ruff_check() -> None:
    run(need("ruff"), "check", "--no-cache", ".")


def test_ruff_format() -> None:
    run(need("ruff"), "format", "--no-cache", "--check", "--diff", ".")


def test_launchers_pass_ruff() -> None:
    run(need("ruff"), "check", "--no-cache", "--ignore", "E402,I001", *map(str, launchers()))


def test_mypy() -> None:
    run(need("mypy"))  # what it checks, and how strictly, stands in setup.cfg


def test_text_is_clean() -> None:
    faults = []
    for path in PROSE_AND_CODE:
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            faults.append(f"{relative(path)}: the last line has no end")
        if text.endswith("\n\n"):
            faults.append(f"{relative(path)}: empty lines at the end")
        if "\r" in text:
            faults.append(f"{relative(path)}: carriage return")
        # A Makefile's recipes are the only place where a tab means something.
        if "\t" in text and path.name != "Makefile" and path.suffix != ".mk":
            faults.append(f"{relative(path)}: tab")
    faults += [f"{place}: space at the end of the line" for place, line in lines() if line.endswith(" ")]
    assert faults == []


# Bracketed letters, or the patterns would find themselves.
LEFTOVERS = [
    (re.compile(r"\b(TO[D]O|FIX[M]E|XX[X])\b"), "unfinished work belongs into an issue"),
    (re.compile(r"^(<<<<<[<]<|>>>>>[>]>) "), "conflict marker"),
    (re.compile(r"\b(pdb[.]set_trace|breakpoin[t]\()"), "debugger call"),
]


def test_nothing_was_left_behind() -> None:
    assert [
        f"{place}: {what}: {line.strip()}"
        for place, line in lines()
        for pattern, what in LEFTOVERS
        if pattern.search(line)
    ] == []


# The file system hierarchy, and the places of Nix: every machine may have these.
COMMON = set("bin boot dev etc home lib lib64 media mnt nix opt proc root run sbin srv sys tmp usr var".split())
ABSOLUTE = re.compile(r"(?<![\w.}<>)\]*?$:/\\-])/([a-z][a-z0-9_.-]*)/[a-z]")
FIXED_TEMPORARY = re.compile(r"(?<![\w.}/-])/(?:var/)?tmp/([\w.-]*\w)")


def test_no_path_of_one_machine_alone() -> None:
    """A directory that is there, but that no other machine need have."""
    places = [("", ABSOLUTE), ("tmp", FIXED_TEMPORARY)]
    assert [
        f"{place}: {line.strip()}"
        for place, line in lines()
        for below, pattern in places
        for found in pattern.findall(line)
        if found not in COMMON and (Path("/") / below / found).is_dir()
    ] == []


def test_no_fixed_name_in_a_directory_that_everybody_can_write() -> None:
    programs = [
        (place, line)
        for place, line in lines()
        if place.startswith(("vmsilo/", "generators/", "helpers/", "units/", "Makefile"))
    ]
    assert [f"{place}: {line.strip()}" for place, line in programs if FIXED_TEMPORARY.search(line)] == []


DOUBLED = re.compile(r"\b(the|a|an|of|to|in|is|it|and|or|for|on|by|with|from|be|as|at) \1\b(?![-.\w])", re.IGNORECASE)


def test_no_word_twice() -> None:
    written = (".md", ".py", ".1", ".5", ".7", ".8")
    checked = [(place, line) for place, line in lines() if place.partition(":")[0].endswith(written)]
    assert [f"{place}: {line.strip()}" for place, line in checked if DOUBLED.search(line)] == []


# A macro of mdoc, crates of Rust, the typing error that the README makes on purpose.
CORRECT = "nd,crate,wrok"


def test_spelling() -> None:
    """Of all but the tests, some of which are about misspelt words."""
    checked = [path for path in PROSE_AND_CODE if ROOT / "tests" not in path.parents]
    run(need("codespell"), "--ignore-words-list", CORRECT, *map(str, checked))


def test_there_are_launchers() -> None:
    assert {path.name for path in launchers()} >= {"vmsilo-generator", "vm-launch", "vsock-cmd", "vm-run", "vm-image"}


@pytest.mark.parametrize("launcher", launchers(), ids=lambda path: path.name)
def test_launcher(launcher: Path) -> None:
    """Short enough that start-up is the interpreter and one cached module; `make install` edits lines 1 and 3."""
    assert os.access(launcher, os.X_OK)
    text = launcher.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"#!/usr/bin/python3 -I[S]?", text[0])
    assert text[1] == "import sys"
    assert text[2].startswith("sys.path[:0] = [__file__.rpartition(")
    assert re.fullmatch(r"from (\w+)\.\w+ import \w+", text[3])
    assert text[4:] == [f"sys.exit({text[3].split()[-1]}())"]
    package = text[3].split()[1].partition(".")[0]
    assert (launcher.parent / package / "__init__.py").exists()


def test_what_has_a_shebang_can_be_run_and_the_other_way_round() -> None:
    faults = []
    for path in TEXT:
        shebang = path.read_bytes().startswith(b"#!")
        if shebang != os.access(path, os.X_OK):
            faults.append(f"{relative(path)}: {'not executable' if shebang else 'executable without #!'}")
    assert faults == []


def test_every_package_is_declared() -> None:
    """setup.cfg lists packages by hand, since they lie in directories that are none."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = set(settings["options"]["packages"].split())
    found = set()
    for base in [ROOT, ROOT / "generators", *(ROOT / "helpers").glob("*")]:
        for init in base.glob("*/__init__.py"):
            if init.parent.parent == base and init.parent.name != "tests":
                found |= {".".join(path.parent.relative_to(base).parts) for path in init.parent.rglob("__init__.py")}
    assert found == declared
