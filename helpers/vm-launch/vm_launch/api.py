"""A client of cloud-hypervisor's HTTP API, as far as booting and stopping a VM needs it.

HTTP/1.1 over a Unix socket, actions are PUT requests under /api/v1 (cloud-hypervisor's docs/api.md). A request that
worked is answered with 204, or 200 and a body; a failed one with a JSON array of messages, the cause last. What
answers is what a guest breaks out into, so it is bounded in size and time.
"""

import json
import socket
import time
from typing import NamedTuple

from vmsilo.failure import Failure

HEAD_MAX = 16384  # bytes
BODY_MAX = 1 << 20


class Head(NamedTuple):
    status: int
    length: int  # of the body


def put(path: str, action: str, body: str, deadline: float, *, descriptor: int = -1) -> None:
    """Ask the hypervisor at socket *path* for *action*, with the JSON text *body* or none.

    *descriptor*: goes along with it. Raises Failure with its reason if it refuses, or if it has not answered by
    *deadline*.
    """
    try:
        status, answer = _exchange(path, request(action, body), deadline, descriptor)
    except OSError as error:
        raise Failure(f"cloud-hypervisor does not answer {action}: {error}") from None
    if status not in (200, 204):
        raise Failure(f"cloud-hypervisor refused {action}: {reason(answer) or f'HTTP status {status}'}")


def request(action: str, body: str) -> bytes:
    content = body.encode()
    lines = [f"PUT /api/v1/{action} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + content


def parse_head(head: bytes) -> Head:
    """Status and body length of the response with this *head*. Raises Failure if it is not HTTP/1."""
    first, *fields = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or words[0] not in (b"HTTP/1.1", b"HTTP/1.0") or not _number(words[1], 3):
        raise Failure("cloud-hypervisor's answer is not HTTP")
    length = 0
    for field in fields:
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"content-length":
            if not _number(value.strip(), 9):
                raise Failure("cloud-hypervisor's answer has no sensible length")
            length = int(value)
    if length > BODY_MAX:
        raise Failure(f"cloud-hypervisor's answer has {length} bytes")
    return Head(int(words[1]), length)


def reason(body: bytes) -> str:
    """The messages in the *body* of a failed request, on one line."""
    try:
        messages = json.loads(body)
    except (ValueError, RecursionError):
        messages = body.decode("utf-8", "replace")
    if isinstance(messages, list):
        messages = ": ".join(str(message) for message in messages)
    return " ".join(str(messages).split())


def _number(text: bytes, digits: int) -> bool:
    return 0 < len(text) <= digits and text.isdigit()


def _exchange(path: str, message: bytes, deadline: float, descriptor: int) -> tuple[int, bytes]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        _limit(connection, deadline)
        connection.connect(path)
        try:
            sent = socket.send_fds(connection, [message], [descriptor]) if descriptor >= 0 else 0
            connection.sendall(message[sent:])
        except BrokenPipeError:
            pass  # it has seen enough to refuse: the answer says why
        received = b""
        while b"\r\n\r\n" not in received:
            if len(received) > HEAD_MAX:
                raise Failure("cloud-hypervisor's answer does not begin like HTTP")
            received += _receive(connection, deadline)
        head, _, body = received.partition(b"\r\n\r\n")
        status, length = parse_head(head)
        while len(body) < length:
            body += _receive(connection, deadline)
        return status, body[:length]


def _receive(connection: socket.socket, deadline: float) -> bytes:
    _limit(connection, deadline)
    received = connection.recv(65536)
    if not received:
        raise ConnectionError("it closed the connection")
    return received


def _limit(connection: socket.socket, deadline: float) -> None:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(remaining)
