"""What root opens for a VM: the way to it, the lock, the right to it, and the store that hands it over."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.hosts import ROOT, Host, minimal_plan
from vm_launch import acl, chase, disks, hugepages, lend, sockets, store
from vmsilo import names, paths
from vmsilo.failure import EX_CONFIG, EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure
from vmsilo.plan import Disk, Plan, VhostUser, dumps

ALICE, MALLORY = 61000, 61001  # nobody's ids

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of alice's."""
    made = tmp_path / "home"
    made.mkdir()
    os.chown(made, ALICE, ALICE)
    return made


def owned(path: Path, owner: int) -> Path:
    if not path.is_symlink() and not path.exists():
        path.write_text(path.name)
    os.chown(path, owner, owner, follow_symlinks=False)
    return path


def link(path: Path, target: str | Path, owner: int) -> Path:
    path.symlink_to(target)
    return owned(path, owner)


def led_to(path: Path) -> str:
    found = chase.chase(str(path))
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


# The way.


@needs_root
def test_a_way_within_one_users_files(home: Path) -> None:
    disk = owned(home / "disk", ALICE)
    for path in (disk, link(home / "relative", "disk", ALICE), link(home / "again", "./relative", ALICE)):
        assert led_to(path) == str(disk)


@needs_root
def test_roots_links_lead_anywhere(tmp_path: Path, home: Path) -> None:
    disk = owned(home / "disk", ALICE)
    assert led_to(link(tmp_path / "absolute", disk, 0)) == str(disk)
    assert led_to(link(tmp_path / "relative", "home/../home/disk", 0).parent / "home/disk") == str(disk)


@needs_root
@pytest.mark.parametrize("target", ["/etc/shadow", "{}/secret", "../secret", "chain", "foreign"])
def test_another_users_links_do_not(tmp_path: Path, home: Path, target: str) -> None:
    owned(tmp_path / "secret", 0)
    owned(home / "foreign", MALLORY)
    link(home / "chain", "/etc/../etc/shadow", ALICE)
    path = link(home / "link", target.format(tmp_path), ALICE)
    with pytest.raises(chase.UnsafeError):
        chase.chase(str(path))


@needs_root
def test_nor_what_is_put_into_their_directories(home: Path) -> None:
    """A file of root's may have been there before: whoever owns the directory can swap it."""
    with pytest.raises(Failure, match=rf"belongs to {ALICE}, what it leads to belongs to root") as error:
        chase.reach(str(owned(home / "disk", 0)), "disk", "reading")
    assert error.value.code == EX_NOPERM


def test_a_circle_of_links(tmp_path: Path) -> None:
    link(tmp_path / "a", "b", os.geteuid())
    link(tmp_path / "b", "a", os.geteuid())
    with pytest.raises(OSError, match="levels of symbolic links"):
        chase.chase(str(tmp_path / "a"))


