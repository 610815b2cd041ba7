"""A VM's home on the host, made by units that systemd runs: as whom, from what, and what is refused."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vmsilo import names, paths

VM = "homely"
OWN = "homely-own"  # with a path of its own
OWN_HOME = "/srv/homes/of their own"


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    with lab.configured({VM: config.vm(sharedHome=True), OWN: config.vm(sharedHome=OWN_HOME)}):
        yield


@pytest.fixture(autouse=True)
def beginning(lab: Host) -> Iterator[None]:
    """Each test begins with a host on which no VM has been started."""
    yield
    lab.run("rm", "-rf", paths.SHARED, paths.HOME_TEMPLATE, "/srv/homes")


def make(lab: Host, vm: str = VM, *, fails: bool = False) -> str:
    """Start the unit that makes the home: what it says. It is the dependency of the share, and so of the VM."""
    unit = names.home_unit(vm)
    before = lab.now()
    done = lab.systemctl("start", unit, check=False)
    assert (done.code != 0) == fails, done.err
    said = lab.journal("-u", unit, "-t", "vm-home", "-o", "cat", since=before).strip()
    if fails:
        assert lab.show(unit, "StatusText")["StatusText"] == said.removeprefix("vm-home: ")
    return said


def listed(lab: Host, *paths: str) -> dict[str, str]:
    """Owner, group and mode of each file below *paths*."""
    found = lab.run("find", *paths, "-printf", "%P\t%u:%g %m\n").out.splitlines()
    return dict(line.split("\t") for line in found)


def test_the_first_start(lab: Host) -> None:
    """With nothing there but what was installed."""
    assert make(lab) == ""
    owner = f"{USER}:{USER}"
    assert listed(lab, paths.SHARED, "-maxdepth", "2") == {
        "": f"{owner} 755",
        VM: f"{owner} 755",
        f"{VM}/home": f"{owner} 755",
    }
    copied = listed(lab, paths.home(VM))
    assert copied == listed(lab, paths.HOME_TEMPLATE)
    assert copied == {
        name: f"{owner} {mode.split()[1]}" for name, mode in listed(lab, paths.INSTALLED_HOME_TEMPLATE).items()
    }
    assert {".profile", ".bashrc", ".config/user-dirs.dirs"} <= copied.keys()


def test_later_starts_run_nothing(lab: Host) -> None:
    make(lab)
    lab.run("touch", f"{paths.home(VM)}/mine", user=USER)
    for unit in (names.home_unit(VM), names.SHARED_UNIT):
        before = lab.show(unit, "ExecMainStartTimestampMonotonic")
        lab.systemctl("start", unit)
        after = lab.show(unit, "ExecMainStartTimestampMonotonic", "ConditionResult")
        assert after == {**before, "ConditionResult": "no"}
    assert lab.exists(f"{paths.home(VM)}/mine")


def test_an_edited_template(lab: Host) -> None:
    """The user's own to change; and what only root can copy is copied by root, but for privileges."""
    lab.systemctl("start", names.SHARED_UNIT)
    script = f"""
    cd {paths.HOME_TEMPLATE}
    rm -r .config
    echo mine >notes; chmod 0600 notes
    ln notes again
    ln -s /etc/shadow link
    truncate -s 100M sparse
    setfacl -m u:{1001}:r notes
    mkdir inbox; setfacl -d -m u:{1001}:rx inbox
    """
    lab.run("sh", "-ec", script, user=USER)
    as_root = (
        f"cd {paths.HOME_TEMPLATE}; install -m 4755 /bin/true tool; install -d -m 0700 closed; echo x >closed/file"
    )
    lab.run("sh", "-ec", as_root)
    left_out = f"vm-home: left out of {paths.home(VM)}: tool, set-user-ID and set-group-ID bits"
    assert make(lab) == left_out
    compared = "find -printf '%P %u:%g %m %s %n %T@ %l\\n' | sort; getfacl -R -p . | sort; cat notes; du -k sparse"
    here, there = (
        lab.run("sh", "-ec", f"cd {place}; {compared}").out for place in (paths.HOME_TEMPLATE, paths.home(VM))
    )
    assert "tool root:root 4755" in here
    assert "user:mallory:r--" in here
    expected = here.replace("tool root:root 4755", "tool root:root 755").splitlines()
    assert [line for line in there.splitlines() if line not in expected] == []


