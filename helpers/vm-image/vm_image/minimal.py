"""The minimal guest: busybox as init, python3 and the agent. It starts in a fraction of the time the full one takes.

Its packages are unpacked but not configured; what little configuration it has is units/guest/minimal.
"""

import shutil
from pathlib import Path

from vm_image import guest
from vm_image.archive import output_of
from vm_image.modules import Modules

PACKAGES = ("base-files", "busybox-static", "e2fsprogs", "kmod", "python3")

# What is not in the initramfs already and a device of ours may need.
KERNEL_MODULES = (
    "button",
    "evdev",
    "pvpanic_pci",
    "virtio_rng",
    "virtio_balloon",
    "virtio_net",
    "vmw_vsock_virtio_transport",
)

PROGRAMS = (guest.AGENT,)

PARAMETERS: tuple[str, ...] = ()  # for the kernel, beside what all images want

UNNEEDED = (
    "etc/apt",
    "etc/cron*",
    "etc/dpkg",
    "etc/hostname",
    "etc/init.d",
    "etc/kernel",
    "etc/logrotate.d",
    "etc/resolv.conf",
    "etc/systemd",
    "usr/bin/kmod",
    "usr/bin/lsmod",
    "usr/sbin/*mod",
    "usr/sbin/modinfo",
    "usr/sbin/modprobe",
    "usr/include",
    "usr/games",
    "usr/lib/dpkg",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/test",
    "usr/lib/python3*/tkinter",
    "usr/lib/systemd",
    "usr/lib/x86_64-linux-gnu/perl*",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl5",
    "usr/share/zoneinfo",
    "usr/src",
    "var/*",
    "boot",
)


def shape(tree: Path, sources: guest.Sources, release: str, log: Path) -> None:
    """Make *tree* the minimal guest."""
    _keep_needed_modules(tree / "usr/lib/modules" / release)
    guest.run_depmod(tree, release, log)
    guest.remove(tree, UNNEEDED)
    guest.install_files(tree, sources.files / "minimal")
    _install_applets(tree)
    guest.empty(tree, ("dev", "proc", "sys", "run", "tmp", "var/log", "var/tmp", "var/lib"))
    home = tree / "home/user"
    home.mkdir(parents=True)
    shutil.chown(home, 1000, 1000)


def finish(tree: Path) -> None:
    """The last touch, after everything has been compiled: nothing to do."""


def _keep_needed_modules(directory: Path) -> None:
    """Keep of the kernel modules in *directory* those the minimal guest may load, uncompressed for busybox."""
    modules = Modules(directory)
    needed = {path: modules.read(path) for path in modules.order(KERNEL_MODULES)}
    shutil.rmtree(directory / "kernel")
    for path, content in needed.items():
        target = directory / (path.partition(".ko")[0] + ".ko")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _install_applets(tree: Path) -> None:
    """Link every applet of busybox that no package has a program for, and init."""
    listing = output_of(("chroot", str(tree), "/usr/bin/busybox", "--list-full"), "cannot list busybox's applets")
    for path in listing.split():
        directory = "usr/sbin" if "sbin/" in path else "usr/bin"
        name = path.rpartition("/")[2]
        if not any(
            (tree / other / name).is_symlink() or (tree / other / name).exists() for other in ("usr/bin", "usr/sbin")
        ):
            (tree / directory / name).symlink_to("/usr/bin/busybox")
