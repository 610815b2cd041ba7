"""The handle on a running machine: the lab's, but for how it is reached and ended."""

import subprocess
import sys
from pathlib import Path

from lab.host import Host

CLIENT = Path(__file__).with_name("client.py")


class Machine(Host):
    """A running machine; nothing of ours runs in it but the agent and what a test starts."""

    def __init__(self, emulator: "subprocess.Popen[bytes]", directory: Path) -> None:
        """*emulator* is QEMU, whose sockets and console are in *directory*."""
        super().__init__(emulator.pid, emulator, directory / "console")
        self.directory = directory

    def enter(self) -> list[str]:
        return [sys.executable, "-IS", str(CLIENT), str(self.directory)]

    def close(self) -> None:
        """Power off at the wall."""
        self.supervisor.kill()
        self.supervisor.wait()
