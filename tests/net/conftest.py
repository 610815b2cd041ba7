"""A host for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rules.spaces import Space

from net.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    space = Space("host")
    yield World(space, tmp_path)
    space.close()
