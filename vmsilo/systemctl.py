"""Ask systemd, and have it act, through systemctl(1).

The programs here run as an ordinary user and trust what systemctl prints, but not what a guest can make it print:
a unit's status text may hold anything but a newline.
"""

import os
import select
from typing import NamedTuple

# Systemctl would otherwise start an agent that asks for an administrator's password.
_ALWAYS = ("--no-ask-password", "--no-pager")

_NOT_ALLOWED = ("Access denied", "nteractive authentication required")


class Outcome(NamedTuple):
    """How a systemctl ended."""

    status: int
    out: str
    err: str

    @property
    def not_allowed(self) -> bool:
        """Whether polkit refused."""
        return any(text in self.err for text in _NOT_ALLOWED)

    @property
    def complaint(self) -> str:
        """The first line that systemctl complained with."""
        return self.err.partition("\n")[0] or f"systemctl ended with status {self.status}"


class Running:
    """A systemctl at work; its output is kept in memory, so that nothing has to be read while it runs."""

    __slots__ = ("_err", "_out", "_pid", "_pidfd")

    def __init__(self, arguments: list[str]) -> None:
        """Raises FileNotFoundError where there is no systemctl."""
        self._out = os.memfd_create("stdout")
        self._err = os.memfd_create("stderr")
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_URLIFY": "0"}
        self._pid = os.posix_spawnp(
            "systemctl",
            ["systemctl", *_ALWAYS, *arguments],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, self._out, 1),
                (os.POSIX_SPAWN_DUP2, self._err, 2),
            ],
        )
        self._pidfd = os.pidfd_open(self._pid)

    def ended(self, seconds: float) -> bool:
        """Wait until it ends, at most so long; whether it has ended."""
        waiter = select.poll()
        waiter.register(self._pidfd, select.POLLIN)
        return bool(waiter.poll(seconds * 1000))

    def outcome(self) -> Outcome:
        """Wait for the end; to be called once."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._pidfd)
        return Outcome(status, _text(self._out), _text(self._err))


def _text(memory: int) -> str:
    """All that was written to the memory file, which is closed."""
    os.lseek(memory, 0, os.SEEK_SET)
    with os.fdopen(memory, encoding="utf-8", errors="replace", newline="") as file:
        return file.read()


def each(verb: str, units: list[str], *options: str) -> dict[str, Running]:
    """A systemctl at work for each of the *units*.

    Given several at once, newer versions (262 does) make one request of them, in which polkit is told no unit's name.
    """
    return {unit: Running([*options, verb, "--", unit]) for unit in units}


def run(arguments: list[str]) -> Outcome:
    """Run systemctl to its end."""
    return Running(arguments).outcome()


class UnitState(NamedTuple):
    """What systemd says of one unit."""

    name: str
    load: str  # loaded | not-found | ...
    active: str  # active | activating | deactivating | inactive | failed | ...
    description: str = ""
    status: str = ""  # STATUS= of the unit's main process; may be a guest's words
    result: str = ""  # why the unit failed, as systemd calls it
    memory: int | None = None  # bytes; None where nobody counts
    active_since: int = 0  # microseconds of CLOCK_MONOTONIC; 0 = never
    requires: tuple[str, ...] = ()

    @property
    def stopped(self) -> bool:
        return self.active in ("inactive", "failed")

    @property
    def known(self) -> bool:
        """Whether it has a unit file, or runs although its file is gone."""
        return self.load != "not-found" or not self.stopped


_PROPERTIES = (
    "Id,LoadState,ActiveState,Description,StatusText,Result,MemoryCurrent,ActiveEnterTimestampMonotonic,Requires"
)

# systemd says "[not set]", or up to version 252 the largest number, where memory is not accounted.
_NO_NUMBER = 2**64 - 1


def parse_show(text: str) -> list[UnitState]:
    """Read the output of ``systemctl show``: blocks of ``Key=value`` lines, a blank line between two units.

    Values are taken to the end of their line; a line without "=" is passed over.
    """
    blocks = [block for block in text.split("\n\n") if block.strip("\n")]
    return [_unit_state(dict(_pairs(block))) for block in blocks]


def _pairs(block: str) -> list[tuple[str, str]]:
    split = [line.partition("=") for line in block.split("\n")]
    return [(key, value) for key, separator, value in split if separator]


def _unit_state(values: dict[str, str]) -> UnitState:
    memory = _number(values.get("MemoryCurrent", ""))
    return UnitState(
        name=values.get("Id", ""),
        load=values.get("LoadState", ""),
        active=values.get("ActiveState", ""),
        description=values.get("Description", ""),
        status=values.get("StatusText", ""),
        result=values.get("Result", ""),
        memory=None if memory == _NO_NUMBER else memory,
        active_since=_number(values.get("ActiveEnterTimestampMonotonic", "")) or 0,
        requires=tuple(values.get("Requires", "").split()),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def show(units: list[str]) -> dict[str, UnitState]:
    """The states of *units*, by name; a pattern stands for every matching unit that is in memory.

    Raises OSError where systemd can't be asked.
    """
    outcome = run(["show", "--property=" + _PROPERTIES, "--", *units])
    if outcome.status != 0:
        raise OSError(outcome.complaint)
    return {state.name: state for state in parse_show(outcome.out)}


def unit_files(patterns: list[str]) -> list[str]:
    """Names of the unit files that match, whether their units are in memory or not; sorted.

    Raises OSError where systemd can't be asked.
    """
    outcome = run(["list-unit-files", "--no-legend", "--plain", "--", *patterns])
    # That nothing matches is status 1, too, but no complaint.
    if outcome.status != 0 and outcome.err:
        raise OSError(outcome.complaint)
    return sorted(line.split()[0] for line in outcome.out.split("\n") if line.strip())
