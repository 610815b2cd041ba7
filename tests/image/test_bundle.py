"""Bundles: the manifest, what is listed, and how they come and go."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm_image import bundle
from vmsilo import paths, plan
from vmsilo.failure import Failure

MANIFEST = bundle.Manifest(
    name="work", os="debian", suite="trixie", variant="full", kernel="6.12.1-amd64", cmdline='console=ttyS0 a="b c"',
    agent=True, built=1794169200, packages=("bash_5.2.37-2", "zstd_1:1.5.7"),
)  # fmt: skip


def make_bundle(directory: Path, name: str, kernel: bytes = b"\x7fELF") -> Path:
    path = directory / name
    path.mkdir(parents=True)
    for file in bundle.FILES:
        (path / file).write_bytes(kernel)
    (path / paths.BUNDLE_MANIFEST).write_text(bundle.dumps(MANIFEST._replace(name=name)))
    return path


def plan_of(vm: str, image: Path) -> str:
    fields = dict.fromkeys(plan.Plan._fields)
    fields |= dict.fromkeys(
        ("credentials", "disks", "shares", "vhost_user", "pci", "kernel_params", "extra_args", "extra_run_args"), ()
    )
    fields |= {"vm": vm, "image": str(image), "overlay": plan.Overlay("raw", 1)}
    fields |= {"network": plan.Network((), "", (), ())}
    return plan.dumps(plan.Plan(**fields))  # type: ignore[arg-type]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without VMs: its runtime directory and its generator's."""
    monkeypatch.setattr(paths, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(paths, "GENERATOR_DIR", str(tmp_path / "generator"))
    (tmp_path / "generator").mkdir()
    return tmp_path


def run_vm(vm: str, image: Path) -> Path:
    running = Path(paths.vm_dir(vm), paths.RUNNING_PLAN)
    running.parent.mkdir(parents=True)
    running.write_text(plan_of(vm, image))
    return running


def test_manifest_reads_back() -> None:
    assert bundle.loads(bundle.dumps(MANIFEST)) == MANIFEST


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20))
def test_any_text_survives_the_manifest(text: str) -> None:
    manifest = MANIFEST._replace(cmdline=text, packages=(text,))
    assert bundle.loads(bundle.dumps(manifest)) == manifest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "not a manifest of format 1"),
        ("format = 1\n", "", "not a manifest of format 1"),
        ("agent = true", "agent = 1", "agent is missing or not of type bool"),
        ("built = 1794169200", "built = true", "built is missing or not of type int"),
        ('os = "debian"\n', "", "os is missing"),
        ("packages = [", "packages = [[", "Unclosed|Invalid|unclosed"),
    ],
)
def test_a_manifest_that_is_none_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bundle.loads(bundle.dumps(MANIFEST).replace(old, new))


@pytest.mark.parametrize("name", ["debian", "a", "work-2.1", "x" * 64])
def test_names(name: str) -> None:
    assert bundle.is_name(name)


@pytest.mark.parametrize("name", ["", ".build-1", "-a", "1a", "A", "a/b", "..", "ä", "aä", "a b", "x" * 65, "a_b"])
def test_no_names(name: str) -> None:
    assert not bundle.is_name(name)
    with pytest.raises(Failure, match="not a name"):
        bundle.require_name(name)


def test_lists_what_is_there(host: Path) -> None:
    images = host / "images"
    work = make_bundle(images, "work")
    make_bundle(images, "broken")
    (images / "broken/rootfs.erofs").unlink()
    (images / "bare").mkdir()
    (images / ".build-7").mkdir()
    run_vm("banking", work)
    (host / "generator/vmsilo-mail.plan").write_text(plan_of("mail", work))
    (host / "generator/vmsilo-other.plan").write_text("{")
    found = bundle.images(images)
    assert [image.name for image in found] == ["bare", "broken", "work"]
    assert [image.problem for image in found] == ["no image.toml", "no rootfs.erofs", ""]
    assert found[2].running == ("banking",)
    assert found[2].configured == ("mail",)
    assert found[2].manifest == MANIFEST