def test_a_place_of_one_s_own(lab: Host) -> None:
    """Root's directory, in which the user may not write."""
    said = make(lab, OWN, fails=True)
    assert said == "vm-home: there is no directory /srv/homes (make it)"
    lab.run("mkdir", "/srv/homes")
    assert make(lab, OWN) == ""
    assert listed(lab, OWN_HOME)[""] == f"{USER}:{USER} 755"
    assert listed(lab, "/srv/homes", "-maxdepth", "1")[""] == "root:root 755"
    assert not lab.exists(paths.home(OWN))


@pytest.mark.parametrize("place", [f"{paths.SHARED}/{VM}", paths.home(VM)])
def test_a_planted_link(lab: Host, place: str) -> None:
    """Also one that is put there later, where a home had been: the VM does not start."""
    make(lab)
    lab.run("sh", "-ec", 'mkdir -p /tmp/trap/home; rm -r "$1"; ln -s /tmp/trap "$1"', "sh", place, user=USER)
    said = make(lab, fails=True)
    assert "is a symbolic link" in said
    assert lab.run("find", "/tmp/trap").out.split() == ["/tmp/trap", "/tmp/trap/home"]
    done = lab.systemctl("start", names.share_service_unit(VM, names.HOME_TAG), check=False)
    assert "dependency" in done.err
    lab.run("rm", "-r", "/tmp/trap")
    lab.systemctl("reset-failed")


def test_what_may_run(lab: Host) -> None:
    """The user's command has no capability, root's has three, and neither writes anywhere else."""
    lab.write(
        f"/run/systemd/system/{names.home_unit(VM)}.d/try.conf",
        "[Service]\nSystemCallFilter=clone fork vfork wait4\nExecStart=\n"
        "ExecStart=sh -c 'grep CapEff /proc/self/status; id -un; touch /var/tmp/x; touch /shared/x'\n"
        "ExecStart=!sh -c 'grep CapEff /proc/self/status; id -un; touch /var/tmp/x; touch /etc/x; touch /shared/y'\n",
    )
    lab.reload()
    lab.systemctl("start", names.SHARED_UNIT)
    before = lab.now()
    try:
        lab.systemctl("start", names.home_unit(VM))
    finally:
        lab.run("rm", "-r", f"/run/systemd/system/{names.home_unit(VM)}.d")
        lab.reload()
    said = lab.journal("-u", names.home_unit(VM), "-t", "sh", "-o", "cat", since=before).splitlines()
    assert [line for line in said if not line.startswith("touch")] == [
        "CapEff:\t0000000000000000",
        USER,
        f"CapEff:\t{1 << 0 | 1 << 1 | 1 << 3:016x}",  # chown, dac_override, fowner
        "root",
    ]
    assert [line.split("'")[1] for line in said if line.startswith("touch")] == ["/var/tmp/x", "/var/tmp/x", "/etc/x"]
    assert lab.exists(f"{paths.SHARED}/y")


def test_a_vm_without_its_home_does_not_start(lab: Host) -> None:
    """And says where it stands why."""
    before = lab.now()
    done = lab.run("vm-start", OWN, user=USER, check=False)
    assert done.code != 0
    assert "the shared directory home is not served" in done.err
    assert names.home_unit(OWN) in done.err
    assert "there is no directory /srv/homes (make it)" in lab.journal("-u", names.home_unit(OWN), since=before)
    lab.systemctl("reset-failed")
