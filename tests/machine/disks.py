"""What the machine boots from: kernel, initramfs, and three disks, of which one is made for each boot."""

import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lab import cache, images, tree

from vm_image import cpio
from vmsilo import paths

# A host with hardware of its own has these.
PACKAGES = ("pciutils", "udev")

HERE = Path(__file__).parent
AGENT = "/usr/lib/machine/agent.py"
PORT_PREFIX = "machine-"  # of the names of the agent's ports

_AGENT_UNIT = f"""
[Unit]
Description=Commands from outside
DefaultDependencies=no
After=local-fs.target

[Service]
ExecStart=/usr/bin/python3 -I {AGENT} {PORT_PREFIX}
Delegate=yes
LimitNOFILE=65536
"""

# Upkeep of an installation, and what no machine without a screen, a disk or a network needs: all of it would be
# emulated at each boot.
MASKED = (
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "getty.target",
    "ldconfig.service",
    "serial-getty@.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-network-generator.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-timesyncd.service",
    "systemd-tpm2-setup-early.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-vconsole-setup.service",
)

_COMPILE = """
mount --bind "$2/usr/lib/vmsilo" "$1/mnt"
exec chroot "$1" /usr/bin/python3 -m compileall -q -s /mnt -p /usr/lib/vmsilo /mnt
"""


class Disks(NamedTuple):
    """Paths of what QEMU is given."""

    kernel: Path
    initramfs: Path
    blocks: tuple[Path, ...]  # vda, vdb, vdc


def make(directory: Path, bundles: Mapping[str, Path], files: Mapping[str, str]) -> Disks:
    """Everything for a boot, in *directory* what belongs to that boot alone.

    The machine has the image *bundles*, by name, and *files*, texts by absolute path.
    """
    host_tree = tree.build(*PACKAGES)
    guest = images.debian()
    root = _root(host_tree)
    session = directory / "session.erofs"
    _session(session, host_tree, bundles, files)
    return Disks(
        kernel=guest / paths.BUNDLE_KERNEL,
        initramfs=_initramfs(directory / "initramfs", guest / paths.BUNDLE_INITRAMFS),
        blocks=(root, session, guest / paths.BUNDLE_ROOT),
    )


def _root(host_tree: Path) -> Path:
    """The host tree as a file system; made once."""

    def build(target: Path) -> None:
        target.mkdir()
        erofs(host_tree, target / "root.erofs")

    return (
        cache.once(f"machine-{host_tree.name.partition('-')[2]}", "writing the machine's disk", build) / "root.erofs"
    )


def _session(image: Path, host_tree: Path, bundles: Mapping[str, Path], files: Mapping[str, str]) -> None:
    """The project of this checkout, and all else that differs from boot to boot."""
    with tempfile.TemporaryDirectory(dir=cache.directory(), prefix="session.") as place:
        layer = Path(place) / "layer"
        cache.run(
            "make",
            "-s",
            "-C",
            str(cache.ROOT),
            "install",
            f"DESTDIR={layer}",
            "python=/usr/bin/python3",
            "prefix=/usr",
        )
        # By the interpreter that will run it.
        cache.run(
            "unshare", "--mount", "--propagation=private", "sh", "-ec", _COMPILE, "sh", str(host_tree), str(layer)
        )
        units = layer / "etc/systemd/system"
        ours = {
            "/etc/hostname": "machine\n",
            "/etc/systemd/system/machine-agent.service": _AGENT_UNIT,
            AGENT: (HERE / "agent.py").read_text(),
        }
        for path, text in {**ours, **files}.items():
            target = layer / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for unit in MASKED:
            (units / unit).symlink_to("/dev/null")
        wants = units / "sysinit.target.wants"
        wants.mkdir()
        (wants / "machine-agent.service").symlink_to("../machine-agent.service")
        (Path(place) / "images").mkdir()
        for name, bundle in bundles.items():
            shutil.copytree(bundle, Path(place) / "images" / name)
        for directory in (Path(place), *(path for path in layer.rglob("*") if path.is_dir())):
            directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o755)
        erofs(Path(place), image)


def erofs(directory: Path, image: Path) -> None:
    cache.run("mkfs.erofs", "--quiet", str(image), str(directory))


def _initramfs(path: Path, guest: Path) -> Path:
    """The guest's, followed by an /init of our own: of two files by one name the kernel keeps the later."""
    with path.open("wb") as output:
        output.write(guest.read_bytes())
        output.write(b"\0" * (-output.tell() % 4))
        cpio.write(output, [cpio.regular("init", (HERE / "init.sh").read_bytes(), executable=True)])
    return path