def test_descriptors_do_not_pile_up(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    link(tmp_path / "link", "disk", os.geteuid())
    before = len(os.listdir("/proc/self/fd"))
    for path in ("disk", "link", "none"):
        try:
            os.close(chase.chase(str(tmp_path / path)))
        except FileNotFoundError:
            assert path == "none"
    assert len(os.listdir("/proc/self/fd")) == before


# A directory, which may be anybody's.


def found(path: Path) -> str:
    descriptor = chase.chase(str(path), directory=True)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def made(path: Path, owner: int) -> Path:
    path.mkdir()
    os.chown(path, owner, owner)
    return path


@needs_root
def test_directories_of_several_users(tmp_path: Path, home: Path) -> None:
    tree = made(made(home / "tree", 100000) / "root", 0)
    assert found(tree) == str(tree)
    link(tmp_path / "link", "home/tree", 0)
    assert found(tmp_path / "link" / "root") == str(tree)
    made(home / "own", ALICE)
    assert found(link(home / "short", "own", ALICE)) == str(home / "own")


@needs_root
@pytest.mark.parametrize("owner", [0, ALICE, MALLORY])
@pytest.mark.parametrize("target", ["/etc", "../secret", "tree", "own/../../secret", "chain"])
def test_links_of_users_lead_to_no_directory_of_others(tmp_path: Path, home: Path, target: str, owner: int) -> None:
    """Nor do those of root that a user can have moved there."""
    for path, whose in ((tmp_path / "secret", 0), (home / "tree", 0), (home / "own", ALICE)):
        made(path, whose)
    link(home / "chain", "own/../..", ALICE)
    with pytest.raises(chase.UnsafeError):
        found(link(home / "link", target, owner))


@needs_root
def test_a_link_where_everybody_may_write(tmp_path: Path) -> None:
    made(tmp_path / "secret", 0)
    with pytest.raises(chase.UnsafeError):
        found(link(tmp_path / "link", "secret", MALLORY))


def test_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        found(tmp_path / "file")


@needs_root
def test_what_was_found_is_served(tmp_path: Path, home: Path) -> None:
    """A user who is quick puts a link in place of his directory, before systemd makes the room."""
    note, place = str(tmp_path / "note"), home / "place"
    made(place, ALICE)
    serve = ("serve", str(place), note, "echo", "served")
    assert run_launch("find", str(place), note).returncode == 0
    assert run_launch(*serve).stdout == "served\n"
    place.rename(home / "away")
    link(place, "/etc", ALICE)
    done = run_launch(*serve)
    assert (done.returncode, done.stdout) == (EX_NOPERM, "")
    assert "is not the shared directory that was found: it was replaced since" in done.stderr
    done = run_launch("find", str(place), note)
    assert (done.returncode, done.stderr.count("\n")) == (EX_NOPERM, 1)
    assert f"{place} belongs to {ALICE}, what it leads to belongs to root" in done.stderr


@needs_root
def test_nothing_was_found(tmp_path: Path) -> None:
    done = run_launch("serve", str(tmp_path), str(tmp_path / "note"), "echo")
    assert (done.returncode, done.stderr.count("\n")) == (EX_OSERR, 1)


def run_launch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(ROOT / "helpers/vm-launch/vm-launch"), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)


# The lock.


def place(path: Path, *, readonly: bool = False) -> disks.Place:
    return disks.Place("disk-1", "disk", "additionalDisks", Disk(str(path), readonly=readonly))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_readers_share(tmp_path: Path, first: bool, second: bool) -> None:  # noqa: FBT001
    disk = tmp_path / "disk"
    disk.touch()
    held = disks.open_disk(place(disk, readonly=first), "a")
    try:
        if first and second:
            os.close(disks.open_disk(place(disk, readonly=second), "b"))
        else:
            with pytest.raises(Failure, match="is in use by another program") as error:
                disks.open_disk(place(disk, readonly=second), "b")
            assert error.value.code == EX_UNAVAILABLE
    finally:
        os.close(held)
    os.close(disks.open_disk(place(disk), "b"))


