"""Root of a guest is hostile: it does not get out of the directory that it shares, nor leaves a trap in it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import config
from lab.attack import guest
from lab.host import Host
from lab.tree import USER

VM = "sharer-hostile"
TOP = "/srv/hostile"
TAGS = ("mine", "all")  # as the user, and as root

# What the host's user, who may be as careless, has in there.
_PREPARE = f"""
install -d --owner={USER} --group={USER} {TOP} {TOP}/outside
echo "the host's" >{TOP}/outside/secret
echo "the host's" >/etc/shadow.host
chmod 0666 {TOP}/outside/secret /etc/shadow.host
for tag in {" ".join(TAGS)}; do
    install -d --owner={USER} --group={USER} {TOP}/$tag {TOP}/$tag/inner
    ln -s {TOP}/outside/secret {TOP}/$tag/absolute
    ln -s ../outside/secret {TOP}/$tag/relative
    ln -s inner/../../outside/secret {TOP}/$tag/dotted
    ln -s {TOP}/outside {TOP}/$tag/away
done
"""

# What the guest may: within.
ALLOWED = {"make a file"}


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    lab.run("sh", "-ec", _PREPARE)
    shares = [config.share("mine", f"{TOP}/mine"), config.share("all", f"{TOP}/all", foreignOwners=True)]
    with lab.configured({VM: config.vm("minimal", *shares)}):
        yield
    lab.run("rm", "-rf", TOP, "/etc/shadow.host")


@pytest.fixture(scope="module", params=TAGS)
def tag(request: pytest.FixtureRequest, lab: Host) -> str:
    tag: str = request.param
    lab.vm_run("--user", "root", VM, f"mkdir -p /mnt-{tag} && mount -t virtiofs {tag} /mnt-{tag}")
    return tag


def test_the_guest_stays_inside(lab: Host, tag: str) -> None:
    source = Path(guest.__file__).read_text()
    said = lab.vm_run("--user", "root", VM, "python3", "-", f"/mnt-{tag}", input=source).out
    outcomes = {what: (succeeded, detail) for what, succeeded, detail in json.loads(said)}
    print("\n".join(f"{what:<50}{detail}" for what, (_, detail) in outcomes.items()))
    assert {what for what, (succeeded, _) in outcomes.items() if succeeded} == ALLOWED
    assert lab.read(f"{TOP}/outside/secret") == "the host's\n"


def test_no_trap_is_left(lab: Host, tag: str) -> None:
    """No device, and no program that would run as somebody else, whoever of the host started it."""
    assert lab.run("find", f"{TOP}/{tag}", "(", "-type", "b,c", "-o", "-perm", "/6000", ")").out == ""
    attributes = "import os; print([p for p in os.scandir('.') if 'security.capability' in os.listxattr(p)])"
    assert lab.run("sh", "-ec", f'cd {TOP}/{tag}; exec python3 -c "$1"', "sh", attributes).out == "[]\n"


def test_the_share_still_serves(lab: Host, tag: str) -> None:
    assert lab.vm_run("--user", "root", VM, f"cat /mnt-{tag}/made && echo still here").out == "still here\n"
