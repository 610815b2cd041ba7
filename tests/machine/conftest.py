"""Fixtures of the machine. It is booted once: that takes half a minute."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import config, images
from lab.host import CONFIG

from machine import boot
from machine.computer import Machine


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """The computer that tests share. Whoever adds a VM gives it a name of its own."""
    place = Path(tempfile.mkdtemp(prefix="machine-", dir="/tmp"))
    try:
        computer = boot.boot({"minimal": images.minimal()}, {f"{CONFIG}/host.toml": config.HOST}, place)
        yield computer
        computer.close()
    finally:
        shutil.rmtree(place)
