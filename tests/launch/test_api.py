"""The client of cloud-hypervisor's API: against a server as strict as the real one, and against a hostile one."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.fake_api import Api
from launch.test_argv import minimal
from vm_launch import api, keeper
from vm_launch.hypervisor import Target, find, nic_id
from vmsilo.failure import Failure
from vmsilo.plan import Nic

CH = find("cloud-hypervisor")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Api]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.socket"))
    listener.listen()
    made = Api(listener)
    yield made
    made.close()


def target(directory: Path, config: str = "", seconds: float = 5) -> Target:
    (directory / "vm.json").write_text(config)
    return Target("", str(directory / "control.socket"), str(directory / "vm.json"), time.monotonic() + seconds)


def test_boot_and_power_button(server: Api, tmp_path: Path) -> None:
    config = CH.config(*minimal("cloud-hypervisor"))
    CH.boot(target(tmp_path, config))
    assert server.config == json.loads(config)
    CH.press_power_button(target(tmp_path))
    assert server.calls == ["vm.create", "vm.boot", "vm.power-button"]


def test_what_is_refused_is_said(server: Api, tmp_path: Path) -> None:
    here = target(tmp_path, CH.config(*minimal("cloud-hypervisor")))
    with pytest.raises(Failure, match=r"refused vm.power-button: The power button could not .*: VM is not running"):
        CH.press_power_button(here)
    with pytest.raises(Failure, match=r"refused vm.boot: The VM could not boot: VM is not created"):
        api.put(here.socket, "vm.boot", "", here.deadline)
    CH.boot(here)
    with pytest.raises(Failure, match=r"refused vm.create: .*already created"):
        CH.boot(here)


def test_network_interfaces_come_before_the_guest_runs(server: Api, tmp_path: Path) -> None:
    """Each with its TAP, which goes from hand to hand."""
    taps = [os.open(tmp_path / f"tap-{number}", os.O_RDWR | os.O_CREAT) for number in range(2)]
    keep_aside(tmp_path / "taps.socket", taps)
    nics = tuple(Nic(name, f"52:00:00:00:00:0{name}", f"tap-{name}", "", (), "") for name in "01")
    here = target(tmp_path, CH.config(*minimal("cloud-hypervisor")))
    CH.boot(here._replace(nics=nics, taps=str(tmp_path / "taps.socket")))
    assert server.calls == ["vm.create", "vm.add-net", "vm.add-net", "vm.boot"]
    assert list(server.nics) == [nic_id(nic) for nic in nics]
    paths = [str(tmp_path / f"tap-{number}") for number in range(2)]
    assert [os.readlink(f"/proc/self/fd/{tap}") for tap in server.nics.values()] == paths
    # The server is in this process, too, and has them alone.
    opened = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.lexists(link.path)]
    assert sorted(set(paths) & set(opened)) == paths
    assert len([path for path in opened if path in paths]) == 2


def keep_aside(path: Path, descriptors: list[int]) -> None:
    """keeper.keep() as the process does it that becomes the hypervisor."""
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        keeper.keep(str(path), descriptors, time.monotonic() + 5)
        os.write(ready[1], b".")
        time.sleep(5)
        os._exit(0)
    os.read(ready[0], 1)
    for descriptor in (*ready, *descriptors):
        os.close(descriptor)


def test_taps_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"cannot get the TAPs from .*: No such file"):
        keeper.fetch(str(tmp_path / "taps.socket"), 1, time.monotonic() + 5)
    keep_aside(tmp_path / "taps.socket", [os.open("/dev/null", os.O_RDONLY)])
    with pytest.raises(Failure, match=r"2 TAPs were to be at .*, and there are 1"):
        keeper.fetch(str(tmp_path / "taps.socket"), 2, time.monotonic() + 5)
    assert not (tmp_path / "taps.socket").exists()


@pytest.mark.parametrize(
    ("action", "body", "message"),
    [
        ("vm.create", "{", "Failed to parse"),
        ("vm.create", "[]", "Failed to parse"),
        ("vm.create", '{"disk": []}', "Failed to parse"),
        ("vm.create", " " * (4 << 20) + "{}", "payload too large"),
        ("vm.boot", "{}", "unexpected body"),
        ("vm.add-net", '{"id": "a"}', "VM is not created"),
        ("vm.add-net", '{"id": "a", "ma": "52:00:00:00:00:00"}', "Failed to parse"),
        ("vm.explode", "", "no such path"),
    ],
)
def test_strict(server: Api, tmp_path: Path, action: str, body: str, message: str) -> None:
    """The fake has teeth."""
    with pytest.raises(Failure, match=message):
        api.put(str(tmp_path / "control.socket"), action, body, time.monotonic() + 5)
    assert server.calls == []


def hostile(path: Path, answer: bytes, *, then_close: bool) -> None:
    """A server that answers *answer*, whatever it is asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            try:
                connection.sendall(answer)
                if not then_close:
                    connection.recv(1)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 204", "closed the connection"),
        (b"SSH-2.0\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "no sensible length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n", "has 999999999 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "closed the connection"),
        (b"x" * 1_000_000, "does not begin like HTTP"),
        ("HTTP/1.1 ²⁰⁴ OK\r\n\r\n".encode(), "is not HTTP"),
    ],
)
def test_hostile_answers(tmp_path: Path, answer: bytes, message: str) -> None:
    hostile(tmp_path / "s", answer, then_close=True)
    with pytest.raises(Failure, match=message):
        api.put(str(tmp_path / "s"), "vm.boot", "", time.monotonic() + 5)


def test_silence_has_an_end(tmp_path: Path) -> None:
    hostile(tmp_path / "s", b"HTTP/1.1 2", then_close=False)
    began = time.monotonic()
    with pytest.raises(Failure, match="timed out"):
        api.put(str(tmp_path / "s"), "vm.boot", "", began + 0.3)
    assert time.monotonic() - began < 3


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"does not answer vm\.boot"):
        api.put(str(tmp_path / "s"), "vm.boot", "", time.monotonic() + 5)


@given(st.binary(max_size=300))
def test_any_head(head: bytes) -> None:
    try:
        parsed = api.parse_head(head)
    except Failure:
        return
    assert 0 <= parsed.status <= 999
    assert 0 <= parsed.length <= api.BODY_MAX


@given(
    st.binary(max_size=300) | st.recursive(st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_reason_is_one_line(body: bytes) -> None:
    assert "\n" not in api.reason(body)


def test_deep_json() -> None:
    assert api.reason(b"[" * 100_000)


def test_request() -> None:
    assert (
        api.request("vm.boot", "") == b"PUT /api/v1/vm.boot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    )
    with_body = api.request("vm.create", "{ü}")
    assert b"\r\nContent-Length: 4\r\n" in with_body
    assert with_body.endswith("\r\n\r\n{ü}".encode())
