"""vm-home: real directories, and a real second user where root runs the tests."""

import os
import shutil
import signal
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest
from project import ROOT

VM_HOME = ROOT / "helpers/vm-home/vm-home"
UID, GID = 2345, 3456  # the user's, where root runs the tests

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"),
    reason="needs root, to become somebody else",
)

AS_USER = ("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups", "--")


class Place:
    """A template and a directory of homes, both of the user's."""

    def __init__(self, top: Path) -> None:
        self.template = top / "template"
        self.shared = top / "shared"
        self.home = self.shared / "work/home"
        for path in (self.template, self.shared):
            path.mkdir()
            give(path)

    def run(self, *flags: str, user: tuple[str, ...] | None = None) -> "subprocess.CompletedProcess[str]":
        """As the user, or as whoever runs the tests."""
        prefix = user if user is not None else (AS_USER if os.geteuid() == 0 else ())
        command = [*prefix, str(VM_HOME), *flags, str(self.template), str(self.home)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)

    def make(self, *flags: str, user: tuple[str, ...] | None = None) -> None:
        done = self.run("--parent", *flags, user=user)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def left(self) -> list[str]:
        """What is beside the home."""
        return sorted(path.name for path in self.home.parent.iterdir() if path != self.home)


def give(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, UID, GID, follow_symlinks=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for directory in [tmp_path, *tmp_path.parents[:2]]:
        directory.chmod(0o755)
    return Place(tmp_path)


def write(path: Path, text: str = "text", mode: int = 0o644) -> Path:
    path.write_text(text)
    give(path)
    path.chmod(mode)
    return path


def directory(path: Path, mode: int = 0o755) -> Path:
    path.mkdir()
    give(path)
    path.chmod(mode)
    return path


def facts(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (found.st_mode, found.st_uid, found.st_gid, size, found.st_nlink, found.st_mtime_ns)


def attributes(path: Path) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
    }


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel has it (linux/posix_acl_xattr.h): tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
ACL = acl((0x01, 6, NO_ID), (0x02, 4, 77), (0x04, 4, NO_ID), (0x10, 4, NO_ID), (0x20, 0, NO_ID))


def same(place: Place) -> None:
    """Everything in the template is in the home, and nothing else."""
    one, other = place.template, place.home
    names = {path.relative_to(one) for path in one.rglob("*")}
    assert names == {path.relative_to(other) for path in other.rglob("*")}
    for name in [Path(), *names]:
        assert facts(one / name) == facts(other / name), name
        assert attributes(one / name) == attributes(other / name), name
        if (one / name).is_symlink():
            assert (one / name).readlink() == (other / name).readlink()
        elif (one / name).is_file():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_copy_is_like_the_template(place: Place) -> None:
    top = place.template
    write(top / ".profile", "umask 022\n", 0o600)
    write(top / "setuid", "#!/bin/sh\n", 0o4755)
    write(top / "\udcff name\n", "")
    config = directory(top / ".config", 0o750)
    write(config / "empty", "")
    write(config / "read-only", "x", 0o400)
    os.setxattr(config / "empty", "user.note", b"\0value")
    os.setxattr(config / "empty", "system.posix_acl_access", ACL)
    os.setxattr(config, "system.posix_acl_default", ACL)
    directory(config / "closed", 0o555)
    for name, target in (("link", ".profile"), ("astray", "/etc/shadow"), ("nowhere", "../../x")):
        (top / name).symlink_to(target)
        give(top / name)
    os.mkfifo(top / "fifo", 0o640)
    give(top / "fifo")
    for name in (".profile", ".config", "link"):
        os.utime(top / name, ns=(10**18 + 1, 10**18 + 123456789), follow_symlinks=False)
    top.chmod(0o710)
    place.make()
    same(place)
    assert place.left() == []
    assert place.home.parent.stat().st_mode & 0o777 == 0o755
    assert (place.home.stat().st_uid, place.home.parent.stat().st_uid) == (top.stat().st_uid,) * 2


def test_hard_links_stay_links(place: Place) -> None:
    write(place.template / "a")
    directory(place.template / "sub")
    os.link(place.template / "a", place.template / "sub/b")
    os.link(place.template / "a", place.template / "z")
    place.make()
    same(place)
    assert (place.home / "a").samefile(place.home / "sub/b")
    assert not (place.home / "a").samefile(place.template / "a")


def test_holes_stay_holes(place: Place) -> None:
    sparse = write(place.template / "sparse", "")
    with sparse.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"middle")
        file.truncate(40 << 20)
    if sparse.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no holes")
    place.make()
    same(place)
    assert (place.home / "sparse").stat().st_blocks * 512 <= 1 << 20


