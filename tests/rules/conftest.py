"""Worlds of network namespaces."""

import os
from collections.abc import Callable, Iterator

import pytest

from rules.spaces import Space

NewSpace = Callable[[str], Space]


@pytest.fixture
def new_space() -> Iterator[NewSpace]:
    """Makes namespaces, gone after the test."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    made: list[Space] = []

    def new(name: str) -> Space:
        made.append(Space(name))
        return made[-1]

    yield new
    for space in made:
        space.close()
