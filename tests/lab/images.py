"""Guest images for the lab, built by the checkout's vm-image."""

from pathlib import Path

from lab import cache

VM_IMAGE = cache.ROOT / "helpers/vm-image/vm-image"

# What vm-image is, and what it puts into a guest.
_GUEST = ("helpers/vsock-cmd", "helpers/guest-network", "helpers/name-rules", "units/guest", "vmsilo")
_SOURCES = [cache.ROOT / name for name in ("helpers/vm-image", *_GUEST)]


def build(name: str, *arguments: str) -> Path:
    """The bundle *name* that `vm-image build debian` makes with *arguments*, or the cached one."""
    command = [str(VM_IMAGE), "build", "debian", f"--name={name}", *arguments]
    key = cache.digest([*(word.encode() for word in command[1:]), *cache.contents(*_SOURCES)])

    def make(target: Path) -> None:
        target.mkdir()
        cache.run("/usr/bin/python3", "-IS", *command, f"--images-dir={target}")

    return cache.once(f"image-{name}-{key}", f"building the guest image {name}", make) / name


def minimal() -> Path:
    """The smallest guest with the agent: what most tests start."""
    return build("minimal", "--minimal")


def debian() -> Path:
    """What a user gets: Debian with systemd."""
    return build("debian")
