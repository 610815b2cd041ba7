#!/usr/bin/python3 -IS
"""Runs one command in the machine as if it ran here: input, output, exit status, or the signal that ended it.

    client.py DIRECTORY COMMAND [ARGUMENT...]

DIRECTORY holds the sockets of the machine's ports, of which one is taken that nobody else has. agent.py is at the
other end, and says what is spoken.
"""

import fcntl
import glob
import json
import os
import select
import signal
import socket
import sys
import time
from binascii import a2b_base64, b2a_base64

PIECE = 32768  # bytes of input in a message


def take_port(directory: str) -> socket.socket:
    """A connection to a port that is free. The lock on its file ends with this process."""
    while True:
        for path in sorted(glob.glob(f"{directory}/port-*.socket")):
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            port.connect(path)
            return port
        time.sleep(0.02)


def send(port: socket.socket, number: str, **values: object) -> None:
    port.sendall(json.dumps({"id": number, **values}).encode() + b"\n")


def main() -> int:
    directory, *argv = sys.argv[1:]
    port = take_port(directory)
    number = f"{os.getpid()}-{time.monotonic_ns()}"
    port.sendall(b"\n")  # ends what a client before us may have left half said
    send(port, number, argv=argv)
    poll = select.poll()
    poll.register(port, select.POLLIN)
    poll.register(0, select.POLLIN)
    buffer = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if 0 in ready:
            piece = os.read(0, PIECE)
            send(port, number, **{"in": b2a_base64(piece, newline=False).decode()})
            if not piece:
                poll.unregister(0)
        if port.fileno() not in ready:
            continue
        received = port.recv(1 << 20)
        if not received:
            sys.stderr.write("the machine is gone\n")
            return 255
        *lines, buffer = (buffer + received).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["id"] != number:
                continue
            if "code" in message:
                return int(message["code"])
            descriptor, data = (1, message["out"]) if "out" in message else (2, message["err"])
            data = a2b_base64(data)
            while data:
                data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    status = main()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if status != -signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)
