"""However much a command moves, each byte costs the same, and nothing is kept."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Rig

MIB = 1 << 20
CHUNK = b"\0" * (256 * 1024)

FEW, MANY = 32, 128  # MiB
GROWTH = 8 * MIB  # of the most that a process had in memory: each may hold a window of every stream


class Echo:
    """A vm-run whose command sends everything back, and the agent at the other end."""

    def __init__(self, rig: Rig) -> None:
        self.client = rig.start("-T", rig.vm, "cat")
        self.move(1)
        (agent,) = rig.agents
        self.ends = {"vm-run": self.client.pid, "agent": agent.pid}

    def move(self, mib: int) -> None:
        """Both ways at once: the pipes and windows on the way hold less than what is under way."""
        assert self.client.stdin
        assert self.client.stdout
        feeder = subprocess.Popen(["head", "-c", str(mib * MIB), "/dev/zero"], stdout=self.client.stdin)
        left = mib * MIB
        while left:
            piece = os.read(self.client.stdout.fileno(), min(left, len(CHUNK)))
            assert piece == CHUNK[: len(piece)]
            assert piece, "the output ended early"
            left -= len(piece)
        assert feeder.wait() == 0

    def spent(self) -> dict[str, float]:
        """Seconds of processor time of each end."""
        return {end: time.clock_gettime(processor_clock(pid)) for end, pid in self.ends.items()}

    def peaks(self) -> dict[str, int]:
        """Bytes that each end had in memory at most."""
        return {end: peak(pid) for end, pid in self.ends.items()}


def processor_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) says; Python has it for threads alone."""
    return ~pid << 3 | 2


def peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


@pytest.fixture
def echo(rig: Rig) -> Iterator[Echo]:
    made = Echo(rig)
    yield made
    made.client.communicate(timeout=20)


def test_a_byte_costs_the_same_however_many_there_are(echo: Echo) -> None:
    times = [echo.spent()]
    for mib in (FEW, MANY):
        echo.move(mib)
        times.append(echo.spent())
    for end in echo.ends:
        before, few, many = (spent[end] for spent in times)
        assert many - few < (few - before) * (MANY // FEW) * 2, f"{end}: {times}"


def test_nothing_is_kept(echo: Echo) -> None:
    echo.move(FEW)
    before = echo.peaks()
    echo.move(MANY)
    for end, most in echo.peaks().items():
        assert most - before[end] < GROWTH, end
