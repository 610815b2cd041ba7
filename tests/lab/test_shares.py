"""Shared directories, with the real virtiofsd and real guests."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab import config
from lab.host import Host
from lab.tree import STRANGER, USER
from vmsilo import names, paths

VM = "sharer"
TWIN = "sharer-twin"
DATA = "/srv/sharing/data é%n"
BOOKS = "/srv/sharing/books"
EVERYBODY = "/srv/sharing/everybody"
MAPPED = "/srv/sharing/mapped"


def share(tag: str, path: str, *lines: str) -> str:
    return "\n".join([f"[sharedDirectories.{tag}]", f'path = "{path}"', *lines])


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    lab.run("install", "-d", f"--owner={USER}", f"--group={USER}", "/srv/sharing", DATA, BOOKS)
    lab.run("install", "-d", "--mode=0755", EVERYBODY)
    lab.run("install", "-d", "--owner=100000", "--group=100000", MAPPED)
    lab.run("install", f"--owner={USER}", "/dev/null", f"{MAPPED}/of-alice")
    lab.write(f"{BOOKS}/title", "a book\n")
    tables = [
        share("data", DATA),
        share("books", BOOKS, "readonly = true"),
        share("everybody", EVERYBODY, "foreignOwners = true"),
        share("mapped", MAPPED, 'uidMap = ":0:100000:65536:"', 'gidMap = ":0:100000:65536:"'),
    ]
    files = {VM: config.vm("minimal", *tables, stopTimeout=10), TWIN: config.vm("minimal", share("data", DATA))}
    with lab.configured(files):
        yield


def mount(lab: Host, vm: str, *tags: str) -> None:
    """Mount the shares at /mnt-<tag> in the guest, unless they are."""
    for tag in tags:
        where = f"/mnt-{tag}"
        script = f"grep -q ' {where} ' /proc/mounts || {{ mkdir -p {where} && mount -t virtiofs {tag} {where}; }}"
        lab.vm_run("--user", "root", vm, script)


def server(tag: str, vm: str = VM) -> str:
    return names.share_service_unit(vm, tag)


def pid_of(lab: Host, tag: str) -> int:
    pid = lab.main_pid(server(tag))
    assert pid, f"{server(tag)} does not run"
    return pid


def test_both_sides_see_what_the_other_writes(lab: Host) -> None:
    mount(lab, VM, "data")
    lab.vm_run("--user", "user", VM, "echo from the guest >/mnt-data/guest")
    assert lab.read(f"{DATA}/guest") == "from the guest\n"
    assert lab.run("stat", "-c", "%U:%G %a", f"{DATA}/guest").out == f"{USER}:{USER} 644\n"
    lab.run("sh", "-c", f"echo from the host >'{DATA}/host'", user=USER)
    assert lab.vm_run(VM, "cat /mnt-data/host; stat -c '%u:%g' /mnt-data/host").out == "from the host\n1000:1000\n"
    assert [line for line in lab.processes() if "python" in line] == []  # nothing of ours stays because a VM runs


def test_read_only_is_refused_by_the_host(lab: Host) -> None:
    mount(lab, VM, "books")
    assert lab.vm_run(VM, "cat /mnt-books/title").out == "a book\n"
    for script in ("touch /mnt-books/new", "echo x >/mnt-books/title", "rm /mnt-books/title"):
        done = lab.vm_run("--user", "root", VM, f"mount -o remount,rw /mnt-books; {script}", check=False)
        assert done.code != 0
        assert "Read-only file system" in done.err
    assert lab.run("ls", BOOKS).out == "title\n"


def test_attributes_and_access_lists_need_no_root(lab: Host) -> None:
    """As the file's owner, who may set both."""
    mount(lab, VM, "data")
    entries = [(1, 6, -1), (2, 5, 1234), (4, 4, -1), (16, 7, -1), (32, 0, -1)]  # acl(5): tag, permissions, id
    script = f"""
import os, struct
os.close(os.open("/mnt-data/acl", os.O_CREAT | os.O_WRONLY))
os.setxattr("/mnt-data/acl", "user.colour", b"red")
packed = b"".join(struct.pack("<HHi", *entry) for entry in {entries})
os.setxattr("/mnt-data/acl", "system.posix_acl_access", struct.pack("<I", 2) + packed)
"""
    lab.vm_run("--user", "user", VM, "python3 -", input=script)
    assert "red" in lab.run("python3", "-c", f"import os; print(os.getxattr({DATA + '/acl'!r}, 'user.colour'))").out
    listed = lab.run("getfacl", "--numeric", "--absolute-names", f"{DATA}/acl").out
    assert "user:1234:r-x\n" in listed
    assert "other::---\n" in listed


