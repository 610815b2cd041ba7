"""Every message that a configuration can draw, whole: tests/errors/<case>.toml, or a directory of files, and what is
printed for it in <case>.expected. VMSILO_REWRITE=1 writes the expected texts anew, for review with git diff."""

import os
from pathlib import Path

import pytest

from vmsilo_generator import check, problems, source

ERRORS = Path(__file__).parent / "errors"
CASES = sorted(path for path in ERRORS.iterdir() if path.is_dir() or path.suffix == ".toml")
PASSWD = "root:x:0:0:root:/root:/bin/bash\ndavid:x:1000:1000::/home/david:/bin/bash\nmallory:x::::\n"
HOST = source.ConfigFile("host", "host.toml", 'user = "david"\n')


def files(case: Path) -> list[source.ConfigFile]:
    """The files of a case, named as if the case were the current directory."""
    if case.is_dir():
        found = source.find([str(case)])
    else:
        alone = source.read(str(case))
        assert alone is not None
        found = [alone]
    found = [file._replace(path=file.path.rpartition("/")[2]) for file in found]
    return found if case.is_dir() else [*found, HOST]


def rendered(case: Path) -> str:
    config = check.load(files(case), PASSWD)
    lines = [problems.render(problem) for problem in config.problems]
    lines += [f"broken: {broken.name}" for broken in config.broken] + [f"good: {vm.name}" for vm in config.vms]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_messages(case: Path) -> None:
    expected = case.with_suffix(".expected")
    text = rendered(case)
    if os.environ.get("VMSILO_REWRITE"):
        expected.write_text(text)
    assert text == expected.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_problem_has_a_place(case: Path) -> None:
    texts = {file.path: file.text for file in files(case)}
    config = check.load(files(case), PASSWD)
    assert config.problems
    for problem in config.problems:
        if texts.get(problem.file):
            assert problem.quote == texts[problem.file].split("\n")[problem.line - 1]
            assert 1 <= problem.column <= len(problem.quote) + 1
            assert problem.message
            assert problem.message == problem.message.strip()


def test_every_case_is_expected() -> None:
    assert {path.stem for path in ERRORS.glob("*.expected")} == {case.stem for case in CASES}
