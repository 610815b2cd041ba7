"""Configuration files that documents show, and the checker's word on them."""

import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

from project import ROOT

GENERATOR = ROOT / "generators" / "vmsilo-generator"
USER = "alice"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DISPLAY = re.compile(r"^\.Bd -literal.*?\n(.*?)^\.Ed$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# /etc/vmsilo\.d/([a-z0-9-]+\.toml)$")


def of_markdown(text: str, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return [body for tag, body in _FENCE.findall(text) if tag == language]


def of_mdoc(text: str) -> list[str]:
    """The literal displays that hold configuration: TOML, and no unit file or command line."""
    bodies = [body.replace("\\&", "").replace("\\e", "\\").replace("\\-", "-") for body in _DISPLAY.findall(text)]
    return [body for body in bodies if _is_configuration(body)]


def _is_configuration(body: str) -> bool:
    if _NAMED.match(body.partition("\n")[0]):
        return True
    try:
        return bool(tomllib.loads(body))
    except tomllib.TOMLDecodeError:
        return False


def by_file(bodies: list[str]) -> dict[str, str]:
    """The blocks with the file that each stands for: its first line says, else it is some VM of its own."""
    files: dict[str, str] = {}
    for number, body in enumerate(bodies):
        named = _NAMED.match(body.partition("\n")[0])
        files[named[1] if named else f"example-{number}.toml"] = body
    return files


def check(root: Path, files: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """`vmsilo-generator --check` on a host that has these files in /etc/vmsilo.d, and one user."""
    (root / "etc/vmsilo.d").mkdir(parents=True)
    (root / "etc/passwd").write_text(f"root:x:0:0::/root:/bin/sh\n{USER}:x:1000:1000::/home/{USER}:/bin/sh\n")
    for name, text in files.items():
        (root / "etc/vmsilo.d" / name).write_text(text, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VMSILO_")}
    return subprocess.run(
        [str(GENERATOR), "--check", "--root", str(root)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


HOST = {"host.toml": f'user = "{USER}"\n'}
