"""The client of QEMU's monitor against servers that behave badly; the starts show it with a real one."""

import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_launch import qmp
from vmsilo.failure import Failure

GREETING = b'{"QMP": {}}\r\n'
DONE = b'{"return": {}}\r\n'
EVENT = b'{"event": "STOP"}\r\n'


def serve(path: Path, *answers: bytes) -> None:
    """Send the first of *answers* on connection, and each further one for a line received; then wait."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        with listener, listener.accept()[0] as connection, connection.makefile("rb") as lines:
            try:
                for answer in answers:
                    connection.sendall(answer)
                    if not lines.readline():
                        return
                lines.readline()
            except OSError:
                pass

    threading.Thread(target=run, daemon=True).start()


def execute(path: Path, seconds: float = 5) -> object:
    with qmp.Monitor(str(path), time.monotonic() + seconds) as monitor:
        return monitor.execute("cont")


def test_events_between(tmp_path: Path) -> None:
    serve(tmp_path / "s", GREETING, EVENT + DONE, EVENT * 3 + b'{"return": 5}\r\n')
    assert execute(tmp_path / "s") == 5


def test_answer_in_pieces(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def run() -> None:
        with listener, listener.accept()[0] as connection:
            for byte in GREETING + DONE + DONE:
                connection.send(bytes([byte]))
            connection.recv(1000)
            connection.recv(1000)

    threading.Thread(target=run, daemon=True).start()
    assert execute(tmp_path / "s") == {}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((b"",), "timed out"),
        ((b"{}\n",), "did not greet"),
        ((b"SSH-2.0\n",), "not QMP"),
        ((b"[]\n",), "not QMP"),
        ((b"[" * 60_000 + b"\n",), "not QMP"),
        ((b"x" * 200_000,), "without end"),
        ((GREETING, b'{"error": {"class": "X", "desc": "no way"}}\n'), "refused qmp_capabilities: no way"),
        ((GREETING, DONE, b'{"error": 5}\n'), "refused cont: 5"),
        ((GREETING, DONE, EVENT * 2000), "did not answer cont"),
        ((GREETING, DONE), "timed out"),
    ],
)
def test_bad_answers(tmp_path: Path, answers: tuple[bytes, ...], message: str) -> None:
    serve(tmp_path / "s", *answers)
    began = time.monotonic()
    with pytest.raises(Failure, match=message):
        execute(tmp_path / "s", 0.5)
    assert time.monotonic() - began < 3


def test_closed(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
    with pytest.raises(Failure):
        execute(tmp_path / "s")
    listener.close()
    with pytest.raises(Failure, match="does not answer"):
        execute(tmp_path / "s")


@given(st.binary(max_size=200))
def test_any_line(line: bytes) -> None:
    try:
        assert isinstance(qmp.parse(line), dict)
    except Failure:
        pass
