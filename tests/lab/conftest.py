"""Fixtures of the lab. Boots and images are shared: an emulated guest takes seconds to start."""

import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab import boot, cache, config, images
from lab.host import CONFIG, Host


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the lab's journal says of that time."""
    report = yield
    host = getattr(item, "funcargs", {}).get("lab")
    if report.failed and host is not None:
        began = item.stash.get(_BEGAN, call.start)
        try:
            lines = host.journal("--output=short-monotonic", since=began).splitlines()
        except Exception as error:
            lines = [f"(the journal can't be read: {error})"]
        report.sections.append(("the lab's journal", "\n".join(lines[-200:])))
    return report


_BEGAN = pytest.StashKey[float]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGAN] = time.time()
