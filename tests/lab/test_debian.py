"""What a user gets: a full Debian guest with systemd. Two VMs from one image, on a host of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import boot, config, images
from lab.host import CONFIG, Host
from lab.tree import USER
from vmsilo import names, paths

DISK = "/var/lib/extra.img"
EXTRA = f'[[additionalDisks]]\npath = "{DISK}"\nid = "extra"\n'
DATA = "/srv/data"
SHARED = f'[sharedDirectories.data]\npath = "{DATA}"\nmountPath = "/mnt/data"\n'

FILES = {
    "work": config.vm("debian", EXTRA, SHARED, memory=512, sharedHome=True),
    "play": config.vm("debian", memory=512),
}


@pytest.fixture(scope="module")
def debian() -> dict[str, Path]:
    return {"debian": images.debian()}


@pytest.fixture(scope="module")
def lab(debian: dict[str, Path]) -> Iterator[Host]:
    """Instead of the shared one. Both VMs are started at once, as they would be by two impatient users."""
    files = {f"{CONFIG}/{stem}.toml": text for stem, text in {"host": config.HOST, **FILES}.items()}
    files[DISK] = "hello" + " " * 4091
    host = boot.boot(debian, files)
    host.run("install", "-d", f"--owner={USER}", f"--group={USER}", DATA)
    host.run("vm-start", *FILES, user=USER, timeout=500)
    yield host
    host.close()


def test_both_run_from_one_image(lab: Host) -> None:
    assert [vm["state"] for vm in lab.listed()] == ["running", "running"]
    ids = {lab.vm_run(vm, "cat /proc/sys/kernel/random/boot_id").out for vm in FILES}
    assert len(ids) == 2


def test_host_name_is_the_vm_s(lab: Host) -> None:
    for vm in FILES:
        assert lab.vm_run(vm, "hostname").out == f"{vm}\n"


def test_ready_came_from_the_guest_s_systemd(lab: Host) -> None:
    assert lab.vm_run("work", "ps -p 1 -o comm=").out == "systemd\n"
    assert lab.show(names.vm_unit("work"), "StatusText")["StatusText"] == "ready"
    assert lab.vm_run("work", "systemctl is-system-running --wait", check=False, timeout=300).out == "running\n"


def test_no_unit_has_failed(lab: Host) -> None:
    assert lab.vm_run("play", "systemctl list-units --failed --plain --no-legend").out == ""


def test_a_command_has_a_session(lab: Host) -> None:
    """Opened by PAM, which says whose it is; and the user's own manager is there."""
    said = lab.vm_run("work", "cat /proc/self/loginuid; echo; id -un; echo $XDG_RUNTIME_DIR $LANG").out.split()
    assert said == ["1000", "user", "/run/user/1000", "C.UTF-8"]
    assert lab.vm_run("work", "systemctl --user is-system-running --wait", check=False).out == "running\n"


def test_home_is_a_directory_of_the_host(lab: Host) -> None:
    """Mounted by the guest's systemd before anybody could look into it; the other VM's is its own affair."""
    told = "findmnt -n -o SOURCE,FSTYPE --target ~; stat -c '%U:%G' ~ ~/.profile; cat ~/.profile; echo kept >~/made"
    source, owner, of_file, *profile = lab.vm_run("work", told).out.splitlines()
    assert source.split() == [names.HOME_TAG, "virtiofs"]
    assert (owner, of_file) == ("user:user", "user:user")
    assert profile == lab.read(f"{paths.INSTALLED_HOME_TEMPLATE}/.profile").splitlines()
    assert lab.read(f"{paths.home('work')}/made") == "kept\n"
    assert lab.run("stat", "-c", "%U", f"{paths.home('work')}/made").out == f"{USER}\n"
    assert not lab.exists(paths.home("play"))
    assert lab.vm_run("play", "findmnt -n -o FSTYPE --target ~").out == "overlay\n"


