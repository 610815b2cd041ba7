"""Fixtures of the lab. Boots and images are shared: an emulated guest takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import boot, config, images
from lab.host import CONFIG, Host


@pytest.fixture(scope="session")
def minimal() -> dict[str, Path]:
    """The image that most guests are."""
    return {"minimal": images.minimal()}


@pytest.fixture(scope="session")
def lab(minimal: dict[str, Path]) -> Iterator[Host]:
    """The host that tests share. Whoever adds a VM gives it a name of its own."""
    host = boot.boot(minimal, {f"{CONFIG}/host.toml": config.HOST})
    yield host
    host.close()
