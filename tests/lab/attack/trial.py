"""One attempt, and how it ended."""

import errno
import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PATIENCE = 5  # seconds; who isn't answered by then got nowhere

FAULT = "FAULT"  # what the detail of an attempt begins with that went wrong by itself

_OUTPUT_MAX = 4096  # of what an attempt that succeeded says
_EVIDENCE_MAX = 100


class Refused(Exception):
    """The attempt got nowhere: why."""


class Attempt(NamedTuple):
    group: str
    what: str
    act: Callable[[], object]  # raises OSError or Refused; what it returns is evidence that it did not


class Scene(NamedTuple):
    """What the host has that is worth reaching. The test writes it down for the attacker, see attack.main."""

    victim: str  # another VM, which is running
    victim_uid: int
    victim_pid: int  # of its hypervisor
    files: dict[str, str]  # by what they are: all of them would let any user of the host read them
    writable: dict[str, str]  # these, write
    directories: dict[str, str]  # something of others that is in each
    sockets: list[str]  # a program listens at each
    abstract: str  # the name of a socket that any process in the host's network can connect to
    addresses: list[tuple[str, int]]  # where a program of the host listens
    cid: int  # of the victim's vsock
    own: str  # a directory that the attacker may write; "": he finds out
    setuid: str  # a program that would run as root
    terminal: str  # of a user
    mark: str  # what two attackers who want to meet call themselves


class Row(NamedTuple):
    """How an attempt ended."""

    group: str
    what: str
    succeeded: bool
    detail: str


def perform(attempt: Attempt) -> Row:
    """Make *attempt* in a process of its own, with which its effects end; in this one where that can't be."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        return Row(attempt.group, attempt.what, *outcome(attempt))
    if child == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(reader)
        os.write(writer, json.dumps(outcome(attempt)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        said = _read(stream.fileno(), time.monotonic() + PATIENCE)
    if said is None:
        os.kill(child, signal.SIGKILL)
        return Row(attempt.group, attempt.what, succeeded=False, detail="no answer")
    if not said:
        return Row(attempt.group, attempt.what, succeeded=False, detail="killed")
    return Row(attempt.group, attempt.what, *json.loads(said))


def _read(descriptor: int, deadline: float) -> bytes | None:
    """All that is said until the end; None if that doesn't come in time."""
    said = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        received = os.read(descriptor, _OUTPUT_MAX)
        if not received:
            return said
        said += received
    return None


def outcome(attempt: Attempt) -> tuple[bool, str]:
    """Whether it succeeded, and the evidence or what kept it from it."""
    try:
        evidence = attempt.act()
    except OSError as error:
        return False, name(error)
    except Refused as refused:
        return False, str(refused)
    except BaseException as fault:  # of ours: it must not pass for a refusal
        return True, f"{FAULT} {fault!r}"
    return True, repr(evidence)[:_EVIDENCE_MAX] if evidence is not None else ""


def name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def report(rows: list[Row]) -> str:
    return json.dumps([list(row) for row in rows]) + "\n"


def scene(text: str) -> Scene:
    fields: dict[str, Any] = json.loads(text)
    return Scene(**fields)
