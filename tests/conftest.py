"""Order and selection of the tests: what takes no lab comes first, and the machine last."""

import os
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from lab import cache

# How long an example takes says more about what else the machine does.
settings.register_profile("vmsilo", deadline=None)
settings.load_profile("vmsilo")

HERE = Path(__file__).parent

# Directories whose tests boot a host first: they take minutes, and the others say sooner what is wrong.
BOOTED = ("lab", "machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that boot a host by its kind, and run them last."""
    kinds = {item: item.path.relative_to(HERE).parts[0] for item in items}
    for item, kind in kinds.items():
        if kind in BOOTED:
            item.add_marker(kind)
            # Only when asked for in so many words: a host that can't boot is a failure.
            if os.environ.get(f"VMSILO_SKIP_{kind.upper()}") == "1":
                item.add_marker(pytest.mark.skip(reason=f"VMSILO_SKIP_{kind.upper()}=1"))
    items.sort(key=lambda item: BOOTED.index(kinds[item]) if kinds[item] in BOOTED else -1)


@pytest.fixture(scope="session", autouse=True)
def progress(pytestconfig: pytest.Config) -> Iterator[None]:
    """Steps that take long are announced on the terminal when they begin, not when the tests are over."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    usual = cache.say

    def past_the_capture(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", end="", file=sys.stderr, flush=True)

    cache.say = past_the_capture
    yield
    cache.say = usual


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the journal of the host that the test used says of that time."""
    report = yield
    used = getattr(item, "funcargs", {})
    host = next((used[kind] for kind in BOOTED if kind in used), None)
    if report.failed and host is not None:
        began = item.stash.get(_BEGAN, call.start)
        try:
            lines = host.journal("--output=short-monotonic", since=began).splitlines()
        except Exception as error:
            lines = [f"(the journal can't be read: {error})"]
        report.sections.append(("the host's journal", "\n".join(lines[-200:])))
    return report


_BEGAN = pytest.StashKey[float]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGAN] = time.time()
