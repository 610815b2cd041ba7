"""Wall time of short programs.

Contenders are run in turns, so that what else the machine does hits all of them alike; the ratio of their medians is
what a run is for. posix_spawn and wait4 are called directly: subprocess would add its own milliseconds.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

_QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
]


class Contender(NamedTuple):
    """One way to do the thing that is measured; *once* returns its cost in ms."""

    name: str
    once: Callable[[], float]


class Result(NamedTuple):
    name: str
    samples: tuple[float, ...]  # sorted

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def low(self) -> float:
        return self.samples[0]

    @property
    def high(self) -> float:
        """Nine of ten were faster."""
        return self.samples[min(len(self.samples) - 1, len(self.samples) * 9 // 10)]


def spawn(argv: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a program to its end: wall time in ms. Raises RuntimeError when it fails."""
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), dict(environment), file_actions=_QUIET)
    _, status, _ = os.wait4(pid, 0)
    spent = (time.perf_counter() - start) * 1000
    if status:
        raise RuntimeError(f"{' '.join(argv)}: exit status {os.waitstatus_to_exitcode(status)}")
    return spent


def in_turns(contenders: Sequence[Contender], rounds: int) -> list[Result]:
    """Run every contender once per round; the first round warms caches and does not count."""
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds + 1):
        for contender in contenders:
            spent = contender.once()
            if turn:
                samples[contender.name].append(spent)
    return [Result(name, tuple(sorted(values))) for name, values in samples.items()]
