"""A server that plays cloud-hypervisor's part of its API, and refuses what the real one refuses.

It knows the calls that a start and a stop make. Status codes: 204 done, 400 for what is not JSON, not the VM's
description, or not a known method; 404 for an unknown path or a VM that was not created; 500 for a call out of turn;
413 beyond the real one's limit of 4 MiB. A refusal has a JSON array of messages as body.
"""

import json
import os
import socket
from pathlib import Path
from typing import NamedTuple

import jsonschema
from acceptor import Acceptor

SCHEMA = json.loads((Path(__file__).parent / "vm_config.schema.json").read_text())
NET_SCHEMA = {**SCHEMA, "$ref": "#/$defs/NetConfig"}
BODY_MAX = 4 << 20


READ_SIZE = 1024  # the real one takes descriptors with the bytes that it reads together with them
DESCRIPTORS_MAX = 253


class Answer(NamedTuple):
    status: int
    messages: tuple[str, ...] = ()
    found: object = None  # the body of an answer that has one


class Request(NamedTuple):
    method: str
    path: str
    body: bytes
    descriptors: list[int]


class Api:
    """Serves *listener*; `calls` are the actions that were carried out, `config` is the VM it was given.

    `nics` are the network interfaces that were added, in that order, each with its TAP.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.calls: list[str] = []
        self.config: object = None
        self.nics: dict[str, int] = {}
        self.deaf = False  # a guest that gives no device back
        self.booted = False
        self.close = Acceptor(listener, self._serve).close

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            request = self._read(connection)
            answer = request if isinstance(request, Answer) else self.do(request)
            body = b""
            if answer.messages or answer.found is not None:
                body = json.dumps(answer.messages or answer.found).encode()
            head = f"HTTP/1.1 {answer.status} X\r\nServer: fake\r\nContent-Length: {len(body)}\r\n\r\n"
            try:
                connection.sendall(head.encode() + body)
            except OSError:
                pass

    def _read(self, connection: socket.socket) -> Request | Answer:
        received, descriptors = b"", []
        while b"\r\n\r\n" not in received:
            read, more, _, _ = socket.recv_fds(connection, READ_SIZE, DESCRIPTORS_MAX)
            descriptors += more
            received += read
            if not read:
                return Answer(400, ("the connection was closed",))
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, version = first.split()
        fields = dict(line.lower().split(": ", 1) for line in lines)
        length = int(fields.get("content-length", "0"))
        if version != "HTTP/1.1" or method not in ("GET", "PUT"):
            return Answer(400, ("unsupported method or version",))
        if length > BODY_MAX:
            return Answer(413, ("payload too large",))
        while len(body) < length:
            read, more, _, _ = socket.recv_fds(connection, READ_SIZE, DESCRIPTORS_MAX)
            descriptors += more
            body += read
        return Request(method, path, body, descriptors)

    def do(self, request: Request) -> Answer:
        match request.method, request.path.removeprefix("/api/v1/"):
            case "PUT", "vm.create":
                answer = self._create(request.body)
            case "PUT", "vm.add-net":
                answer = self._add_net(request)
            case "PUT", "vm.remove-device":
                answer = self._remove_device(request.body)
            case "PUT", "vm.boot":
                answer = self._boot(request.body)
            case "PUT", "vm.power-button":
                answer = self._power_button(request.body)
            case "GET", "vm.info":
                return self._info()
            case _:
                return Answer(404, ("no such path",))
        if answer.status in (200, 204):
            self.calls.append(request.path.rpartition("/")[2])
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

    def _add_net(self, request: Request) -> Answer:
        what = "The network device could not be added to the VM"
        try:
            nic = json.loads(request.body)
            jsonschema.validate(nic, NET_SCHEMA)
        except (ValueError, jsonschema.ValidationError) as error:
            return Answer(400, ("Failed to parse the request", str(error).splitlines()[0]))
        if self.config is None:
            return Answer(404, (what, "VM is not created"))
        if len(request.descriptors) * 2 != nic.get("num_queues", 2):
            return Answer(500, (what, "Number of queues does not match the number of descriptors"))
        if nic["id"].startswith("__") or nic["id"] in self.nics:
            return Answer(500, (what, f"Identifier {nic['id']} is not unique"))
        self.nics[nic["id"]] = request.descriptors[0]
        return Answer(200, found={"id": nic["id"], "bdf": "0000:00:05.0"}) if self.booted else Answer(204)

    def _remove_device(self, body: bytes) -> Answer:
        removed = json.loads(body)["id"]
        if not self.booted or removed not in self.nics:
            return Answer(404, ("The device could not be removed", f"Unknown device {removed}"))
        if not self.deaf:
            os.close(self.nics.pop(removed))
        return Answer(204)

    def _info(self) -> Answer:
        if self.config is None:
            return Answer(404, ("The VM info is not available", "VM is not created"))
        tree = {"__vsock": {"id": "__vsock", "children": [], "resources": []}}
        tree |= {nic: {"id": nic, "children": [], "resources": []} for nic in self.nics}
        return Answer(200, found={"config": self.config, "state": "Running", "device_tree": tree})

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
