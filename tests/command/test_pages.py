"""The manual pages of this protocol and of vm-run say what is so."""

import re
import shlex
import subprocess

import pytest

from vmsilo import frames, ports
from vsock_cmd import run, wire

from .conftest import ROOT, Rig

PROTOCOL = (ROOT / "man/vmsilo-cmd.7").read_text()
VM_RUN = (ROOT / "man/vm-run.1").read_text()


def displays(page: str) -> list[str]:
    return re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", page, re.MULTILINE | re.DOTALL)


def frame_of(line: str) -> bytes:
    """The bytes that a line stands for: hexadecimal digits, and text in double quotes."""
    parts = re.findall(r'"[^"]*"|[0-9a-f]{2}', line)
    return b"".join(part[1:-1].encode() if part[0] == '"' else bytes.fromhex(part) for part in parts)


def test_frames_of_the_example() -> None:
    lines = [frame_of(line) for text in displays(PROTOCOL) for line in text.splitlines()]
    messages = [
        wire.encode_request(wire.Request(b"exit 3")),
        wire.encode_reply(wire.Started(420)),
        wire.encode_reply(wire.Exited(3)),
    ]
    assert lines == [frames.pack(wire.CONTROL, 0, message) for message in messages]


@pytest.mark.parametrize(
    ("sentence", "number"),
    [
        (r"vsock port (\d+) of the guest", ports.COMMAND),
        (r"header of (eight) bytes", frames.HEADER.size),
        (r"^\.It 1 Ta DATA Ta up to (\d+)", wire.DATA_MAX),
        (r"at most (\d+) bytes if the client sends it", wire.REQUEST_MAX),
        (r"if the client sends it, (\d+) if the agent does", wire.REPLY_MAX),
        (r"nor may more than (\d+) bytes be", wire.CREDIT_MAX),
        (r"grant (\d+) MiB at first", wire.WINDOW >> 20),
        (r"there are at most (\d+)\.", wire.ARGUMENTS_MAX),
        (r"text string of at most (\d+) bytes", wire.TEXT_MAX),
        (r"integers up to (\d+)\.", wire.SIDE_MAX),
        (r"a number from 1 to (\d+), to the command", wire.SIGNAL_MAX),
        (r"refuses source ports above (\d+)", ports.LAST_RESERVED),
    ],
)
def test_numbers(sentence: str, number: int) -> None:
    match = re.search(sentence, PROTOCOL, re.MULTILINE)
    assert match, sentence
    assert int(match[1].replace("eight", "8")) == number


def test_names_of_credentials() -> None:
    assert f".Li {ports.RESERVED_PORT_CREDENTIAL} ," in PROTOCOL


def examples() -> list[tuple[str, str]]:
    """(command line, what it prints) of vm-run's page."""
    (text,) = displays(VM_RUN)
    found: list[tuple[str, str]] = []
    for line in text.replace("\\(aq", "'").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


@pytest.mark.parametrize("line", [line for line, _ in examples()])
def test_examples_are_right_command_lines(line: str) -> None:
    words = shlex.split(line.partition(">")[0], comments=False)
    options = run.parse(words[words.index("vm-run") + 1 :])
    assert options
    assert options.vm == "work"


@pytest.mark.parametrize(("line", "output"), [(line, output) for line, output in examples() if output])
def test_examples_print_what_they_show(rig: Rig, line: str, output: str) -> None:
    line = line.replace("vm-run work", shlex.join(rig.argv(rig.vm)))
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=10, check=True)
    assert result.stdout == output


def test_every_option_is_described() -> None:
    """In the usage, and in the page."""
    for option in re.findall(r"--([a-z-]+)", run.USAGE):
        assert re.search(rf"^\.It Fl \w , Fl -{option}\b", VM_RUN, re.MULTILINE), option
