"""Shared directories, with the real virtiofsd and real guests."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER

VM = "sharer"
TWIN = "sharer-twin"
DATA = "/srv/sharing/data é%n"
BOOKS = "/srv/sharing/books"


def share(tag: str, path: str, *lines: str) -> str:
    return "\n".join([f"[sharedDirectories.{tag}]", f'path = "{path}"', *lines])


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    lab.run("install", "-d", f"--owner={USER}", f"--group={USER}", "/srv/sharing", DATA, BOOKS)
    lab.write(f"{BOOKS}/title", "a book\n")
    files = {
        VM: config.vm("minimal", share("data", DATA), share("books", BOOKS, "readonly = true")),
        TWIN: config.vm("minimal", share("data", DATA)),
    }
    with lab.configured(files):
        yield


def mount(lab: Host, vm: str, *tags: str) -> None:
    """Mount the shares at /mnt-<tag> in the guest, unless they are."""
    for tag in tags:
        where = f"/mnt-{tag}"
        script = f"grep -q ' {where} ' /proc/mounts || {{ mkdir -p {where} && mount -t virtiofs {tag} {where}; }}"
        lab.vm_run("--user", "root", vm, script)


def test_both_sides_see_what_the_other_writes(lab: Host) -> None:
    mount(lab, VM, "data")
    lab.vm_run("--user", "user", VM, "echo from the guest >/mnt-data/guest")
    assert lab.read(f"{DATA}/guest") == "from the guest\n"
    assert lab.run("stat", "-c", "%U:%G %a", f"{DATA}/guest").out == f"{USER}:{USER} 644\n"
    lab.run("sh", "-c", f"echo from the host >'{DATA}/host'", user=USER)
    assert lab.vm_run(VM, "cat /mnt-data/host; stat -c '%u:%g' /mnt-data/host").out == "from the host\n1000:1000\n"
