"""Run ip(8) and nft(8), and read the JSON that they print."""

import json
import os
import subprocess
from typing import Any

from vmsilo.failure import Failure


class Refused(Exception):
    """The kernel does not let this user see it."""


class Gone(Exception):
    """The kernel does not have it, any more."""


def text(*command: str) -> str:
    """What *command* prints. Raises Refused, Gone, or Failure where it is missing or complains of anything else."""
    # An ordinary user's PATH may lack the directories that distributions have these programs in.
    environment = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise Failure(f"there is no {command[0]}", f"install {_PACKAGES[command[0]]}") from None
    if done.returncode == 0:
        return done.stdout
    if "not permitted" in done.stderr:
        raise Refused
    if "No such file or directory" in done.stderr:
        raise Gone
    complaint = done.stderr.partition("\n")[0].removeprefix("Error: ")
    raise Failure(f"{command[0]}: {complaint or f'exit status {done.returncode}'}")


_PACKAGES = {"ip": "iproute2", "nft": "nftables"}


def parsed(*command: str) -> Any:
    """The JSON that *command* prints; errors as with text()."""
    try:
        return json.loads(text(*command) or "[]")
    except ValueError as error:
        raise Failure(f"{' '.join(command)}: {error}") from None
