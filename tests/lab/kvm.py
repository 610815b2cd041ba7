"""Whether KVM can run a guest here. That /dev/kvm opens proves nothing, so a guest is booted to find out."""

import os
import select
import subprocess
import time
from pathlib import Path

from lab import cache

PATIENCE = 15.0  # seconds; with KVM it takes less than one
SIGN_OF_LIFE = b"Run /init as init process"

_PROBE = """
mount -t tmpfs tmpfs "$1/dev"
touch "$1/dev/kvm" "$1/dev/null"
mount --bind /dev/kvm "$1/dev/kvm"
mount --bind /dev/null "$1/dev/null"
mount --bind "$2" "$1/mnt"
exec chroot "$1" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -accel kvm -M q35 -m 512 \
    -kernel /mnt/vmlinux -initrd /mnt/initramfs -append 'console=ttyS0 panic=-1' -serial stdio
"""


def works(tree: Path, image: Path | None) -> bool:
    """Whether the bundle *image* boots with KVM; asked once per boot of this machine."""
    if image is None or not Path("/dev/kvm").exists():
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdict = cache.directory() / f"kvm-{boot_id}"
    if not verdict.exists():
        for old in cache.directory().glob("kvm-*"):
            old.unlink()
        with cache.step("finding out whether KVM runs a guest here"):
            verdict.write_text("yes" if _boots(tree, image) else "no")
    return verdict.read_text() == "yes"


def _boots(tree: Path, image: Path) -> bool:
    probe = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", "sh", "-ec", _PROBE, "probe", str(tree), str(image)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert probe.stdout
    seen = b""
    deadline = time.monotonic() + PATIENCE
    with probe:
        while SIGN_OF_LIFE not in seen and (left := deadline - time.monotonic()) > 0:
            if not select.select([probe.stdout], [], [], left)[0]:
                break
            piece = os.read(probe.stdout.fileno(), 65536)
            if not piece:
                break
            seen += piece
        probe.kill()
    return SIGN_OF_LIFE in seen
