"""Fixtures of the lab. Boots and images are shared: an emulated guest takes seconds to start."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab import boot, config, images
from lab.host import CONFIG, Host


@pytest.fixture(scope="session")
def guest_images() -> dict[str, Path]:
    return {"minimal": images.minimal(), "debian": images.debian()}


@pytest.fixture(scope="session")
def lab(guest_images: dict[str, Path]) -> Iterator[Host]:
    """The host that tests share. Whoever adds a VM gives it a name of its own."""
    host = boot.boot(guest_images, {f"{CONFIG}/host.toml": config.HOST})
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
