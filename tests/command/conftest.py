"""A host and a guest without systemd or VM: real vm-run, connector and agent, wired through Unix sockets.

``Rig`` stands for systemd on the host (it accepts at a VM's command socket and starts the connector), for the device
that serves the hybrid vsock, and for systemd in the guest (it accepts and starts the agent).
"""

import getpass
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acceptor import Acceptor

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "helpers/vsock-cmd"
PYTHON = "/usr/bin/python3"
CODE_PATH = (str(ROOT), str(HELPERS))

# vm-run's launcher, with another /run/vmsilo.
_VM_RUN = """\
import sys
sys.path[:0] = {path!r}
from vmsilo import paths
paths.RUN = {run!r}
from vsock_cmd.run import main
sys.exit(main())
"""


class Rig:
    """One VM, called ``demo``; ``user`` is who commands run as unless told otherwise."""

    vm = "demo"

    def __init__(self, directory: Path, user: str) -> None:
        self.directory = directory
        self.user = user
        self.connectors: list[subprocess.Popen[bytes]] = []
        self.agents: list[subprocess.Popen[bytes]] = []
        self.hybrid = directory / "guest.socket"
        self.serve_guest = self._agent  # a test may be the guest itself
        self.serve_client = self._connector  # or systemd
        command = directory / self.vm / "command.socket"
        command.parent.mkdir()
        self._acceptors = [
            self._listen(self.hybrid, self._guest),
            self._listen(command, lambda client: self.serve_client(client)),
        ]
        self.script = directory / "vm-run"
        self.script.write_text(_VM_RUN.format(path=list(CODE_PATH), run=str(directory)))

    def _listen(self, path: Path, serve: Callable[[socket.socket], None]) -> Acceptor:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)

        def serve_and_close(connection: socket.socket) -> None:
            with connection:
                serve(connection)

        return Acceptor(listener, serve_and_close)

    def _connector(self, client: socket.socket) -> None:
        command = [PYTHON, "-IS", f"{HELPERS}/vsock-cmd", "connect", "--cid", "3", "--socket", str(self.hybrid)]
        self.connectors.append(subprocess.Popen(command, stdin=client.fileno()))

    def _guest(self, connection: socket.socket) -> None:
        assert connection.recv(64) == b"CONNECT 5000\n"
        connection.sendall(b"OK 1073741824\n")
        self.serve_guest(connection)

    def _agent(self, connection: socket.socket) -> None:
        command = [PYTHON, "-IS", f"{HELPERS}/agent", "--user", self.user]
        self.agents.append(subprocess.Popen(command, stdin=connection.fileno()))

    def argv(self, *arguments: str) -> list[str]:
        """The command line of a vm-run."""
        return [PYTHON, "-IS", str(self.script), *arguments]

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run vm-run to its end."""
        return subprocess.run(self.argv(*arguments), input=stdin, capture_output=True, timeout=60, check=False)

    def command(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run *arguments* in the VM, without options."""
        return self.run(self.vm, *arguments, stdin=stdin)

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start vm-run on the VM, with pipes."""
        return subprocess.Popen(
            self.argv(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        for process in (*self.connectors, *self.agents):
            try:
                process.wait(20)
            finally:
                process.kill()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, getpass.getuser())
    yield made
    made.close()