def status_of(lab: Host, tag: str) -> dict[str, str]:
    pid = pid_of(lab, tag)
    return dict(line.split(":", 1) for line in lab.read(f"/proc/{pid}/status").splitlines())


def test_identity(lab: Host) -> None:
    lab.vm_run(VM, "true")
    status = status_of(lab, "data")
    assert set(status["Uid"].split()) == {"1000"}
    assert {status[key].strip() for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    root = status_of(lab, "everybody")
    assert set(root["Uid"].split()) == {"0"}
    assert int(root["CapEff"], 16) & (1 << 21 | 1 << 27) == 0  # CAP_SYS_ADMIN, CAP_MKNOD


@pytest.mark.parametrize("tag", ["data", "everybody"])
def test_there_is_nothing_but_the_directory(lab: Host, tag: str) -> None:
    lab.vm_run(VM, "true")
    inside = f"/proc/{pid_of(lab, tag)}/root"
    seen = set(lab.run("ls", "-A", inside).out.split())
    assert seen <= {"dev", "home", "lib", "lib64", "nix", "proc", "root", "run", "share", "sys", "usr"}
    assert lab.run("find", f"{inside}/run", f"{inside}/dev", "-type", "s").out == ""
    assert not lab.exists(f"{inside}/home/{USER}")


def test_files_of_others_as_root(lab: Host) -> None:
    mount(lab, VM, "everybody")
    script = "cd /mnt-everybody; echo x >f; chown 1234:4321 f; mkfifo p; mknod d c 1 3"
    done = lab.vm_run("--user", "root", VM, script, check=False)
    assert "not permitted" in done.err
    assert lab.run("stat", "-c", "%n %u:%g", f"{EVERYBODY}/f").out == f"{EVERYBODY}/f 1234:4321\n"
    assert lab.run("ls", EVERYBODY).out == "f\np\n"


def test_mapped_ids(lab: Host) -> None:
    """Both sides name the same owners differently, and whom the map does not know is nobody."""
    mount(lab, VM, "mapped")
    script = (
        "cd /mnt-mapped; echo x >f; chown 5:6 f; touch g; stat -c '%n %u:%g' of-alice; chown 70000 g; rm of-alice"
    )
    done = lab.vm_run("--user", "root", VM, script, check=False)
    assert done.out == "of-alice 65534:65534\n"
    assert "chown: g: Invalid argument" in done.err
    assert lab.run("stat", "-c", "%u:%g", f"{MAPPED}/f").out == "100005:100006\n"
    assert lab.run("stat", "-c", "%u:%g", f"{MAPPED}/g").out == "100000:100000\n"
    pid = pid_of(lab, "mapped")
    assert lab.read(f"/proc/{pid}/uid_map").split() == ["0", "100000", "65536"]
    assert set(status_of(lab, "mapped")["Uid"].split()) == {"100000"}


def test_two_vms_share_one_directory(lab: Host) -> None:
    for vm in (VM, TWIN):
        mount(lab, vm, "data")
    lab.vm_run(VM, "echo hello >/mnt-data/between")
    assert lab.vm_run(TWIN, "cat /mnt-data/between").out == "hello\n"


CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


def test_nobody_else_can_connect(lab: Host) -> None:
    for vm in (VM, TWIN):
        lab.vm_run(vm, "true")
    socket = paths.share_socket(VM, "data")
    assert lab.run("stat", "-c", "%F", socket).out == "socket\n"
    other = lab.run("id", "-u", names.user(TWIN)).out.strip()
    for identity in (other, "1000", lab.run("id", "-u", STRANGER).out.strip(), "65534"):
        drop = ["setpriv", f"--reuid={identity}", f"--regid={identity}", "--clear-groups"]
        done = lab.run(*drop, "python3", "-c", CONNECT, socket, check=False)
        assert "PermissionError" in done.err, done
    twin = lab.main_pid(names.vm_unit(TWIN))
    seen = lab.run("find", f"/proc/{twin}/root/run", "-type", "s").out.splitlines()
    assert not any(f"/{VM}/" in path for path in seen)
    mine = lab.run("find", f"/proc/{lab.main_pid(names.vm_unit(VM))}/root/run", "-name", "device.socket").out
    assert socket in mine


def left(lab: Host) -> list[str]:
    """Units of the VM's shares that are there in any way."""
    pattern = f"{names.PREFIX}{VM}-virtiofs-*"
    return lab.systemctl(
        "list-units", "--plain", "--no-legend", "--state=active,activating", pattern
    ).out.splitlines()


def test_stop_and_start_again(lab: Host) -> None:
    mount(lab, VM, "data")
    lab.run("vm-stop", VM, user=USER)
    lab.wait_for(lambda: left(lab) == [])
    assert not lab.exists(paths.share_socket(VM, "data"))
    mount(lab, VM, "data")
    assert lab.vm_run(VM, "cat /mnt-data/host").out == "from the host\n"


def test_a_hypervisor_that_is_killed(lab: Host) -> None:
    mount(lab, VM, "data")
    unit = names.vm_unit(VM)
    lab.run("kill", "-9", str(lab.main_pid(unit)))
    lab.wait_state(unit, "failed")
    mount(lab, VM, "data")  # at once: nothing has to be waited for
    assert lab.vm_run(VM, "cat /mnt-data/host").out == "from the host\n"


def test_a_server_that_is_killed(lab: Host) -> None:
    mount(lab, VM, "data", "books")
    before = lab.now()
    lab.run("kill", "-9", str(pid_of(lab, "data")))
    lab.wait_state(server("data"), "failed")
    assert lab.vm_run(VM, "cat /mnt-books/title").out == "a book\n"  # the VM runs on, and the other share with it
    assert f"{server('data')}: Failed with result 'signal'" in lab.journal(since=before)
    listed = look_up(lab)
    assert (listed["state"], listed["lost"], listed["message"]) == ("running", ["data"], "share data lost")
    lab.vm_run(VM, "cat /mnt-data/host >/dev/null 2>&1 & sleep 1")  # nobody answers that any more
    lab.run("vm-stop", VM, user=USER, check=False)
    mount(lab, VM, "data")
    assert lab.vm_run(VM, "cat /mnt-data/host").out == "from the host\n"
    listed = look_up(lab)
    assert (listed["lost"], listed["message"]) == ([], "")


def look_up(lab: Host) -> dict[str, Any]:
    """What vm-list says of the VM."""
    (found,) = [vm for vm in lab.listed() if vm["name"] == VM]
    return found


def test_a_server_that_hangs(lab: Host) -> None:
    """Neither the stop nor the next start waits for it for ever."""
    mount(lab, VM, "data")
    lab.run("kill", "-STOP", str(pid_of(lab, "data")))
    lab.run("vm-stop", "--force", VM, user=USER)
    mount(lab, VM, "data")
    assert lab.vm_run(VM, "cat /mnt-data/host").out == "from the host\n"


def test_a_directory_that_is_missing(lab: Host) -> None:
    with lab.configured({"shareless": config.vm("minimal", share("gone", "/srv/sharing/gone"))}):
        done = lab.vm_run("shareless", "true", check=False)
        assert done.code == 255
        status = lab.show(names.vm_unit("shareless"), "StatusText")["StatusText"]
        assert server("gone", "shareless") in status
        assert status in done.err
        assert "/srv/sharing/gone: No such file or directory" in lab.journal("--unit", server("gone", "shareless"))


def test_a_link_in_place_of_a_directory_that_root_serves(lab: Host) -> None:
    """Its parent is the user's, and so would all of the host be that the guest could write to as root."""
    where = "/srv/sharing/swapped"
    lab.run("ln", "-sfn", "/etc", where, user=USER)
    with lab.configured({"swapped": config.vm("minimal", share("all", where, "foreignOwners = true"))}):
        assert lab.vm_run("swapped", "true", check=False).code == 255
        socket = names.share_socket_unit("swapped", "all")
        assert lab.state(socket) == "failed"
        message = (
            f"the shared directory {where} is not used: {where} belongs to {USER}, what it leads to belongs to root"
        )
        assert message in lab.journal("--unit", socket)
        assert lab.main_pid(server("all", "swapped")) == 0


def test_a_link_that_comes_later(lab: Host) -> None:
    """A user who is quicker than systemd, which follows it into the room of virtiofsd."""
    where = "/srv/sharing/quick"
    lab.run("mkdir", where, user=USER)
    with lab.configured({"quick": config.vm("minimal", share("all", where, "foreignOwners = true"))}):
        socket = names.share_socket_unit("quick", "all")
        need(lab, "needs-socket", socket)
        lab.run("sh", "-ec", f"mv {where} {where}-away; ln -s /etc {where}", user=USER)
        need(lab, "needs-server", server("all", "quick"))
        lab.wait_state(server("all", "quick"), "failed", timeout=20)
        assert "it was replaced since" in lab.journal("--unit", server("all", "quick"))
        lab.systemctl("stop", "needs-socket.service", "needs-server.service")


def need(lab: Host, name: str, unit: str) -> None:
    """Start *unit*, and keep it from stopping because nobody needs it."""
    lab.run("systemd-run", f"--unit={name}", f"--property=Wants={unit}", f"--property=After={unit}", "sleep", "600")