def test_the_holder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it runs, and whatever other plans there are."""
    disk = tmp_path / "disk"
    disk.touch()
    (tmp_path / "link").hardlink_to(disk)
    monkeypatch.setattr(paths, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(paths, "GENERATOR_DIR", str(tmp_path))
    for vm, text in {
        "idle": dumps(minimal_plan(disks=(Disk(str(disk)),))),
        "other": dumps(minimal_plan(disks=(Disk("/nonexistent"),))),
        "torn": "{",
        "writer": dumps(minimal_plan(root=Disk(str(tmp_path / "link")))),
    }.items():
        (tmp_path / names.plan_file(vm)).write_text(text)
        if vm != "idle":
            Path(paths.vm_dir(vm)).mkdir(parents=True)
    held = disks.open_disk(place(disk), "writer")
    with pytest.raises(Failure, match=f'the disk {disk} is in use by VM "writer" '):
        disks.open_disk(place(disk), "late")
    os.close(held)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_what_is_no_disk(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(Failure, match="is neither a file nor a block device") as error:
        disks.open_disk(place(path, readonly=True), "a")
    assert error.value.code == EX_CONFIG


# The right.


def listed(path: Path) -> list[str]:
    """What getfacl(1) says, without the lines that name the file."""
    text = subprocess.run(["getfacl", "-cpn", path], check=True, capture_output=True, encoding="utf-8").stdout
    return [line.partition("\t")[0] for line in text.split()]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "file"
    path.touch(0o640)
    descriptor = os.open(path, os.O_PATH)
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError as error:
        if error.errno == 95:
            pytest.skip("no access control lists here")
    yield path, descriptor
    os.close(descriptor)


VM = 61500  # a dynamic user


def test_a_right_comes_and_goes(file: tuple[Path, int]) -> None:
    path, descriptor = file
    acl.grant(descriptor, VM, acl.READ | acl.WRITE, frozenset())
    assert listed(path) == ["user::rw-", f"user:{VM}:rw-", "group::r--", "mask::rw-", "other::---"]
    acl.revoke(descriptor, VM, frozenset())
    assert listed(path) == ["user::rw-", "group::r--", "other::---"]
    assert path.stat().st_mode & 0o777 == 0o640
    acl.revoke(descriptor, VM, frozenset())


def test_nobody_elses_right_changes(file: tuple[Path, int]) -> None:
    """The mask holds a user back who is listed with more; that has to stay so."""
    path, descriptor = file
    subprocess.run(["setfacl", "-m", "u:1234:rwx,g:1235:r,m::r", path], check=True)
    acl.grant(descriptor, VM, acl.READ | acl.WRITE, frozenset())
    assert {"user:1234:r--", "group:1235:r--", "group::r--", f"user:{VM}:rw-", "mask::rw-"} <= set(listed(path))
    acl.revoke(descriptor, VM, frozenset())
    assert {"user:1234:r--", "group:1235:r--", "mask::r--"} <= set(listed(path))


def test_what_a_crash_left_is_dropped(file: tuple[Path, int]) -> None:
    """Of users who are gone; whoever runs keeps it, and who is no dynamic user is none of ours."""
    path, descriptor = file
    for user in (61184, 65519, VM + 1, 1234, 65520):
        subprocess.run(["setfacl", "-m", f"u:{user}:r", path], check=True)
    acl.grant(descriptor, VM, acl.READ, frozenset({VM + 1}))
    users = {line.split(":")[1] for line in listed(path) if line.startswith("user:")}
    assert users == {"", "1234", "65520", str(VM), str(VM + 1)}


@given(st.sampled_from([0o600, 0o640, 0o604, 0o777, 0o000]), st.sampled_from([4, 6]))
def test_the_mode_comes_back(mode: int, rights: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory) / "file"
        path.touch()
        path.chmod(mode)
        descriptor = os.open(path, os.O_PATH)
        acl.grant(descriptor, VM, rights, frozenset())
        acl.revoke(descriptor, VM, frozenset())
        os.close(descriptor)
        assert path.stat().st_mode & 0o7777 == mode


@needs_root
def test_rights_given_at_the_same_time(
    tmp_path: Path, file: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As to VMs that start side by side with the same read-only disk."""
    path, descriptor = file
    monkeypatch.setattr(paths, "RUN", str(tmp_path))
    plans = []
    for number in range(4):
        directory = Path(paths.vm_dir(f"vm-{number}"))
        directory.mkdir(parents=True)
        os.chown(directory, VM + number, VM + number)
        plans.append(minimal_plan(vm=f"vm-{number}", run_dir=str(directory)))

    def each(deed: Callable[[Plan, int], None]) -> None:
        children = []
        for number, plan in enumerate(plans):
            child = os.fork()
            if not child:
                status = 1
                try:
                    deed(plan, VM + number)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)

    expected = {f"user:{VM + number}:r--" for number in range(4)}
    for _ in range(30):
        each(lambda plan, _user: lend.give_right(descriptor, str(path), plan, readonly=True))
        assert expected <= set(listed(path))
        each(lambda _plan, user: lend.take_right(str(path), user))
        assert listed(path) == ["user::rw-", "group::r--", "other::---"]


def test_a_vm_whose_directory_is_gone(host: Host) -> None:
    """One line, where systemd shows it."""
    result = host.launch("reclaim", host.plan(hypervisor="cloud-hypervisor", run_dir="/nonexistent"))
    assert (result.returncode, result.stderr.count("\n")) == (EX_OSERR, 1)


# The store.


