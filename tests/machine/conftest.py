"""Fixtures of the machine. It is booted once: that takes half a minute."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import config, images
from lab.host import CONFIG

from machine import boot, hardware
from machine.computer import Machine


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """The computer that tests share. Whoever adds a VM gives it a name of its own."""
    place = Path(tempfile.mkdtemp(prefix="machine-", dir="/tmp"))
    try:
        files = {f"{CONFIG}/host.toml": f'{config.HOST}isolatedPciDevices = ["{hardware.TAKEN_AT_BOOT}"]\n'}
        computer = boot.boot({"minimal": images.minimal()}, files, place)
        yield computer
        computer.close()
    finally:
        shutil.rmtree(place)
