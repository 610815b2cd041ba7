"""What a guest writes is gone when it stops, or kept, as configured."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
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