class Manager:
    """The service manager's side of its socket."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.bind(str(path))
        self.messages: list[str] = []
        self.kept: dict[str, int] = {}
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(self.listener, 4096, 1)
            if not data:
                return
            lines = data.decode().split("\n")
            self.messages.append(lines[0])
            if lines[0] == "FDSTORE=1":
                self.kept[lines[1].removeprefix("FDNAME=")] = descriptors[0]
            else:
                for descriptor in descriptors:
                    os.close(descriptor)

    def close(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(path))
        self.thread.join()
        self.listener.close()
        for descriptor in self.kept.values():
            os.close(descriptor)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close(tmp_path / "notify")


@needs_root
def test_lend(host: Host, manager: Manager, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_text("content")
    disk.chmod(0o600)
    backend = socket.socket(socket.AF_UNIX)
    backend.bind(str(tmp_path / "backend"))
    backend.listen()
    devices = (VhostUser("block", str(tmp_path / "backend"), ()),)
    plan = host.plan(disks=(Disk(str(disk)),), vhost_user=devices)
    result = host.launch("lend", plan, NOTIFY_SOCKET=str(tmp_path / "notify"))
    assert (result.returncode, result.stderr) == (0, "")
    assert os.pread(manager.kept["disk-1"], 7, 0) == b"content"
    assert socket.socket(fileno=os.dup(manager.kept["vhost-user-1"])).getpeername() == str(tmp_path / "backend")
    # What an earlier start left is dropped, and that has happened before the locks are asked for.
    assert manager.messages == [*["FDSTOREREMOVE=1"] * 2, "BARRIER=1", *["FDSTORE=1"] * 2, "BARRIER=1"]
    with pytest.raises(Failure, match="in use"):  # the lock came along
        disks.open_disk(place(disk), "b")
    backend.close()


def test_lend_without_a_manager(host: Host) -> None:
    result = host.launch("lend", host.plan(disks=(Disk("/nonexistent"),)))
    assert (result.returncode, result.stderr.count("\n")) == (EX_USAGE, 1)


def test_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "disk-root:disk-1:more")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert store.take() == {}
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert store.take() == {"disk-root": 3, "disk-1": 4}


# Sockets.


def device(path: Path) -> sockets.Place:
    return sockets.Place("vhost-user-1", VhostUser("net", str(path), ()))


def test_a_backend_that_is_late(tmp_path: Path) -> None:
    path = tmp_path / "backend"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    timer = threading.Timer(0.2, listener.listen)
    timer.start()
    os.close(sockets.connect(device(path)))
    timer.join()
    listener.close()


@pytest.mark.parametrize("make", [Path.touch, lambda _path: None])
def test_no_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]) -> None:
    monkeypatch.setattr(sockets, "_SECONDS", 0.1)
    make(tmp_path / "backend")
    with pytest.raises(Failure, match=r"net device's socket .*/backend (is no socket|for connecting: No such file)"):
        sockets.connect(device(tmp_path / "backend"))


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind(str(tmp_path / "backend"))
        with pytest.raises(Failure, match=r"net device at .*: Connection refused \(is its backend running\?\)"):
            sockets.connect(device(tmp_path / "backend"))


# Huge pages.


@pytest.mark.parametrize(
    ("reserved", "free", "promised", "memory", "message"),
    [
        (512, 512, 0, 1024, ""),
        (512, 512, 1, 1024, r"512 huge pages of 2 MiB are needed and 511 are free \(sysctl vm.nr_hugepages=513\)"),
        (0, 0, 0, 16, r"8 huge pages of 2 MiB are needed and 0 are free \(sysctl vm.nr_hugepages=8\)"),
        (100, 10, 20, 2, r"1 huge pages of 2 MiB are needed and 0 are free \(sysctl vm.nr_hugepages=111\)"),
    ],
)
def test_huge_pages(tmp_path: Path, reserved: int, free: int, promised: int, memory: int, message: str) -> None:
    for name, count in (("nr", reserved), ("free", free), ("resv", promised)):
        (tmp_path / f"{name}_hugepages").write_text(f"{count}\n")
    if not message:
        hugepages.check(memory, str(tmp_path))
        return
    with pytest.raises(Failure, match=message):
        hugepages.check(memory, str(tmp_path))


def test_no_huge_pages(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="has no huge pages"):
        hugepages.check(16, str(tmp_path / "none"))
