"""What a shared directory is good for, seen from both sides: with the real virtiofsd, real guests, and no mercy.

One VM has a share for each question, so that a single guest answers them all; a second one shares one with it.
"""

import json
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER

VM = "proof"
TWIN = "proof-twin"
TOP = "/srv/proof"

POLICIES = ("never", "auto", "metadata", "always")
SHARES = {
    "data": "",
    "books": "readonly = true",
    "ids": 'posixAcl = false\ntranslateUid = "map:0:1000:1"\ntranslateGid = "map:0:1000:1"',
    **{policy: f'cache = "{policy}"' for policy in POLICIES},
}


def table(tag: str) -> str:
    return f'[sharedDirectories.{tag}]\npath = "{TOP}/{tag}"\n{SHARES[tag]}'


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    lab.run("install", "-d", f"--owner={USER}", f"--group={USER}", TOP, *(f"{TOP}/{tag}" for tag in SHARES))
    files = {VM: config.vm("minimal", *map(table, SHARES)), TWIN: config.vm("minimal", table("data"))}
    with lab.configured(files):
        lab.run("vm-start", VM, TWIN, user=USER)
        for vm, tags in ((VM, " ".join(SHARES)), (TWIN, "data")):
            script = f"for tag in {tags}; do mkdir -p /mnt/$tag && mount -t virtiofs $tag /mnt/$tag; done"
            lab.vm_run("--user", "root", vm, script)
        yield


PRELUDE = """
import errno, fcntl, json, os, sys, time
def answer(value): json.dump(value, sys.stdout)
def write(path, text): open(path, "w").write(text)
def error(work):
    try: work()
    except OSError as error: return errno.errorcode[error.errno]
    return ""
"""


def guest(lab: Host, code: str, *, vm: str = VM, user: str = "user") -> Any:
    """What the program *code* answers in the guest."""
    script = PRELUDE + textwrap.dedent(code)
    return json.loads(lab.vm_run("--user", user, vm, "python3", "-IS", "-c", script).out)


def host(lab: Host, code: str, *, user: str | None = USER) -> Any:
    script = PRELUDE + textwrap.dedent(code)
    return json.loads(lab.run("python3", "-IS", "-c", script, user=user).out)


