"""The way to the virtiofsd of a shared directory, and maps of ids."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.hosts import ROOT, minimal_plan
from vm_launch import idmap, shares
from vmsilo import paths
from vmsilo.failure import Failure
from vmsilo.plan import Plan, Share

FEATURES = struct.pack("=IIIQ", 1, 5, 8, 1 << 30)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A VM with two shares, on a host that has a virtiofsd."""
    program = tmp_path / paths.VIRTIOFSD
    program.touch(0o755)
    monkeypatch.setattr(paths, "VIRTIOFSD_DIRECTORIES", ("/nonexistent", str(tmp_path)))
    return minimal_plan(shares=tuple(Share(tag, str(tmp_path / f"{tag}.socket")) for tag in ("one", "two")))


def serve(share: Share, behave: Callable[[socket.socket], None]) -> None:
    """Listen for one connection, as systemd does before there is a virtiofsd, and *behave* at it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(share.socket)
    listener.listen()

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            behave(connection)

    threading.Thread(target=run, daemon=True).start()


def answer(connection: socket.socket) -> None:
    if connection.recv(12) == struct.pack("=III", 1, 1, 0):
        for byte in FEATURES:  # however it arrives
            connection.sendall(bytes([byte]))
        connection.recv(1)  # until the hypervisor ends


def test_connections_that_work_are_handed_over(plan: Plan) -> None:
    for share in plan.shares:
        serve(share, answer)
    opened = shares.open_all(plan, connect=True)
    assert [(share.tag, share.socket) for share in opened] == [(share.tag, share.socket) for share in plan.shares]
    for connection in [share.connection for share in opened]:
        assert os.get_inheritable(connection)
        assert os.get_blocking(connection)
        os.close(connection)


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (lambda connection: None, "the shared directory two is not served: its virtiofsd has ended"),
        (lambda connection: connection.recv(100) and connection.sendall(b"x" * 20), "does not speak vhost-user"),
        (lambda connection: connection.recv(100) and connection.recv(1), "no answer from"),
    ],
)
def test_one_that_does_not_work_is_named(
    plan: Plan, behave: Callable[[socket.socket], None], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "ANSWER_SECONDS", 0.5)
    serve(plan.shares[0], answer)
    serve(plan.shares[1], behave)
    with pytest.raises(Failure, match=expected) as failure:
        shares.open_all(plan, connect=True)
    assert "vmsilo-demo-virtiofs-two.service" in str(failure.value)


@pytest.mark.parametrize("connect", [True, False])
def test_nobody_listens(plan: Plan, *, connect: bool) -> None:
    with pytest.raises(Failure, match=r"nobody listens for the shared directory one at .*: No such file"):
        shares.open_all(plan, connect=connect)


def test_a_hypervisor_that_connects_by_itself_gets_the_path(plan: Plan) -> None:
    for share in plan.shares:
        serve(share, answer)
    opened = shares.open_all(plan, connect=False)
    assert {share.connection for share in opened} == {-1}
    assert [share.socket for share in opened] == [share.socket for share in plan.shares]


def test_no_virtiofsd(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "VIRTIOFSD_DIRECTORIES", ("/nonexistent", "/etc"))
    with pytest.raises(Failure, match=r"^virtiofsd is not installed.*/nonexistent:/etc"):
        shares.open_all(plan, connect=True)


# Maps.


@pytest.mark.parametrize("text", ["", "0:1:2", ":a:1:2:", ":1:2:3:4:"])
def test_no_map(text: str) -> None:
    with pytest.raises(Failure, match="no map of ids"):
        idmap.parse(text)


SHOW = """
import os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getresuid(), os.getresgid(), os.getgroups(), status["CapEff"].strip())
print(*open("/proc/self/uid_map").read().split(), *open("/proc/self/gid_map").read().split())
os.close(os.open("mine", os.O_CREAT, 0o600))
os.chown("mine", {}, {})
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root maps ids")
@pytest.mark.parametrize("first", [0, 1000])
def test_a_program_with_mapped_ids(first: int, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    script = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'helpers/vm-launch')]}; from vm_launch import main; "
    )
    script += "sys.exit(main.main())"
    maps = (f":{first}:100000:20:", f":{first}:200000:20:")
    show = SHOW.format(first + 3, first + 4)
    done = subprocess.run(
        [sys.executable, "-Ic", script, "map", *maps, "/usr/bin/python3", "-ISc", show],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    identity, written = done.stdout.splitlines()
    assert identity.startswith(f"{(first,) * 3} {(first,) * 3} []")
    assert int(identity.rpartition(" ")[2], 16) & 0b1101_1011 == 0b1101_1011  # over files of those ids
    assert written == f"{first} 100000 20 {first} 200000 20"
    made = (tmp_path / "mine").stat()
    assert (made.st_uid, made.st_gid) == (100003, 200004)
