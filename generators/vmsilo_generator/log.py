"""Messages: to the kernel's log when systemd runs the generator, else to stderr.

A generator can't reach the journal: systemd waits for it, so nobody would start journald on its behalf, and what
it prints goes nowhere. The journal reads the kernel's log (systemd.generator(7)).
"""

import os

PROGRAM = "vmsilo-generator"

ERROR = 3  # LOG_ERR of syslog(3)

KMSG = "/dev/kmsg"
# The kernel refuses a record of 1024 bytes with its own prefix (LOG_LINE_MAX in printk.c).
RECORD_MAX = 960


class Log:
    """Where messages go. Lines of one message stay in order."""

    __slots__ = ("_by_systemd", "_kmsg")

    def __init__(self, *, by_systemd: bool, kmsg: str = "") -> None:
        self._by_systemd = by_systemd
        self._kmsg = open_kmsg(kmsg or KMSG) if by_systemd else -1

    def problem(self, message: str) -> None:
        """Something wrong in a file, which the message begins with."""
        self._log(message, "")

    def error(self, message: str) -> None:
        """Something wrong with the run."""
        self._log(message, f"{PROGRAM}: ")

    def _log(self, message: str, prefix: str) -> None:
        for line in message.split("\n"):
            if self._kmsg >= 0 and write_record(self._kmsg, f"<{ERROR}>{PROGRAM}[{os.getpid()}]: {line}"):
                continue
            # A container has no kernel log. Whoever reads what its manager prints knows the same prefixes.
            write_error(f"<{ERROR}>{PROGRAM}: {line}" if self._by_systemd else prefix + line)


def run_by_systemd() -> bool:
    """systemd tells its generators for whom it runs them (since version 251)."""
    return "SYSTEMD_SCOPE" in os.environ


def open_kmsg(path: str) -> int:
    """The descriptor, or -1 where there is no kernel log that may be written."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return -1


def write_error(line: str) -> None:
    try:
        os.write(2, line.encode(errors="backslashreplace") + b"\n")
    except OSError:
        pass  # nobody is there to be told


def write_record(fd: int, line: str) -> bool:
    data = line.encode(errors="backslashreplace")
    if len(data) > RECORD_MAX:
        data = data[:RECORD_MAX].decode(errors="ignore").encode() + "…".encode()
    try:
        os.write(fd, data + b"\n")
    except OSError:
        return False
    return True
