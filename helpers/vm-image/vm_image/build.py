"""How a bundle comes to be, from the archive to its place."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vm_image import archive, bundle, erofs, full, guest, initramfs, kernel, minimal
from vm_image.modules import Modules
from vmsilo import paths
from vmsilo.failure import EX_DATAERR, Failure, complain

# For the kernel. cryptomgr.notests: its self-tests cost a second under emulation and find nothing in a virtual
# machine. rcu_expedited: mounting and loading modules wait for grace periods, which few CPUs end at once.
# no_timer_check: some emulated timers fail the check and cost its timeout; hypervisors' own guests skip it.
CMDLINE = "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check rcupdate.rcu_expedited=1"


class Request(NamedTuple):
    """What to build."""

    name: str
    directory: Path  # of all images
    source: archive.Source
    packages: tuple[str, ...]  # on top of the variant's own
    minimal: bool


def build(request: Request) -> None:
    """Build the bundle that *request* describes and put it in its place."""
    bundle.require_name(request.name)
    archive.require_tools()
    sources = guest.Sources()
    begin = time.monotonic()
    os.umask(0o022)  # what it is must not show in the guest's modes
    with bundle.locked(request.directory), bundle.scratch(request.directory) as scratch:
        finished = _make(request, sources, scratch)
        place = request.directory / request.name
        with step("putting it in place"):
            bundle.install(finished, place)
    complain("vm-image", f"{place} is ready after {time.monotonic() - begin:.0f} s")


def _make(request: Request, sources: guest.Sources, scratch: Path) -> Path:
    tree, unpacked, log, finished = (scratch / name for name in ("tree", "kernel", "log", request.name))
    variant = minimal if request.minimal else full
    finished.mkdir(mode=0o755)
    with step(f"packages of {request.source.suite}"):
        archive.make_tree(
            tree, request.source, [*variant.PACKAGES, *request.packages], configure=not request.minimal, log=log
        )
    with step("kernel"):
        archive.unpack_kernel(tree, unpacked, log)
        release = kernel_release(unpacked)
        (finished / paths.BUNDLE_KERNEL).write_bytes(
            kernel.vmlinux((unpacked / f"boot/vmlinuz-{release}").read_bytes())
        )
        guest.install_kernel_modules(tree, unpacked, release, log)
    with step("initramfs"), (finished / paths.BUNDLE_INITRAMFS).open("wb") as output:
        modules = Modules(tree / "usr/lib/modules" / release)
        initramfs.write(output, tree, modules, sources.files / "initramfs")
    with step("guest"):
        epoch = guest.newest_change(tree)
        packages = _package_list(tree)
        variant.shape(tree, sources, release, log)
        guest.install_programs(tree, sources, variant.PROGRAMS)
        guest.compile_python(tree, log)
        variant.finish(tree)
    with step("root file system"):
        erofs.make(tree, finished / paths.BUNDLE_ROOT, epoch, log)
    manifest = bundle.Manifest(
        name=request.name,
        os="debian",
        suite=request.source.suite,
        variant="minimal" if request.minimal else "full",
        kernel=release,
        cmdline=" ".join([CMDLINE, *variant.PARAMETERS]),
        agent=True,
        built=epoch,
        packages=packages,
    )
    (finished / paths.BUNDLE_MANIFEST).write_text(bundle.dumps(manifest))
    for name in bundle.FILES:
        (finished / name).chmod(0o644)
    return finished


def kernel_release(unpacked: Path) -> str:
    """The release of the kernel in the unpacked package."""
    names = sorted(path.name.removeprefix("vmlinuz-") for path in unpacked.glob("boot/vmlinuz-*"))
    if len(names) != 1:
        raise Failure(f"the kernel package holds {len(names)} kernels, not one", code=EX_DATAERR)
    return names[0]


def _package_list(tree: Path) -> tuple[str, ...]:
    """The packages in *tree*, each as name_version."""
    archives = sorted(path.name for path in (tree / "var/cache/apt/archives").glob("*.deb"))
    if archives:  # unpacked only: dpkg does not know of them
        return tuple("_".join(name.replace("%3a", ":").split("_")[:2]) for name in archives)
    query = ("dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W", "-f", "${Package}_${Version}\\n")
    listing = archive.output_of(query, "cannot list the guest's packages")
    return tuple(sorted(set(listing.split())))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say on stderr that the step *name* has been done, and how long it took."""
    begin = time.monotonic()
    yield
    complain("vm-image", f"{name}: {time.monotonic() - begin:.1f} s")
