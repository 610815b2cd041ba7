"""What a guest writes is gone when it stops, or kept, as configured."""

from collections.abc import Iterator

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
    import json

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
