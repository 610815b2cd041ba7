"""A server that plays cloud-hypervisor's part of its API, and refuses what the real one refuses.

It knows the calls that a start and a stop make. Status codes: 204 done, 400 for what is not JSON, not the VM's
description, or not a known method; 404 for an unknown path or a VM that was not created; 500 for a call out of turn;
413 beyond the real one's limit of 4 MiB. A refusal has a JSON array of messages as body.
"""

import json
import socket
from pathlib import Path
from typing import NamedTuple

import jsonschema
from acceptor import Acceptor

SCHEMA = json.loads((Path(__file__).parent / "vm_config.schema.json").read_text())
BODY_MAX = 4 << 20


class Answer(NamedTuple):
    status: int
    messages: tuple[str, ...] = ()


class Api:
    """Serves *listener*; `calls` are the actions that were carried out, `config` is the VM it was given."""

    def __init__(self, listener: socket.socket) -> None:
        self.calls: list[str] = []
        self.config: object = None
        self.booted = False
        self.close = Acceptor(listener, self._serve).close

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            answer = self._read_and_do(stream.readline(), dict(self._fields(stream)), stream)
            body = json.dumps(answer.messages).encode() if answer.messages else b""
            head = f"HTTP/1.1 {answer.status} X\r\nServer: fake\r\nContent-Length: {len(body)}\r\n\r\n"
            try:
                stream.write(head.encode() + body)
                stream.flush()
            except OSError:
                pass

    def _fields(self, stream) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
        fields = []
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            fields.append((name.lower(), value.strip()))
        return fields

    def _read_and_do(self, first: bytes, fields: dict[str, str], stream) -> Answer:  # type: ignore[no-untyped-def]
        method, path, version = first.decode().split()
        length = int(fields.get("content-length", "0"))
        if version != "HTTP/1.1" or method != "PUT":
            return Answer(400, ("unsupported method or version",))
        if length > BODY_MAX:
            return Answer(413, ("payload too large",))
        return self.do(path, stream.read(length))

    def do(self, path: str, body: bytes) -> Answer:
        """Carry out a PUT request."""
        match path:
            case "/api/v1/vm.create":
                answer = self._create(body)
            case "/api/v1/vm.boot":
                answer = self._boot(body)
            case "/api/v1/vm.power-button":
                answer = self._power_button(body)
            case _:
                return Answer(404, ("no such path",))
        if answer.status == 204:
            self.calls.append(path.rpartition("/")[2])
        return answer

    def _create(self, body: bytes) -> Answer:
        if self.config is not None:
            return Answer(500, ("The VM could not be created", "VM is already created"))
        try:
            config = json.loads(body)
            jsonschema.validate(config, SCHEMA)
        except (ValueError, jsonschema.ValidationError) as error:
            return Answer(400, ("Failed to parse the request", str(error).splitlines()[0]))
        self.config = config
        return Answer(204)

    def _boot(self, body: bytes) -> Answer:
        if body:
            return Answer(400, ("unexpected body",))
        if self.config is None:
            return Answer(404, ("The VM could not boot", "VM is not created"))
        if self.booted:
            return Answer(500, ("The VM could not boot", "VM is already running"))
        self.booted = True
        return Answer(204)

    def _power_button(self, body: bytes) -> Answer:
        if body:
            return Answer(400, ("unexpected body",))
        if not self.booted:
            return Answer(404, ("The power button could not be triggered", "VM is not running"))
        return Answer(204)
