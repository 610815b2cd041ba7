"""Programs that are started as cloud-hypervisor or crosvm would be, and answer as much as a start and a stop ask.

Usage: fake_hypervisor.py cloud-hypervisor|crosvm ARGUMENT... They end when the power button is pressed, and
report what they were given in files beside their control socket.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path


def cloud_hypervisor(arguments: list[str]) -> None:
    from launch.fake_api import Api

    if arguments[:1] != ["--api-socket"] or not arguments[1].startswith("fd="):
        sys.exit("unexpected arguments")
    listener = socket.socket(fileno=int(arguments[1].removeprefix("fd=")))
    directory = Path(listener.getsockname()).parent
    api = Api(listener)
    while not api.booted:
        time.sleep(0.01)
    # Input is taken from a terminal only.
    assert os.isatty(0)
    (directory / "config.seen").write_text(json.dumps(api.config))
    os.write(1, b"booted\r\n")
    os.write(1, os.read(0, 100))
    while "vm.power-button" not in api.calls:
        time.sleep(0.01)


def crosvm(arguments: list[str]) -> None:
    """One program is hypervisor and client: here, requests are the words of the commands."""
    path = arguments[-1]
    if "run" not in arguments:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path)
            client.send(" ".join(arguments[:-1]).encode())
            sys.exit(0 if client.recv(100) == b"Ok" else 1)
    listener = socket.socket(fileno=int(arguments[arguments.index("--socket") + 1].rpartition("/")[2]))
    assert listener.type == socket.SOCK_SEQPACKET
    assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    pivot_root = Path(arguments[arguments.index("--pivot-root") + 1])
    assert not list(pivot_root.iterdir())
    seen = Path(listener.getsockname()).parent / "requests.seen"
    while True:
        client, _ = listener.accept()
        request = client.recv(100).decode()
        with seen.open("a") as log:
            log.write(request + "\n")
        if request == "--no-syslog resume --full" and os.environ.get("FAKE_REFUSES"):
            client.send(b"Err")
        elif request == "--no-syslog resume --full" and os.environ.get("FAKE_HANGS"):
            time.sleep(60)
        else:
            client.send(b"Ok")
        if request.endswith("powerbtn"):
            return


if __name__ == "__main__":
    {"cloud-hypervisor": cloud_hypervisor, "crosvm": crosvm}[sys.argv[1]](sys.argv[2:])