def test_an_existing_home_is_not_touched(place: Place) -> None:
    write(place.template / ".profile")
    directory(place.home.parent)
    directory(place.home, 0o700)
    before = facts(place.home)
    place.make()
    assert (facts(place.home), list(place.home.iterdir()), place.left()) == (before, [], [])


def test_what_is_no_file_is_left_out_and_told(place: Place) -> None:
    import socket

    write(place.template / "a")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(place.template)
        try:
            listener.bind("socket")
        finally:
            os.chdir("/")
    if os.geteuid() == 0:
        os.mknod(place.template / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    done = place.run("--parent")
    assert done.returncode == 0
    assert f"vm-home: left out of {place.home}: socket, a socket\n" in done.stderr
    assert ("null, a device node" in done.stderr) == (os.geteuid() == 0)
    assert sorted(path.name for path in place.home.iterdir()) == ["a"]


def test_a_directory_of_one_s_own_must_be_there(place: Place) -> None:
    done = place.run()
    assert done.returncode == 66
    assert done.stderr == f"vm-home: there is no directory {place.home.parent} (make it)\n"
    assert list(place.shared.iterdir()) == []


def test_no_template(place: Place) -> None:
    place.template.rmdir()
    done = place.run("--parent")
    assert done.returncode == 66
    assert f"there is no directory {place.template} (vmsilo-shared.service makes it" in done.stderr


def test_nested_too_deeply(place: Place) -> None:
    deep = place.template
    for _ in range(205):
        deep = directory(deep / "d")
    done = place.run("--parent")
    assert done.returncode == 65
    assert "nested too deeply (200 at most)" in done.stderr
    assert place.left() == []
    assert not place.home.exists()


# Links, planted by whoever may write where the home is to be.


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return directory(tmp_path / "elsewhere")


def refused(place: Place, elsewhere: Path, *words: str) -> None:
    write(place.template / "a")
    for user in (None, ()) if os.geteuid() == 0 else (None,):
        done = place.run("--parent", *(["--foreign"] if user == () else []), user=user)
        assert done.returncode == 78, done.stderr
        assert all(word in done.stderr for word in words), done.stderr
        assert list(elsewhere.iterdir()) == []


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)
    give(path)


def test_a_link_for_the_directory_of_the_vm(place: Place, elsewhere: Path) -> None:
    link(place.home.parent, elsewhere)
    refused(place, elsewhere, "work is a symbolic link")


def test_a_link_for_the_home(place: Place, elsewhere: Path) -> None:
    directory(place.home.parent)
    link(place.home, elsewhere)
    refused(place, elsewhere, "home is a symbolic link: expected a directory, or nothing (remove it)")


def test_a_link_to_nowhere_for_the_home(place: Place, elsewhere: Path) -> None:
    directory(place.home.parent)
    link(place.home, elsewhere / "new")
    refused(place, elsewhere, "home is a symbolic link")


def test_a_link_for_the_directory_of_all(place: Place, elsewhere: Path) -> None:
    """As long as it is not root's alone to put there."""
    place.shared.rmdir()
    link(place.shared, elsewhere)
    refused(place, elsewhere, f"shared in {place.shared} is a symbolic link that others than root can have made")


def test_a_link_where_it_grows(place: Place, elsewhere: Path) -> None:
    directory(place.home.parent)
    for uid in {os.geteuid(), place.shared.stat().st_uid}:
        link(place.home.parent / f".home.vmsilo-{uid}", elsewhere)
    refused(place, elsewhere, "is a symbolic link: expected a directory, or nothing (remove it)")


def test_a_directory_where_it_grows(place: Place, elsewhere: Path) -> None:
    """It is emptied only if it is known to be ours."""
    directory(place.home.parent)
    for uid in {os.geteuid(), place.shared.stat().st_uid}:
        planted = directory(place.home.parent / f".home.vmsilo-{uid}", 0o700)
        write(planted / "precious")
    refused(place, elsewhere, "is in the way (remove it)")
    assert (planted / "precious").exists()


@needs_root
def test_links_of_root_are_followed(place: Place, tmp_path: Path) -> None:
    """An administrator may keep /shared where there is room."""
    write(place.template / "a")
    (tmp_path / "link").symlink_to("shared/../shared")
    home = place.home
    place.home = tmp_path / "link/work/home"
    place.make()
    assert (home / "a").exists()


# Dying half-way.


def many(place: Place) -> None:
    for number in range(800):
        write(place.template / f"file-{number}")


def killed_half_way(place: Place, user: tuple[str, ...]) -> None:
    directory(place.home.parent)
    process = subprocess.Popen([*user, VM_HOME, "--foreign", place.template, place.home])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(place.home.parent.glob(".home.vmsilo-*/home/*")) or process.poll() is not None:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was faster"
    assert not place.home.exists()
    assert len(place.left()) == 1


