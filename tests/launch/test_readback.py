"""What a guest would read: command line and SMBIOS strings, taken out of a real QEMU over its test socket.

fw_cfg(QEMU's docs/specs/fw_cfg): port 0x510 selects an item, port 0x511 reads it byte by byte. The test protocol
(docs/devel/testing/qtest) has one line per command and answer.
"""

import errno
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.hosts import Host
from vmsilo.plan import Credential

pytestmark = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64")

_CMDLINE_SIZE, _CMDLINE, _DIRECTORY = 0x14, 0x15, 0x19

AWKWARD = ("a=b,c", "x,,y", '"quoted part"', "tab\tü", "%s $HOME", "\\n", ",", "=")
CREDENTIALS = (
    Credential("system.hostname", "demo"),
    Credential("empty", ""),
    Credential("a.b-c", 'one,two=three,,four\nfive\0\\" \U0001f427'),
    Credential("long", "x" * 20_000),
)


class Machine:
    """The input and output ports of a QEMU."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        end = time.monotonic() + 10
        while (error := self._socket.connect_ex(str(path))) == errno.ECONNREFUSED and time.monotonic() < end:
            time.sleep(0.01)  # bound, and about to listen
        assert not error, errno.errorcode[error]
        self._stream = self._socket.makefile("rwb")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _command(self, text: str) -> str:
        self._stream.write(text.encode() + b"\n")
        self._stream.flush()
        answer = self._stream.readline().decode().split()
        assert answer[0] == "OK", answer
        return answer[-1]

    def item(self, key: int, size: int) -> bytes:
        """The first *size* bytes of fw_cfg item *key*."""
        self._command(f"outw 0x510 {key:#x}")
        return bytes(int(self._command("inb 0x511"), 16) for _ in range(size))

    def file(self, name: str) -> bytes:
        count = int.from_bytes(self.item(_DIRECTORY, 4))
        entries = self.item(_DIRECTORY, 4 + 64 * count)[4:]
        for size, key, _, found in struct.iter_unpack(">IHH56s", entries):
            if found.rstrip(b"\0") == name.encode():
                return self.item(key, size)
        raise AssertionError(f"no {name}")


@pytest.fixture
def machine(host_with_vsock: Host) -> Iterator[Machine]:
    path = host_with_vsock.directory / "qtest"
    plan = host_with_vsock.plan(
        kernel_params=AWKWARD,
        credentials=CREDENTIALS,
        extra_args=("-qtest", f"unix:{path},server=on,wait=off", "-qtest-log", "/dev/null"),
    )
    host_with_vsock.start(plan)
    host_with_vsock.wait_for(path)
    made = Machine(path)
    yield made
    made.close()


def oem_strings(tables: bytes) -> list[str]:
    """The strings of all type 11 structures in SMBIOS *tables* (DMTF DSP0134)."""
    found = []
    while tables:
        kind, length = tables[0], tables[1]
        end = tables.index(b"\0\0", length)
        if kind == 11:
            found += [text.decode() for text in tables[length:end].split(b"\0")]
        tables = tables[end + 2 :]
    return found


def test_command_line(machine: Machine) -> None:
    size = int.from_bytes(machine.item(_CMDLINE_SIZE, 4), "little")
    line = machine.item(_CMDLINE, size).rstrip(b"\0").decode()
    assert line == " ".join(["console=ttyS0", *AWKWARD, "vmsilo.overlay=raw"])


def test_credentials(machine: Machine) -> None:
    from base64 import b64decode

    strings = oem_strings(machine.file("etc/smbios/smbios-tables"))
    read = {}
    for text in strings:
        name, _, value = text.removeprefix("io.systemd.credential.binary:").partition("=")
        read[name] = b64decode(value).decode()
    expected = {credential.name: credential.value for credential in CREDENTIALS}
    assert read == {**expected, "vmm.notify_socket": "vsock-stream:2:5003"}
