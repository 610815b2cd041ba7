"""Order and selection of the tests: what takes no lab comes first."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about what else the machine does.
settings.register_profile("vmsilo", deadline=None)
settings.load_profile("vmsilo")

LAB = Path(__file__).parent / "lab"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the lab's tests, and run them last: they take minutes, and the others say sooner what is wrong."""
    in_lab = [item for item in items if item.path.is_relative_to(LAB)]
    others = [item for item in items if not item.path.is_relative_to(LAB)]
    for item in in_lab:
        item.add_marker(pytest.mark.lab)
        # Only when asked for in so many words: a lab that can't boot is a failure.
        if os.environ.get("VMSILO_SKIP_LAB") == "1":
            item.add_marker(pytest.mark.skip(reason="VMSILO_SKIP_LAB=1"))
    items[:] = others + in_lab