def test_a_half_copied_home_is_redone(place: Place) -> None:
    many(place)
    killed_half_way(place, AS_USER if os.geteuid() == 0 else ())
    (place.template / "file-0").unlink()  # so that what was copied before is not what is to be there
    place.make()
    same(place)
    assert place.left() == []


@needs_root
def test_a_half_copied_home_is_redone_by_root(place: Place) -> None:
    many(place)
    os.chown(place.template / "file-0", 0, 0)
    killed_half_way(place, ())
    place.make()
    assert not place.home.exists()
    place.make("--foreign", user=())
    same(place)
    assert place.left() == []


def test_what_is_left_is_cleared_away_even_if_it_is_not_needed(place: Place) -> None:
    many(place)
    killed_half_way(place, AS_USER if os.geteuid() == 0 else ())
    directory(place.home)
    place.make()
    assert (list(place.home.iterdir()), place.left()) == ([], [])


def test_several_at_once(place: Place) -> None:
    many(place)
    prefix = AS_USER if os.geteuid() == 0 else ()
    command = [*prefix, VM_HOME, "--parent", place.template, place.home]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert ends == [(b"", 0)] * 4
    same(place)
    assert place.left() == []


@needs_root
def test_no_room(place: Place) -> None:
    """The message names the file, and nothing is left that looks like a home."""
    write(place.template / "small")
    write(place.template / "zz-large", "x" * (1 << 20))
    script = f"""
    mount -t tmpfs -o size=256k,uid={UID},mode=0755 none {place.shared}
    {" ".join(AS_USER)} {VM_HOME} --parent {place.template} {place.home}
    echo $?
    find {place.shared} -mindepth 1
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.split() == ["71", str(place.home.parent)]
    message = f"vm-home: cannot make {place.home} from {place.template}: zz-large: No space left on device\n"
    assert done.stderr == message


# What the user may not do.


@needs_root
def test_owners_are_those_of_the_template(place: Place) -> None:
    write(place.template / "own")
    os.chown(write(place.template / "of-root", mode=0o600), 0, 0)
    os.chown(write(place.template / "of-others", mode=0o755), 77, 78)
    os.setxattr(place.template / "of-root", "user.note", b"x")
    os.chown(directory(place.template / "directory-of-root"), 0, 0)
    place.make()
    assert (place.home.exists(), place.left()) == (False, [])
    place.make("--foreign", user=())
    same(place)
    assert place.left() == []


@needs_root
@pytest.mark.parametrize("owner", [0, 77, UID])
def test_root_makes_no_privileged_file(place: Place, owner: int) -> None:
    """A file system that the user has mounted in the template, such as FUSE, says whose a file is as it likes."""
    os.chown(write(place.template / "note"), 0, 0)
    forged = write(place.template / "forged")
    os.chown(forged, owner, owner)
    forged.chmod(0o6755)
    place.make()
    done = place.run("--parent", "--foreign", user=())
    assert done.returncode == 0
    assert done.stderr == f"vm-home: left out of {place.home}: forged, set-user-ID and set-group-ID bits\n"
    assert facts(place.home / "forged")[0] == facts(forged)[0] & ~0o6000


@needs_root
def test_a_group_that_is_not_the_user_s(place: Place) -> None:
    os.chown(write(place.template / "a"), UID, 99)
    place.make()
    assert not place.home.exists()
    place.make("--foreign", user=())
    same(place)


@needs_root
def test_a_place_that_is_not_the_user_s(place: Place, tmp_path: Path) -> None:
    write(place.template / "a")
    os.chown(place.shared, 0, 0)
    place.make()
    assert list(place.shared.iterdir()) == []
    place.make("--foreign", user=())
    same(place)
    assert place.home.parent.stat().st_uid == UID


@needs_root
def test_root_makes_no_directory_among_others(place: Place) -> None:
    """What it gives away could have been exchanged for something else."""
    os.chown(write(place.template / "a"), 0, 0)
    done = place.run("--parent", "--foreign", user=())
    assert done.returncode == 78
    assert "work has to be made by the owner of the directory that it is to be in" in done.stderr
    assert list(place.shared.iterdir()) == []


@needs_root
def test_a_file_of_root_s_with_a_name_in_the_template(place: Place, tmp_path: Path) -> None:
    """Where anybody may link to any file, this is how somebody would ask root for a copy of it."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    os.link(secret, place.template / "innocent")
    place.make()
    done = place.run("--parent", "--foreign", user=())
    assert done.returncode == 65
    assert "innocent is not of the template's owner, and has 2 names" in done.stderr
    assert not place.home.exists()


@pytest.mark.parametrize("arguments", [[], ["/a"], ["a", "/b"], ["/a", "/b", "/c"], ["--other", "/a", "/b"]])
def test_usage(arguments: list[str]) -> None:
    done = subprocess.run([VM_HOME, *arguments], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("usage: vm-home ")
