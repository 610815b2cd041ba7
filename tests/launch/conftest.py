"""Fixtures of the tests of vm-launch."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.hosts import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


@pytest.fixture
def host_with_vsock(host: Host) -> Host:
    host.add_vsock_device()
    return host


Golden = Callable[[str, str], None]


@pytest.fixture
def golden() -> Golden:
    """Compare with a file in expected/; VMSILO_REWRITE=1 writes it."""

    def check(name: str, text: str) -> None:
        file = Path(__file__).parent / "expected" / name
        if os.environ.get("VMSILO_REWRITE"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        assert text == file.read_text()

    return check
