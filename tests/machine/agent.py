#!/usr/bin/python3 -I
"""Runs commands in the machine for client.py, one at a time for each of its virtio-serial ports.

Both ways go JSON objects, one a line. Each carries the "id" of the command it belongs to, so what is left of a client
that was killed is nobody's.

To here: {"id", "argv"} starts a command, {"id", "in"} is input for it in base64, empty at its end.
From here: {"id", "out"} and {"id", "err"} in base64, and at last {"id", "code"}: exit status, or minus the signal.
A client that goes away takes its command with it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import IO, Any

POLL = 0.05  # seconds between looks for a client
# Looks that find none, one after the other, after which it is gone. Data may overtake the word of who has come and
# gone, so when the next client is there already, the end of the one before may still be to come.
LOOKS = 10


class Port:
    """One port, with the command that runs on its behalf."""

    def __init__(self, device: str) -> None:
        self.descriptor = os.open(device, os.O_RDWR)
        self.lock = threading.Lock()
        self.command: subprocess.Popen[bytes] | None = None
        self.id = ""

    def serve(self) -> None:
        buffer = b""
        absent = 0
        while True:
            received = os.read(self.descriptor, 65536)
            if not received:  # there is no client
                absent += 1
                if absent == LOOKS:
                    self.kill()
                time.sleep(POLL)
                continue
            absent = 0
            *lines, buffer = (buffer + received).split(b"\n")
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:  # the end of a dead client's line
                    continue
                self.obey(message)

    def obey(self, message: dict[str, Any]) -> None:
        if "argv" in message:
            self.kill()
            self.start(message["id"], message["argv"])
        elif message["id"] == self.id and self.command and self.command.stdin:
            try:
                if message["in"]:
                    self.command.stdin.write(b64decode(message["in"]))
                    self.command.stdin.flush()
                else:
                    self.command.stdin.close()
            except (BrokenPipeError, ValueError):
                pass  # it reads no more

    def start(self, number: str, argv: list[str]) -> None:
        self.id = number
        try:
            command = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            self.send(number, err=b64encode(f"{argv[0]}: {error}\n".encode()).decode())
            self.send(number, code=127)
            return
        self.command = command
        threading.Thread(target=self.follow, args=(number, command), daemon=True).start()

    def follow(self, number: str, command: "subprocess.Popen[bytes]") -> None:
        """Pass on what *command* says, then its end."""
        assert command.stdout
        assert command.stderr
        pumps = [
            threading.Thread(target=self.pump, args=(number, name, pipe), daemon=True)
            for name, pipe in (("out", command.stdout), ("err", command.stderr))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self.send(number, code=command.wait())

    def pump(self, number: str, name: str, pipe: IO[bytes]) -> None:
        while piece := os.read(pipe.fileno(), 32768):
            self.send(number, **{name: b64encode(piece).decode()})

    def send(self, number: str, **values: str | int) -> None:
        line = json.dumps({"id": number, **values}).encode() + b"\n"
        with self.lock:
            while line:
                line = line[os.write(self.descriptor, line) :]

    def kill(self) -> None:
        """End the command, if one is running, with all that it has started."""
        if self.command and self.command.poll() is None:
            os.killpg(self.command.pid, signal.SIGKILL)
            self.command.wait()
        self.command = None


def main() -> None:
    """Serve the ports whose names begin with the only argument, for ever."""
    for entry in sorted(Path("/sys/class/virtio-ports").iterdir()):
        name = entry / "name"
        if name.exists() and name.read_text().startswith(sys.argv[1]):
            threading.Thread(target=Port(f"/dev/{entry.name}").serve).start()


if __name__ == "__main__":
    main()
