"""Completion, driven through bash as readline drives it."""

import re
import subprocess
from pathlib import Path

import pytest
from project import ROOT, launchers

from tools.conftest import Systemd
from vmsilo import names, paths

COMPLETION = ROOT / "units" / "bash-completion" / "vmsilo"

# Sets up what readline would, calls the function that the command has registered, and prints its answer.
DRIVER = """
source "$1" || exit
_vmsilo_plan=$2 _vmsilo_images=$3
shift 3
compopt() { echo "compopt $*"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
set -- $(complete -p "$1") "$1"
function=$3 command=${COMP_WORDS[0]}
"$function" "$command" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


class Bash:
    def __init__(self, systemd: Systemd, directory: Path) -> None:
        self.systemd = systemd
        self.plan = directory / "host.plan"
        self.images = directory / "images"

    def complete(self, *words: str) -> list[str]:
        """What is offered for the last of *words*."""
        result = subprocess.run(
            ["bash", "--norc", "-uc", DRIVER, "bash", COMPLETION, self.plan, self.images, *words],
            env=self.systemd.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=20,
        )
        assert (result.returncode, result.stderr) == (0, "")
        return [line for line in result.stdout.split("\n") if line]


@pytest.fixture
def bash(systemd: Systemd, tmp_path: Path) -> Bash:
    for image in ("debian", "minimal"):
        (tmp_path / "images" / image).mkdir(parents=True)
        (tmp_path / "images" / image / "image.toml").touch()
    (tmp_path / "images" / "half-built").mkdir()
    return Bash(systemd, tmp_path)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["vm-start", ""], ["a-b", "demo", "slow", "up"]),
        (["vm-start", "d"], ["demo"]),
        (["vm-start", "demo", ""], ["a-b", "slow", "up"]),
        (["vm-start", "--"], ["--all", "--no-block", "--help"]),
        (["vm-start", "--all", ""], []),
        (["vm-stop", ""], ["gone", "slow", "up"]),
        (["vm-stop", "--force", "u"], ["up"]),
        (["vm-stop", "--f"], ["--force"]),
        (["vm-shell", ""], ["gone", "slow", "up"]),
        (["vm-shell", "-e", ""], []),
        (["vm-shell", "-e", "^a", "g"], ["gone"]),
        (["vm-shell", "--l"], ["--log"]),
        (["vm-list", "--"], ["--json", "--help"]),
        (["vm-list", ""], ["--json", "--help"]),
        (["vm-net", ""], ["a-b", "demo", "slow", "up"]),
        (["vm-net", "demo", "--j"], ["--json"]),
        (["vm-net", "--dot", "--"], []),
        (["vm-run", ""], ["a-b", "demo", "slow", "up"]),
        (["vm-run", "-t", "--user", "root", "d"], ["demo"]),
        (["vm-run", "--user", ""], []),
        (["vm-run", "demo", ""], []),
        (["vm-run", "demo", "ls", "-"], []),
        (["vm-run", "--c"], ["--cwd"]),
        (["vm-image", ""], ["build", "list", "remove", "--help"]),
        (["vm-image", "r"], ["remove"]),
        (["vm-image", "build", ""], ["debian"]),
        (["vm-image", "build", "debian", "--min"], ["--minimal"]),
        (["vm-image", "remove", ""], ["debian", "minimal"]),
        (["vm-image", "remove", "debian", ""], ["minimal"]),
        (["vm-image", "list", "--images-dir", ""], ["compopt -o dirnames"]),
        (["vm-pci", ""], ["list", "isolate", "release", "--help"]),
        (["vm-pci", "list", ""], ["--json"]),
        (["vm-pci", "release", "--"], ["--all"]),
    ],
)
def test_offers(bash: Bash, words: list[str], offered: list[str]) -> None:
    assert bash.complete(*words) == offered


def test_no_vms(bash: Bash) -> None:
    bash.systemd.path.write_text("{}")
    assert bash.complete("vm-start", "") == []


def test_no_systemctl(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to("/bin/bash")
    bash.systemd.environment["PATH"] = str(tmp_path / "bin")
    assert bash.complete("vm-start", "") == []


def test_can_be_turned_off(bash: Bash) -> None:
    bash.plan.write_text('{\n "bash_integration": true,\n "user": "alice"\n}\n')
    assert bash.complete("vm-start", "d") == ["demo"]
    bash.plan.write_text('{\n "bash_integration": false,\n "user": "alice"\n}\n')
    assert bash.complete("vm-start", "d") == ["compopt -o bashdefault -o default"]


def test_same_facts_as_elsewhere() -> None:
    text = COMPLETION.read_text()
    assert f"'{names.VM_UNIT_GLOB}'" in text
    assert f"_vmsilo_plan={paths.GENERATOR_DIR}/{names.HOST_PLAN_FILE}\n" in text
    assert f"_vmsilo_images={paths.IMAGES}\n" in text
    prefix, suffix = names.VM_UNIT_GLOB.split("*")
    assert f"unit=${{unit#{prefix}}}" in text
    assert f"${{unit%{suffix}}}" in text


def test_every_command_has_completion() -> None:
    registered = set(COMPLETION.read_text().split("complete -F _vmsilo ")[1].split())
    assert registered == {launcher.name for launcher in launchers() if launcher.name.startswith("vm-")} - {
        "vm-home",
        "vm-launch",
    }
    # bash loads the file of the command's name.
    linked = {path.name for path in COMPLETION.parent.iterdir() if path.is_symlink() and path.resolve() == COMPLETION}
    assert linked == registered


@pytest.mark.parametrize(
    "command",
    [["vm-start"], ["vm-stop"], ["vm-shell"], ["vm-list"], ["vm-net"], ["vm-run"], ["vm-image", "build"]],
    ids=" ".join,
)
def test_offers_the_options_there_are(bash: Bash, command: list[str]) -> None:
    launcher = next(path for path in launchers() if path.name == command[0])
    usage = subprocess.run(
        [launcher, *command[1:], "--help"], check=True, capture_output=True, encoding="utf-8"
    ).stdout
    options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", usage)) - {"-h"}
    assert set(bash.complete(*command, "-")) == options | {"--help"}
