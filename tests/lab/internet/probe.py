"""What a guest does to find out what it reaches; a result on standard output, and status 1 where there is none.

get ADDRESS [PATH]           HTTP; the answer's body
put ADDRESS BYTES            HTTP; the SHA-256 that the server found, and the one that it should have
echo ADDRESS [BYTES]         UDP port 7; who we are for the server. With a size: not fragmented on the way
ping ADDRESS                 ICMP
dns SERVER NAME [TYPE]       what that server answers: addresses, or the name of an error
tcp ADDRESS PORT             whether somebody takes the connection
"""

import hashlib
import os
import socket
import struct
import sys
import time
from collections.abc import Callable

PATIENCE = 8.0
TYPES = {"A": 1, "AAAA": 28}
ERRORS = {0: "NODATA", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
_MTU_DISCOVER = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_DO = 2


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(address: str, port: int) -> socket.socket:
    connection = socket.socket(family(address), socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    connection.connect((address, port))
    return connection


def request(address: str, head: str, body: bytes = b"") -> bytes:
    with connect(address, 80) as connection:
        connection.sendall(f"{head} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        parts = []
        while part := connection.recv(1 << 20):
            parts.append(part)
    return b"".join(parts).partition(b"\r\n\r\n")[2]


def get(address: str, path: str = "/address") -> str:
    body = request(address, f"GET {path}")
    return body.decode() if len(body) < 1000 else f"{len(body)} bytes"


def put(address: str, size: str) -> str:
    body = os.urandom(int(size))
    return f"{request(address, 'PUT /', body).decode()} {hashlib.sha256(body).hexdigest()}"


def echo(address: str, size: str = "") -> str:
    """A datagram too large for a link on the way is refused by us once a router has said so, and sent smaller."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as ours:
        ours.settimeout(2.0)
        ours.connect((address, 7))
        if size:
            ours.setsockopt(*_MTU_DISCOVER[family(address)], _DO)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                ours.send(b"x" * int(size or 4))
                return ours.recv(65536).split(b" ")[0].decode()
            except OSError:
                if time.monotonic() > end:
                    raise


def ping(address: str) -> str:
    four = family(address) == socket.AF_INET
    protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
    request, reply = (8, 0) if four else (128, 129)
    with socket.socket(family(address), socket.SOCK_RAW, protocol) as ours:
        ours.connect((address, 0))
        packet = struct.pack("!BBHHH", request, 0, 0, os.getpid() & 0xFFFF, 1) + b"ping"
        ours.send(packet[:2] + (checksum(packet) if four else bytes(2)) + packet[4:])
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            ours.settimeout(left)
            answer = ours.recv(2048)
            if answer[20 if four else 0] == reply:
                return "answered"
    raise TimeoutError


def checksum(packet: bytes) -> bytes:
    """RFC 1071; the kernel makes that of ICMPv6."""
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


def dns(server: str, name: str, kind: str = "A") -> str:
    """RFC 1035: one question, recursion desired."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.strip(".").split(".")) + b"\0"
    message = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 0) + question + struct.pack("!2H", TYPES[kind], 1)
    with socket.socket(family(server), socket.SOCK_DGRAM) as ours:
        ours.settimeout(PATIENCE * 2)
        ours.connect((server, 53))
        ours.send(message)
        answer = ours.recv(4096)
    error, count = answer[3] & 15, struct.unpack("!H", answer[6:8])[0]
    found = addresses(answer, len(message), count, TYPES[kind])
    return " ".join(sorted(found)) if found else ERRORS.get(error, str(error))


def addresses(answer: bytes, at: int, count: int, kind: int) -> list[str]:
    found = []
    for _ in range(count):
        while answer[at] and answer[at] < 0xC0:  # labels; a pointer ends the name
            at += answer[at] + 1
        at += 2 if answer[at] else 1
        type_, _, _, size = struct.unpack("!HHIH", answer[at : at + 10])
        if type_ == kind:
            found.append(socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, answer[at + 10 :][:size]))
        at += 10 + size
    return found


def tcp(address: str, port: str) -> str:
    connect(address, int(port)).close()
    return "connected"


def main() -> int:
    verbs: dict[str, Callable[..., str]] = {
        "get": get,
        "put": put,
        "echo": echo,
        "ping": ping,
        "dns": dns,
        "tcp": tcp,
    }
    what, *arguments = sys.argv[1:]
    try:
        print(verbs[what](*arguments))
    except OSError as error:
        print(error.__class__.__name__, error.strerror or error)
        return 1
    return 0


sys.exit(main())
