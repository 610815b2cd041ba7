"""What listens in the internet: HTTP on port 80, and on port 7 UDP that comes back.

Both tell who asked as they see it. GET /address: that alone; GET /zeros/N: N bytes; PUT: the SHA-256 of what was
sent. A datagram comes back behind the sender's address.
"""

import hashlib
import http.server
import socket
import threading

HTTP = 80
ECHO = 7


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if self.path.startswith("/zeros/"):
            self.answer(bytes(int(self.path.removeprefix("/zeros/"))))
        else:
            self.answer(plain(self.client_address[0]).encode())

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        found = hashlib.sha256()
        while left and (part := self.rfile.read(min(left, 65536))):
            found.update(part)
            left -= len(part)
        self.answer(found.hexdigest().encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name that http.server gave it)
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6  # takes IPv4 as well
    request_queue_size = 64


def plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def echo() -> None:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    # The answer has to come from the address that was asked.
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    listener.bind(("::", ECHO))
    while True:
        datagram, control, _, sender = listener.recvmsg(65536, 1024)
        # struct in6_pktinfo: the address, and an interface, which is the routing's business.
        told = [data[:16] for *kind, data in control if kind == [socket.IPPROTO_IPV6, socket.IPV6_PKTINFO]]
        kept = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address + bytes(4)) for address in told]
        answer = f"{plain(sender[0])} ".encode() + datagram
        try:
            listener.sendmsg([answer], kept, 0, sender)
        except OSError:
            pass  # whoever asked has gone, or can't be reached


def main() -> None:
    threading.Thread(target=echo, daemon=True).start()
    Server(("::", HTTP), Handler).serve_forever()


main()
