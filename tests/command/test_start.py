"""What a command costs before it does anything: the modules that are loaded, which a stopwatch could not judge."""

import subprocess

import pytest

from .conftest import CODE_PATH, PYTHON

# Each of them costs more than all of ours together, or brings one that does.
COSTLY = {
    "argparse", "asyncio", "cbor2", "collections", "ctypes", "enum", "json", "logging", "re", "signal", "socket",
    "subprocess", "termios", "typing",
}  # fmt: skip


@pytest.mark.parametrize("module", ["run", "agent", "main", "connect"])
def test_nothing_costly_is_imported(module: str) -> None:
    script = f"import sys\nsys.path[:0] = {list(CODE_PATH)!r}\nimport vsock_cmd.{module}\nprint(*sys.modules)"
    loaded = subprocess.run([PYTHON, "-IS", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert f"vsock_cmd.{module}" in loaded
    assert sorted(COSTLY & set(loaded)) == []