def test_a_shared_directory_is_mounted_where_it_should_be(lab: Host) -> None:
    """By the guest's systemd, which a credential tells of it."""
    told = "findmnt -n -o SOURCE,FSTYPE /mnt/data; stat -c %U /mnt/data; echo hello >/mnt/data/hello"
    source, owner = lab.vm_run("work", told).out.splitlines()
    assert (source.split(), owner) == (["data", "virtiofs"], "user")
    assert lab.read(f"{DATA}/hello") == "hello\n"


def test_a_command_is_a_unit_of_its_own(lab: Host) -> None:
    groups = [lab.vm_run("work", "cat /proc/self/cgroup").out for _ in range(2)]
    assert all("vmsilo-agent@" in group for group in groups)
    assert groups[0] != groups[1]


def test_both_can_write_their_root(lab: Host) -> None:
    for vm in FILES:
        lab.vm_run("--user", "root", vm, f"echo {vm} >/etc/mark")
    for vm in FILES:
        assert lab.vm_run(vm, "cat /etc/mark").out == f"{vm}\n"


def test_a_disk_is_found_by_its_id(lab: Host) -> None:
    path = "/dev/disk/by-id/virtio-extra"
    assert lab.vm_run("--user", "root", "work", f"readlink -f {path}; head -c 5 {path}").out == "/dev/vdc\nhello"


def test_terminal(lab: Host) -> None:
    said = lab.vm_run("-t", "work", "tty; ps -o comm= -p $$").out
    assert "/dev/pts/" in said


# The unit of the shell that reads this; its name is by a number and the connection.
OWN_UNIT = "sed 's|.*/||' /proc/self/cgroup"


def detached(lab: Host, command: str, mark: str) -> str:
    """Leave *command* running in a bash, and wait until it has made the file *mark*; the unit that it is in."""
    lab.vm_run("-d", "work", "bash", "-c", f"{OWN_UNIT} >{mark}.unit; {command}")
    lab.wait_for(lambda: lab.vm_run("work", f"test -e {mark}", check=False).code == 0)
    return lab.vm_run("work", "cat", f"{mark}.unit").out.strip()


def stop_in_guest(lab: Host, unit: str) -> str:
    """Stop the agent's *unit* as a shutdown of the guest would; what became of it."""
    lab.vm_run("--user", "root", "work", f"systemctl stop '{unit}'")
    return lab.vm_run("--user", "root", "work", f"journalctl --sync; journalctl -b -o cat -u '{unit}'").out


def test_what_a_command_left_behind_is_hung_up(lab: Host) -> None:
    """A shell ignores SIGTERM; with SIGHUP, which systemd sends besides, it ends at once, and can tidy up."""
    waits = "trap '' TERM; trap 'echo hup >/tmp/hung-up; exit' HUP; touch /tmp/waits; while :; do sleep 0.1; done"
    said = stop_in_guest(lab, detached(lab, waits, "/tmp/waits"))
    assert lab.vm_run("work", "cat", "/tmp/hung-up").out == "hup\n"
    assert "timed out" not in said


def test_what_ignores_that_as_well_does_not_hold_up_a_shutdown(lab: Host) -> None:
    unit = detached(lab, "trap '' TERM HUP; touch /tmp/ignores; while :; do sleep 0.1; done", "/tmp/ignores")
    began = lab.now()
    said = stop_in_guest(lab, unit)
    took = lab.now() - began
    assert "timed out. Killing" in said
    assert took < 60  # by default, systemd waits for 90 s


def test_shuts_down_in_order(lab: Host) -> None:
    """By the power button, in the guest's own time; and what it wrote is gone, but not from its home."""
    before = lab.now()
    stopped = lab.run("vm-stop", *FILES, user=USER, timeout=300)
    assert stopped.err == ""
    for vm in FILES:
        assert lab.show(names.vm_unit(vm), "ActiveState", "Result") == {
            "ActiveState": "inactive",
            "Result": "success",
        }
    assert "killing" not in lab.journal("--unit", names.vm_unit("work"), since=before).lower()
    assert lab.vm_run("work", "cat /etc/mark", check=False, timeout=300).code != 0
    assert lab.vm_run("work", "cat ~/made /mnt/data/hello").out == "kept\nhello\n"
