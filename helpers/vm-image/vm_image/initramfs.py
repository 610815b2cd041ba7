"""The initramfs: busybox, the modules that reaching the root takes, mke2fs, and /init (units/guest/initramfs).

It holds no more than that, since every byte of it is copied at every start; all other modules are in the root.
Module files are stored uncompressed for the same reason.
"""

import os
from pathlib import Path
from typing import BinaryIO

from vm_image import cpio
from vm_image.archive import output_of
from vm_image.modules import Modules
from vmsilo.failure import EX_DATAERR, Failure

# Groups of modules that /init loads together.
GROUPS = {
    # crc32c_generic: erofs and ext4 ask for the checksum by a name that only a modprobe could turn into a module.
    # vsock is here so that the guest's init can report from its first moment on.
    "base": ("virtio_pci", "virtio_blk", "crc32c_generic?", "erofs", "overlay", "vmw_vsock_virtio_transport"),
    "ext4": ("ext4",),
}

BUSYBOX = "usr/bin/busybox"
MKE2FS = "usr/sbin/mke2fs"
LOADER = "/lib64/ld-linux-x86-64.so.2"


def write(output: BinaryIO, tree: Path, modules: Modules, files: Path) -> None:
    """Write the archive for the guest in *tree*, whose busybox and mke2fs it takes; *files* has what is ours."""
    members = [
        *(cpio.directory(name) for name in ("dev", "proc", "sys", "lower", "overlay", "root", "tmp")),
        # For messages of the kernel's first moment, before /init has mounted anything.
        cpio.character_device("dev/console", 5, 1),
        cpio.regular("init", (files / "init").read_bytes(), executable=True),
        cpio.regular("bin/busybox", read(tree, BUSYBOX), executable=True),
        cpio.regular("bin/mke2fs", read(tree, MKE2FS), executable=True),
        cpio.regular("etc/mke2fs.conf", (files / "mke2fs.conf").read_bytes()),
        *(cpio.regular(path.lstrip("/"), read(tree, path), executable=True) for path in _libraries(tree)),
        *_module_members(modules),
    ]
    cpio.write(output, members)


def _module_members(modules: Modules) -> list[cpio.Member]:
    members: list[cpio.Member] = []
    stored: set[str] = set()
    for group, wanted in GROUPS.items():
        order = [path for path in modules.order(wanted) if path not in stored]
        stored.update(order)
        names = [_stored_name(path) for path in order]
        members += [
            cpio.regular(f"modules/{name}", modules.read(path)) for name, path in zip(names, order, strict=True)
        ]
        members.append(cpio.regular(f"modules/{group}.order", "".join(f"{name}\n" for name in names).encode()))
    return members


def _stored_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0] + ".ko"


def _libraries(tree: Path) -> list[str]:
    """The dynamic loader and the libraries of mke2fs, as the loader of *tree* finds them there."""
    listing = output_of(("chroot", str(tree), LOADER, "--list", "/" + MKE2FS), "cannot tell the libraries of mke2fs")
    found = [line.split("=>")[1].split()[0] for line in listing.splitlines() if "=>" in line]
    return sorted({LOADER, *found} - {"not"})


def read(tree: Path, path: str) -> bytes:
    """A file of *tree*, following links as if *tree* were the root."""
    here = os.path.join("/", path)
    for _ in range(8):
        inside = tree / here.lstrip("/")
        if not inside.is_symlink():
            return inside.read_bytes()
        here = os.path.normpath(os.path.join(os.path.dirname(here), inside.readlink()))
    raise Failure(f"{path} of the guest is a link to itself", code=EX_DATAERR)
