"""What a guest writes is gone when it stops, or kept, as configured."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import config
from lab.host import Host, Result
from lab.tree import STRANGER, USER
from vmsilo import names, paths


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    files = {
        "overlay-raw": config.vm("minimal", '[rootOverlay]\ntype = "raw"\nsize = "512M"'),
        "overlay-tmpfs": config.vm("minimal", '[rootOverlay]\ntype = "tmpfs"'),
    }
    with lab.configured(files):
        yield


def left(lab: Host, vm: str) -> list[str]:
    """Files of the VM's state directory, and what deleted files in it still occupy."""
    found = lab.run("find", f"/var/lib/private/vmsilo/{vm}", f"{paths.STATE}/{vm}/", "-type", "f").out.splitlines()
    return sorted(set(found))


@pytest.mark.parametrize("vm", ["overlay-raw", "overlay-tmpfs"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_left(lab: Host, vm: str, end: str) -> None:
    where = lab.vm_run("--user", "root", vm, "head -c 50m /dev/zero >/root-was-here && df -h / && ls /").out
    assert "root-was-here" in where
    assert left(lab, vm) == []  # not even while it runs
    unit = names.vm_unit(vm)
    if end == "stop":
        lab.run("vm-stop", vm, user=USER)
    else:
        lab.run("kill", "-9", str(lab.main_pid(unit)))
        lab.wait_for(lambda: lab.state(unit) in ("failed", "inactive"))
    assert left(lab, vm) == []
    assert "root-was-here" not in lab.vm_run(vm, "ls /").out


def test_overlay_size(lab: Host) -> None:
    blocks = int(lab.vm_run("overlay-raw", "df -k / | tail -n 1 | awk '{ print $2 }'").out)
    assert 400 * 1024 < blocks < 512 * 1024


def test_a_root_disk_of_its_own_remembers(lab: Host) -> None:
    """An ext4 copy of what a guest has in its root, written to by another guest."""
    vm = "keeper"
    disk = "/var/lib/keeper.img"
    files = lab.vm_run("--user", "root", "overlay-raw", "cd / && tar c bin sbin lib lib64 usr etc home root var").raw
    script = f"""
    mkdir -p /run/keeper/dev /run/keeper/proc /run/keeper/sys /run/keeper/run /run/keeper/tmp
    tar x -C /run/keeper
    truncate -s 1G {disk}
    mke2fs -q -t ext4 -d /run/keeper {disk}
    chmod 0666 {disk}
    rm -r /run/keeper
    """
    lab.run("sh", "-ec", script, input=files)
    with lab.configured({vm: config.vm(rootDisk=disk, rootDiskReadonly=False)}):
        lab.vm_run("--user", "root", vm, "echo remembered >/etc/memory; sync")
        lab.run("vm-stop", vm, user=USER)
        assert lab.vm_run(vm, "cat /etc/memory").out == "remembered\n"
    lab.run("rm", disk)


HOME = f"/home/{USER}"


def disk(**keys: str | int | bool) -> str:
    """A table of additionalDisks."""
    return "\n".join(["[[additionalDisks]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())])


def as_root(lab: Host, vm: str, script: str, *, check: bool = True) -> Result:
    return lab.vm_run("--user", "root", vm, script, check=check)


@pytest.fixture
def private(lab: Host) -> Iterator[str]:
    """A directory of the user's that nobody else may enter, with disks that nobody else may open."""
    directory = f"{HOME}/disks"
    lab.run("sh", "-ec", f"""
        mkdir -m 0700 {directory}; cd {directory}
        truncate -s 32M plain.img second.img
        umask 077; chmod 0600 *.img; chown -R {USER}: .
    """)  # fmt: skip
    yield directory
    lab.run("rm", "-r", directory)


def rights(lab: Host, path: str) -> str:
    return lab.run("sh", "-ec", 'stat -c "%a %U" "$1"; getfacl -cp "$1"', "sh", path).out


def test_disks_of_the_user(lab: Host, private: str) -> None:
    """The VM's user may open none of them, gets them open, and they are what they were."""
    vm = "with-disks"
    plain, second = f"{private}/plain.img", f"{private}/second.img"
    before = rights(lab, plain)
    lab.run("sh", "-ec", f"printf seen | dd of={second} conv=notrunc status=none")
    files = config.vm("minimal", disk(path=plain, id="data", **{"block-size": 4096}), disk(path=second, ro=True))
    with lab.configured({vm: files}):
        # The minimal guest has no udev, which makes /dev/disk/by-id of these.
        assert as_root(lab, vm, "cat /sys/block/vd?/serial").out == "vmsilo-rootvmsilo-overlaydatavmsilo-disk2"
        assert rights(lab, plain) == before
        script = "cat /sys/block/vdc/queue/logical_block_size /sys/block/vdd/ro; head -c 4 /dev/vdd"
        assert as_root(lab, vm, script).out == "4096\n1\nseen"
        refused = as_root(lab, vm, "echo x | dd of=/dev/vdd", check=False)
        assert refused.code != 0
        as_root(lab, vm, "printf 'from the guest' | dd of=/dev/vdc; sync; blockdev --flushbufs /dev/vdc || true")
        lab.run("vm-stop", vm, user=USER)
    assert lab.run("head", "-c", "14", plain).out == "from the guest"
    assert lab.run("head", "-c", "4", second).out == "seen"
    assert rights(lab, plain) == before


def test_one_disk_has_one_writer(lab: Host, private: str) -> None:
    """The second VM says which one has it; once that is gone, however it went, the disk is free."""
    plain = f"{private}/plain.img"
    lab.run("ln", plain, f"{private}/link.img")
    files = {
        "writer": config.vm("minimal", disk(path=plain)),
        "late-writer": config.vm("minimal", disk(path=f"{private}/link.img")),
        "late-reader": config.vm("minimal", disk(path=plain, ro=True)),
        "reader": config.vm("minimal", disk(path=plain, ro=True)),
    }
    with lab.configured(files):
        lab.run("vm-start", "writer", user=USER)
        for vm, path in (("late-writer", f"{private}/link.img"), ("late-reader", plain)):
            refused = lab.run("vm-start", vm, user=USER, check=False)
            assert refused.code != 0
            assert f'the disk {path} is in use by VM "writer" (one that is written to can only be in' in refused.err
        lab.run("kill", "-9", str(lab.main_pid(names.vm_unit("writer"))))
        lab.run("vm-start", "late-reader", "reader", user=USER)
        refused = lab.run("vm-start", "late-writer", user=USER, check=False)
        assert f'{private}/link.img is in use by VM "late-reader" and VM "reader"' in refused.err
        lab.run("vm-stop", "late-reader", "reader", user=USER)
        with_lock = lab.start("flock", "--exclusive", plain, "sh", "-c", "echo; exec sleep 1000")
        with_lock.read_line()
        refused = lab.run("vm-start", "late-writer", user=USER, check=False)
        assert "is in use by another program" in refused.err
        with_lock.stop()


def test_a_link_in_the_users_directory_leads_nowhere(lab: Host, private: str) -> None:
    """Else the user could have any file of the host opened by root."""
    vm = "misled"
    secret = "/var/lib/secret.img"
    lab.run("sh", "-ec", f"echo secret >{secret}; chmod 0600 {secret}; ln -s {secret} {private}/link.img")
    lab.run("chown", "-h", f"{USER}:", f"{private}/link.img")
    lab.run("sh", "-ec", f"cp {private}/plain.img {private}/foreign.img; chown {STRANGER}: {private}/foreign.img")
    for name, owner in (("link", "root"), ("foreign", STRANGER)):
        with lab.configured({vm: config.vm("minimal", disk(path=f"{private}/{name}.img"))}):
            refused = lab.run("vm-start", vm, user=USER, check=False)
            assert refused.code != 0
            assert f"belongs to {USER}, what it leads to belongs to {owner}" in refused.err
    lab.run("rm", secret)


def occupied(lab: Host, path: str) -> int:
    """KiB that a file takes on the host."""
    return int(lab.run("du", "-k", path).out.split()[0])


def test_discards_free_blocks_of_the_host(lab: Host, private: str) -> None:
    """Where sparse is on; past the page cache, too."""
    vm = "discarding"
    sparse, thick = f"{private}/plain.img", f"{private}/second.img"
    disks = [disk(path=sparse, direct=True), disk(path=thick, sparse=False)]
    with lab.configured({vm: config.vm("minimal", *disks)}):
        as_root(lab, vm, "for d in vdc vdd; do head -c 16m /dev/urandom >/dev/$d; done; sync")
        assert occupied(lab, sparse) >= 16 << 10 <= occupied(lab, thick)
        as_root(lab, vm, "blkdiscard -l 8388608 /dev/vdc")
        assert as_root(lab, vm, "blkdiscard -l 8388608 /dev/vdd", check=False).code != 0
        assert 8 << 10 <= occupied(lab, sparse) <= 9 << 10
        assert occupied(lab, thick) >= 16 << 10


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="no qemu-img")
def test_qcow2(lab: Host, private: str, tmp_path: Path) -> None:
    """What the guest wrote is in the image, and what it wrote into a raw disk is no image."""
    vm = "with-qcow2"
    image = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    path, raw = f"{private}/disk.qcow2", f"{private}/plain.img"
    lab.write(path, image.read_bytes(), "0600")
    lab.run("chown", f"{USER}:", path)
    with lab.configured({vm: config.vm("minimal", disk(path=path, format="qcow2"), disk(path=raw))}):
        assert as_root(lab, vm, "cat /sys/block/vdc/size").out == f"{64 << 11}\n"
        as_root(lab, vm, "dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\\0' x >/dev/vdc; sync")
        # Another disk with the header of an image that names a file of the host.
        as_root(lab, vm, "printf 'QFI\\373\\0\\0\\0\\3' | dd of=/dev/vdd conv=notrunc; sync")
        lab.run("vm-stop", vm, user=USER)
        assert as_root(lab, vm, "cat /sys/block/vdd/size; head -c 3 /dev/vdd").out == f"{32 << 11}\nQFI"
        lab.run("vm-stop", vm, user=USER)
    image.write_bytes(lab.run("cat", path).raw)
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, tmp_path / "raw"], check=True)
    assert (tmp_path / "raw").read_bytes() == b"x" * (1 << 20) + bytes(63 << 20)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A block device of the outer machine: its minor number and the file behind it."""
    file = tmp_path / "loop.img"
    file.write_bytes(bytes(8 << 20))
    made = subprocess.run(["losetup", "--find", "--show", file], check=False, capture_output=True, encoding="utf-8")
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    device = made.stdout.strip()
    yield os.minor(os.stat(device).st_rdev), file
    subprocess.run(["losetup", "--detach", device], check=True)


def test_a_block_device(lab: Host, loop: tuple[int, Path]) -> None:
    """One that belongs to root and the group disk, as they do; locked like a file."""
    minor, file = loop
    node = "/dev/lab-disk"
    lab.run("sh", "-ec", f"mknod -m 0660 {node} b 7 {minor}; chown root:disk {node}")
    files = {"on-device": config.vm("minimal", disk(path=node)), "late-one": config.vm("minimal", disk(path=node))}
    with lab.configured(files):
        as_root(lab, "on-device", "printf 'from the guest' | dd of=/dev/vdc; sync")
        assert lab.run("head", "-c", "14", node).out == "from the guest"
        refused = lab.run("vm-start", "late-one", user=USER, check=False)
        assert f'the disk {node} is in use by VM "on-device"' in refused.err
        lab.run("vm-stop", "on-device", user=USER)
        # As mounting it does.
        taken = (
            "import os, time; os.open('/dev/lab-disk', os.O_RDWR | os.O_EXCL); print(flush=True); time.sleep(1000)"
        )
        host = lab.start("python3", "-c", taken)
        host.read_line()
        refused = lab.run("vm-start", "late-one", user=USER, check=False)
        assert f"the disk {node} is in use by the host itself, mounted or as part of another device (" in refused.err
        host.stop()
    lab.run("rm", node)
    assert file.read_bytes().startswith(b"from the guest")


# A hypervisor that opens disks and sockets by their paths, as far as this test goes.
_BY_PATH = """\
#!/bin/sh
for path in SOCKETS; do
    socat -u OPEN:/dev/null "UNIX-CONNECT:$path" 2>/dev/null && echo "cloud-hypervisor may reach $path" >&2
done
for path in FILES; do
    (exec 3<>"$path") 2>/dev/null && echo "cloud-hypervisor may write $path" >&2
    (exec 3<"$path") 2>/dev/null && echo "cloud-hypervisor may read $path" >&2
done
exit 1
"""


@pytest.fixture
def by_path(lab: Host) -> Iterator[str]:
    """Where such a hypervisor is to be, and what it needs so that it is started."""
    program, kvm = "/usr/local/bin/cloud-hypervisor", "/dev/kvm"
    lab.run("mknod", "-m", "0666", kvm, "c", "1", "3")  # good enough to be opened
    yield program
    lab.run("rm", "-f", kvm, program)


def test_too_few_huge_pages(lab: Host, by_path: str) -> None:
    vm = "with-huge-pages"
    lab.write(by_path, "#!/bin/sh\nexit 1\n", "0755")
    text = config.vm("minimal", "[cloud-hypervisor]\nhugepages = true", hypervisor="cloud-hypervisor", memory=1 << 24)
    with lab.configured({vm: text}):
        refused = lab.run("vm-start", vm, user=USER, check=False)
        assert f"{1 << 23} huge pages of 2 MiB are needed and " in refused.err
        assert "sysctl vm.nr_hugepages=" in refused.err


def test_a_right_by_path_is_taken_back(lab: Host, private: str, by_path: str) -> None:
    """cloud-hypervisor is given the right to its disks and backends alone, for as long as its unit runs."""
    vm = "by-path"
    plain, second, third = (f"{private}/{name}.img" for name in ("plain", "second", "third"))
    lab.run("cp", "-p", plain, third)
    used, unused = (f"{private}/{name}.socket" for name in ("used", "unused"))
    backends = [
        lab.start("socat", "-u", f"UNIX-LISTEN:{path},mode=0600,fork", "OPEN:/dev/null", user=USER)
        for path in (used, unused)
    ]
    lab.wait_for(lambda: lab.exists(used) and lab.exists(unused))
    given = (plain, second, used)
    before = [rights(lab, path) for path in given]
    lab.run("setfacl", "-m", "u:61999:rw", plain)  # left by a crash of the host
    script = _BY_PATH.replace("FILES", f"{plain} {second} {third}").replace("SOCKETS", f"{used} {unused}")
    lab.write(by_path, script, "0755")
    device = f'[[vhostUser]]\ntype = "net"\nsocket = "{used}"'
    disks = disk(path=plain), disk(path=second, ro=True)
    file = config.vm("minimal", *disks, device, hypervisor="cloud-hypervisor")
    try:
        with lab.configured({vm: file}):
            since = lab.now()
            assert lab.run("vm-start", vm, user=USER, check=False).code != 0
            said = lab.journal("-u", names.vm_unit(vm), since=since)
            lab.wait_for(lambda: lab.state(names.vm_unit(vm)) == "failed")
            assert [rights(lab, path) for path in given] == before
    finally:
        for backend in backends:
            backend.stop()
    could = {line.partition("-hypervisor may ")[2] for line in said.splitlines() if "-hypervisor may " in line}
    assert could == {f"write {plain}", f"read {plain}", f"read {second}", f"reach {used}"}


def test_a_backend_of_the_users(lab: Host, private: str) -> None:
    """A virtiofsd that the user started, with a socket that only the user may connect to."""
    vm, socket = "own-backend", f"{private}/fs.socket"
    lab.run("sh", "-ec", f"mkdir {private}/shared; echo hello >{private}/shared/file; chown -R {USER}: {private}")
    device = f'[[vhostUser]]\ntype = "fs"\nsocket = "{socket}"\ntag = "own"\n'
    with lab.configured({vm: config.vm("minimal", device)}):
        refused = lab.run("vm-start", vm, user=USER, check=False)
        assert f"the fs device's socket {socket} for connecting: No such file or directory" in refused.err
        line = ["--socket-path", socket, "--shared-dir", f"{private}/shared", "--sandbox=none"]
        serving = lab.start("/usr/libexec/virtiofsd", *line, user=USER)
        lab.wait_for(lambda: lab.exists(socket))
        script = "modprobe virtiofs; mkdir /mnt; mount -t virtiofs own /mnt && cat /mnt/file && echo back >/mnt/new"
        assert as_root(lab, vm, script).out == "hello\n"
        assert lab.run("cat", f"{private}/shared/new").out == "back\n"
        lab.run("vm-stop", vm, user=USER)
        serving.stop()


def test_a_guest_that_fills_its_overlay_goes_on(lab: Host) -> None:
    """And says so, itself."""
    vm = "small"
    with lab.configured({vm: config.vm("minimal", '[rootOverlay]\nsize = "32M"')}):
        filled = as_root(lab, vm, "dd if=/dev/zero of=/root/big bs=64k; rm /root/big")
        assert "No space left on device" in filled.err
        assert as_root(lab, vm, "echo still here >/root/file; cat /root/file").out == "still here\n"


def test_a_host_without_room_does_not_stop_the_guest(lab: Host) -> None:
    """The host says at the start that there may be too little room, the guest that there is none."""
    vm = "sparse"
    state = f"/var/lib/private/vmsilo/{vm}"
    lab.run("sh", "-ec", f"mkdir -p -m 0700 {state}; mount -t tmpfs -o size=24m tmpfs {state}")
    try:
        with lab.configured({vm: config.vm("minimal", '[rootOverlay]\nsize = "512M"')}):
            since = lab.now()
            as_root(lab, vm, "head -c 100m /dev/urandom >/root/big; sync", check=False)
            assert f"the overlay may grow to 512 MiB, but {paths.STATE}/{vm} has " in lab.journal(since=since)
            assert lab.vm_run(vm, "echo still here").out == "still here\n"
            console = lab.run("cat", f"{paths.vm_dir(vm)}/{paths.CONSOLE_LOG}").out
            assert "I/O error, dev vdb" in console or "critical space allocation error, dev vdb" in console
            assert lab.state(names.vm_unit(vm)) == "active"
            lab.systemctl("start", "vmsilo-trim.service")
            assert f"of VM {vm} can't grow: 0 MiB are left in {paths.STATE}/{vm}" in lab.journal(since=since)
    finally:
        lab.run("umount", state, check=False)