def test_write_read_rename(lab: Host) -> None:
    guest(
        lab,
        """
        os.chdir("/mnt/data")
        write("one", "from the guest")
        os.mkdir("dir")
        os.rename("one", "dir/two")
        write("old", "old"); write("new", "new"); os.rename("new", "old")
        with open("long", "wb") as file:
            for number in range(256): file.write(bytes([number]) * 8192)
        with open("long", "r+b") as file:
            file.truncate(1_000_000); file.seek(500_000); file.write(b"middle")
        os.link("old", "link"); os.symlink("../outside", "symlink"); os.chmod("old", 0o640)
        os.utime("old", ns=(1, 1_000_000_001))
        answer(None)
        """,
    )
    seen = host(
        lab,
        f"""
        os.chdir("{TOP}/data")
        long, old = open("long", "rb").read(), os.stat("old")
        answer([
            sorted(os.listdir()), open("dir/two").read(), open("old").read(), os.readlink("symlink"),
            [len(long), long[499_999], long[500_000:500_006].decode(), long[999_999]],
            [old.st_uid, old.st_gid, old.st_mode & 0o7777, old.st_nlink, old.st_mtime_ns],
        ])
        """,
    )
    assert seen == [
        ["dir", "link", "long", "old", "symlink"],
        "from the guest",
        "new",
        "../outside",
        [1_000_000, 499_999 // 8192, "middle", 999_999 // 8192],
        [1000, 1000, 0o640, 2, 1_000_000_001],
    ]
    host(lab, f"""write("{TOP}/data/back", "from the host"); os.unlink("{TOP}/data/long"); answer(None)""")
    assert guest(lab, """answer(open("/mnt/data/back").read())""") == "from the host"
    # What the guest looked up itself, it believes for a second.
    lab.wait_for(lambda: not guest(lab, """answer(os.path.exists("/mnt/data/long"))"""), timeout=10)


def test_extended_attributes(lab: Host) -> None:
    guest(lab, """write("/mnt/data/x", ""); os.setxattr("/mnt/data/x", "user.note", b"a\\0b"); answer(None)""")
    path = f"{TOP}/data/x"
    assert host(lab, f"""answer(os.getxattr("{path}", "user.note").decode())""") == "a\0b"
    host(lab, f"""os.setxattr("{path}", "user.host", b"h"); os.removexattr("{path}", "user.note"); answer(None)""")
    code = """answer([os.listxattr("/mnt/data/x"), os.getxattr("/mnt/data/x", "user.host").decode()])"""
    assert guest(lab, code) == [["user.host"], "h"]


# As the kernel has them (linux/posix_acl_xattr.h): user 33 may read; and the same by default in a directory.
ACL = """
import struct
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (
    (0x01, 7, 0xffffffff), (0x02, 4, 33), (0x04, 0, 0xffffffff), (0x10, 4, 0xffffffff), (0x20, 0, 0xffffffff)))
"""


def test_access_control_lists(lab: Host) -> None:
    """What one side sets the other side shows, new files inherit it, and it holds in the guest."""
    code = f"""{ACL}
os.chdir("/mnt/data"); os.mkdir("lists"); os.setxattr("lists", "system.posix_acl_default", acl)
os.chmod("lists", 0o755); write("lists/file", "text"); answer(None)
"""
    guest(lab, code)
    listed = lab.run("getfacl", "-c", "-p", "-n", f"{TOP}/data/lists/file").out.split()
    assert listed[:3] == ["user::rw-", "user:33:r--", "group::---"]
    lab.run("setfacl", "-m", "user:34:r--", f"{TOP}/data/lists/file", user=USER)
    readable = """
    answered = []
    for uid in (33, 34, 35):
        if os.fork() == 0:
            os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
            os._exit(bool(error(lambda: open("/mnt/data/lists/file"))))
        answered.append(os.waitstatus_to_exitcode(os.wait()[1]))
    answer(answered)
    """
    lab.wait_for(lambda: guest(lab, readable, user="root") == [0, 0, 1])


def test_a_sparse_file_stays_sparse(lab: Host) -> None:
    guest(
        lab,
        """
        with open("/mnt/data/sparse", "wb") as file:
            file.seek(500 << 20); file.write(b"middle"); file.truncate(1 << 30)
        answer(None)
        """,
    )
    size, blocks = map(int, lab.run("stat", "-c", "%s %b", f"{TOP}/data/sparse").out.split())
    assert size == 1 << 30
    assert blocks * 512 < 1 << 20
    found = guest(
        lab,
        """
        file = os.open("/mnt/data/sparse", os.O_RDONLY)
        start = os.lseek(file, 0, os.SEEK_DATA)
        answer([start <= 500 << 20, os.lseek(file, start, os.SEEK_HOLE) < 501 << 20, os.stat(file).st_blocks])
        """,
    )
    assert found == [True, True, blocks]


def test_100_000_small_files(lab: Host) -> None:
    """Most are made on the host, since each takes an emulated guest a millisecond or more."""
    ours, theirs = 97_000, 3_000
    host(
        lab,
        f"""
        for number in range({ours}):
            if number % 1000 == 0: os.makedirs(f"{TOP}/data/many/{{number // 1000}}")
            write(f"{TOP}/data/many/{{number // 1000}}/{{number}}", str(number))
        answer(None)
        """,
    )
    guest(
        lab,
        f"""
        os.mkdir("/mnt/data/many/guest")
        for number in range({theirs}): write(f"/mnt/data/many/guest/{{number}}", str(number))
        answer(None)
        """,
    )
    count = """
    files = size = 0
    for number, directory in enumerate(os.scandir("{0}/data/many")):
        if number % 10 == 0: forget()
        for entry in os.scandir(directory.path): files += 1; size += entry.stat().st_size
    answer([files, size])
    """
    total = sum(len(str(number)) for numbers in (range(ours), range(theirs)) for number in numbers)
    assert host(lab, "def forget(): pass" + textwrap.dedent(count.format(TOP))) == [ours + theirs, total]
    # virtiofsd keeps a file open for each that the guest remembers, and where the tests run it may not have many.
    forget = 'def forget(): write("/proc/sys/vm/drop_caches", "3")'
    assert guest(lab, forget + textwrap.dedent(count.format("/mnt")), user="root") == [ours + theirs, total]
    lab.run("rm", "-r", f"{TOP}/data/many")


LOCKED = """
file = open("{0}", "r+")
code = error(lambda: fcntl.{1}(file, fcntl.LOCK_EX | fcntl.LOCK_NB))
"""


@pytest.mark.parametrize("call", ["lockf", "flock"])
def test_locks_hold_within_a_guest_and_not_beyond(lab: Host, call: str) -> None:
    """virtiofsd does not hand them on: two programs of one guest exclude each other; host and guests don't."""
    lab.run("touch", f"{TOP}/data/lock", user=USER)
    hold = PRELUDE + LOCKED.format("/mnt/data/lock", call) + "print('held' + code, flush=True); sys.stdin.read()"
    holder = lab.start("vm-run", VM, "python3", "-IS", "-c", hold, user=USER)
    try:
        assert holder.read_line() == b"held\n"
        take = LOCKED.format("/mnt/data/lock", call) + "answer(code)"
        assert guest(lab, take) == "EAGAIN"
        assert guest(lab, take, vm=TWIN) == ""
        assert host(lab, take.replace("/mnt", TOP)) == ""
    finally:
        holder.stop()


def test_only_one_can_make_a_file(lab: Host) -> None:
    """What does exclude host and guests: O_EXCL, as lock files are made, and rename."""
    make = """answer(error(lambda: os.close(os.open("{0}/data/lockfile", os.O_CREAT | os.O_EXCL))))"""
    assert guest(lab, make.format("/mnt")) == ""
    assert guest(lab, make.format("/mnt"), vm=TWIN) == "EEXIST"
    assert host(lab, make.format(TOP)) == "EEXIST"


def test_read_only(lab: Host) -> None:
    lab.run("sh", "-c", f"echo text >{TOP}/books/title", user=USER)
    tries = """
    os.chdir("/mnt/books")
    answer([open("title").read(), *map(error, (
        lambda: write("title", "x"), lambda: write("new", "x"), lambda: os.mkdir("new"), lambda: os.unlink("title"),
        lambda: os.rename("title", "new"), lambda: os.chmod("title", 0o600), lambda: os.truncate("title", 0),
        lambda: os.setxattr("title", "user.x", b"x"), lambda: os.utime("title"), lambda: os.link("title", "new")))])
    """
    assert guest(lab, tries) == ["text\n", *["EROFS"] * 10]
    lab.vm_run("--user", "root", VM, "mount -o remount,rw /mnt/books", check=False)
    assert set(guest(lab, tries, user="root")[1:]) == {"EROFS"}  # it is not the guest's to say
    assert lab.read(f"{TOP}/books/title") == "text\n"


def test_ids_from_both_sides(lab: Host) -> None:
    """What is root's in the guest is the user's on the host, and the other way round."""
    lab.run("touch", f"{TOP}/ids/host", user=USER)
    owners = """
    write("/mnt/ids/guest", ""); os.mkdir("/mnt/ids/dir")
    answer([(found.st_uid, found.st_gid) for found in map(os.stat, ("/mnt/ids/host", "/mnt/ids/guest", "/mnt/ids"))])
    """
    assert guest(lab, owners, user="root") == [[0, 0]] * 3
    assert lab.run("stat", "-c", "%U:%G", *(f"{TOP}/ids/{name}" for name in ("host", "guest", "dir"))).out == (
        f"{USER}:{USER}\n" * 3
    )
    assert guest(lab, """answer(error(lambda: write("/mnt/ids/x", "")))""", user="user") == "EACCES"


def test_a_guest_is_no_more_than_the_user(lab: Host) -> None:
    """Its root makes files of the user's, no device nodes, and gives nothing away."""
    lab.run("install", "-m", "0600", "/dev/null", f"{TOP}/data/of-root")
    tried = guest(
        lab,
        """
        os.chdir("/mnt/data")
        write("by-root", "")
        answer([os.stat("by-root").st_uid, *map(error, (
            lambda: os.mknod("null", 0o20666, os.makedev(1, 3)), lambda: os.chown("by-root", 0, 0),
            lambda: os.chown("by-root", 33, 33), lambda: open("of-root"), lambda: os.chmod("of-root", 0o666)))])
        """,
        user="root",
    )
    assert tried == [1000, "EPERM", "EPERM", "EPERM", "EACCES", "EPERM"]
    assert (
        lab.run("stat", "-c", "%U %a", f"{TOP}/data/by-root", f"{TOP}/data/of-root").out == f"{USER} 644\nroot 600\n"
    )


def test_two_vms_share_one_directory(lab: Host) -> None:
    append = """
    file = os.open("/mnt/data/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(100): os.write(file, b"{0}\\n")
    answer(None)
    """
    guest(lab, append.format("one"))
    guest(lab, append.format("two"), vm=TWIN)
    guest(lab, append.format("three"))
    lines = lab.read(f"{TOP}/data/log").split()
    assert lines == ["one"] * 100 + ["two"] * 100 + ["three"] * 100
    read = """answer(open("/mnt/data/log").read().split())"""
    for vm in (VM, TWIN):
        lab.wait_for(lambda vm=vm: guest(lab, read, vm=vm) == lines)  # type: ignore[misc]


# Caches.

SEE = """
def see(path):
    try: return [open(path).read(), os.stat(path).st_size]
    except FileNotFoundError: return None
answer([see(f"/mnt/{0}/{{name}}") for name in ("grows", "stays", "gone", "comes")])
"""
BEFORE = "rm -f *; echo old >grows; echo same >stays; echo gone >gone"
AFTER = "echo longer >grows; echo SAME >stays; rm gone; echo new >comes"
OLD = [["old\n", 4], ["same\n", 5], ["gone\n", 5], None]
NEW = [["longer\n", 7], ["SAME\n", 5], None, ["new\n", 4]]

AUTO_SECONDS = 1.0  # virtiofsd: what "auto" lets a guest believe
DROP_CACHES = "echo 3 >/proc/sys/vm/drop_caches"


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_guest_sees_of_a_change(lab: Host, policy: str) -> None:
    """As the option's text has it."""

    def change(script: str) -> None:
        lab.run("sh", "-ec", f"cd {TOP}/{policy}; {script}", user=USER)

    change(BEFORE)
    lab.vm_run("--user", "root", VM, DROP_CACHES)
    assert guest(lab, SEE.format(policy)) == OLD
    change(AFTER)
    at_once = guest(lab, SEE.format(policy))
    time.sleep(1.5 * AUTO_SECONDS)
    later = guest(lab, SEE.format(policy))
    lab.vm_run("--user", "root", VM, DROP_CACHES)
    assert guest(lab, SEE.format(policy)) == NEW
    grows, stays, gone, comes = later
    assert comes == NEW[3]
    if policy in ("never", "auto"):
        assert later == NEW
    if policy == "never":
        assert at_once == NEW
    if policy in ("metadata", "always"):
        assert gone == OLD[2]  # the file is kept as long as the guest believes in it
    if policy == "metadata":
        assert stays == NEW[1]
    if policy == "always":
        assert (grows, stays) == (OLD[0], OLD[1])