@pytest.mark.parametrize("kind", ["fifo", "link", "device", "directory", "deep", "number", "binary", "endless"])
def test_plan_that_a_hypervisor_made_of_its_own(host: Path, kind: str) -> None:
    """Its directory is the hypervisor's, which a guest may have taken over."""
    images = host / "images"
    work = make_bundle(images, "work")
    running = run_vm("bad", work)
    if kind in ("fifo", "link", "device", "directory"):
        content = running.read_text()
        running.unlink()
    if kind == "fifo":
        os.mkfifo(running)
    elif kind == "link":
        (host / "secret").write_text(content)
        running.symlink_to(host / "secret")
    elif kind == "device":
        running.symlink_to("/dev/zero")
    elif kind == "directory":
        running.mkdir()
    elif kind == "deep":
        running.write_text("[" * 100_000)
    elif kind == "number":
        running.write_text(running.read_text().replace(json.dumps(str(work)), "7"))
    elif kind == "binary":
        running.write_bytes(b"\xff\xfe")
    elif kind == "endless":
        os.truncate(running, 1 << 40)
    (image,) = bundle.images(images)
    assert image.running == ()


def test_vm_is_called_what_its_directory_is(host: Path) -> None:
    work = make_bundle(host / "images", "work")
    run_vm("bad", work).write_text(plan_of("\x1b[2Jroot", work))
    assert bundle.images(host / "images")[0].running == ("bad",)


def test_links_to_nowhere_do_not_stop_the_list(host: Path) -> None:
    work = make_bundle(host / "images", "work")
    (work / "extra").symlink_to("/nowhere")
    (host / "images/gone").symlink_to("/nowhere")
    assert [image.problem for image in bundle.images(host / "images")] == [""]


def test_removes_a_link_and_not_what_it_leads_to(host: Path) -> None:
    work = make_bundle(host / "elsewhere", "work")
    (host / "images").mkdir()
    (host / "images/work").symlink_to(work)
    bundle.remove(host / "images", "work", force=False)
    assert os.listdir(host / "images") == []
    assert (work / "vmlinux").exists()


def test_lists_nothing_where_there_is_nothing(host: Path) -> None:
    assert bundle.images(host / "images") == []


def test_installs_a_new_one(host: Path) -> None:
    finished = make_bundle(host / "scratch", "new")
    (host / "images").mkdir()
    bundle.install(finished, host / "images/new")
    assert (host / "images/new/vmlinux").read_bytes() == b"\x7fELF"
    assert not finished.exists()


def test_replaces_one_in_a_single_step(host: Path) -> None:
    place = make_bundle(host / "images", "work", b"old")
    with (place / "vmlinux").open("rb") as opened:
        finished = make_bundle(host / "scratch", "work", b"new")
        bundle.install(finished, place)
        assert opened.read() == b"old"  # what a running VM goes on with
    assert (place / "vmlinux").read_bytes() == b"new"
    assert (finished / "vmlinux").read_bytes() == b"old"


def test_removes_one(host: Path) -> None:
    make_bundle(host / "images", "work")
    bundle.remove(host / "images", "work", force=False)
    assert os.listdir(host / "images") == []


def test_does_not_remove_what_a_vm_runs_from(host: Path) -> None:
    work = make_bundle(host / "images", "work")
    (host / "link").symlink_to(host / "images")
    running = run_vm("banking", host / "link/work")
    for force in (False, True):
        with pytest.raises(Failure, match=r"in use.*vm-stop banking"):
            bundle.remove(host / "images", "work", force=force)
    assert work.exists()
    running.unlink()
    bundle.remove(host / "images", "work", force=False)
    assert not work.exists()


def test_removes_what_a_vm_is_configured_with_by_force_alone(host: Path) -> None:
    work = make_bundle(host / "images", "work")
    (host / "generator/vmsilo-mail.plan").write_text(plan_of("mail", work))
    with pytest.raises(Failure, match="the image of mail"):
        bundle.remove(host / "images", "work", force=False)
    bundle.remove(host / "images", "work", force=True)
    assert not work.exists()


def test_says_what_does_not_exist(host: Path) -> None:
    with pytest.raises(Failure, match="no image work"):
        bundle.remove(host / "images", "work", force=False)


def test_only_one_at_a_time(host: Path) -> None:
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen((sys.executable, "-c", hold, host), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin
    assert holder.stdout
    holder.stdout.readline()
    with pytest.raises(Failure, match="another vm-image"), bundle.locked(host):
        pass
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    with bundle.locked(host):
        lock = os.open(host, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)


def test_scratch_goes_and_takes_what_was_left_behind(host: Path) -> None:
    stale = make_bundle(host, ".build-1")
    with bundle.scratch(host) as scratch:
        assert not stale.exists()
        assert scratch.is_dir()
    assert not scratch.exists()
