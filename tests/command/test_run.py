"""vm-run, connector and agent together, running real commands."""

import pytest

from .conftest import Rig


def test_output_and_status(rig: Rig) -> None:
    result = rig.command("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 7)


def test_arguments_arrive_one_by_one(rig: Rig) -> None:
    result = rig.command("printf", "<%s>", "a b", "", "$HOME", "ä;'\"")
    assert result.stdout.decode() == "<a b><><$HOME><ä;'\">"


def test_stdin_arrives_with_its_end(rig: Rig) -> None:
    assert rig.command("tr", "a-z", "A-Z", stdin=b"hello\n").stdout == b"HELLO\n"
