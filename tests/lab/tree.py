"""The lab's host: a Debian tree with everything vmsilo needs there, and two desktop users.

VMSILO_LAB_SUITE names the Debian release: trixie, with systemd 257, or bookworm, with systemd 252.
"""

import os
from pathlib import Path

from lab import cache

SUITE = os.environ.get("VMSILO_LAB_SUITE") or "trixie"
if SUITE not in ("trixie", "bookworm"):
    raise RuntimeError(f"VMSILO_LAB_SUITE: expected trixie or bookworm, got {SUITE}")

# vhost-device-vsock is packaged from this suite on, and runs unmodified on SUITE.
NEWER_SUITE = "forky"

PACKAGES: tuple[str, ...] = (
    "acl",
    "busybox-static",
    "dbus",
    "debian-archive-keyring",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "knot",  # the name servers of the internet that tests have
    "libnss-systemd",
    "libpam-systemd",
    "man-db",
    "mandoc",
    "nftables",
    "openssh-client",
    "podman",  # make bench: its generator is what ours is compared with
    "polkitd",
    "procps",
    "python3",
    "python3-jeepney",
    "python3-nftables",
    "python3-pyroute2",
    "python3-pyudev",
    "python3-seccomp",
    "python3-systemd",
    "qemu-system-x86",
    "socat",
    "strace",
    "systemd",
    "systemd-sysv",
    "vhost-device-vsock",
    "virtiofsd",
)

# Not in bookworm: virtiofsd, which comes by another way, and a podman that has a generator.
if SUITE == "bookworm":
    PACKAGES = (*(name for name in PACKAGES if name not in ("podman", "virtiofsd")), "patchelf")

# The user of host.toml, and one who has no say. Ids 1000 and 1001.
USER = "alice"
STRANGER = "mallory"

# Signatures are checked as ever; only a mirror that lags behind is no reason to have no lab.
_NEWER = f"""
sed -n 's/ {SUITE} / {NEWER_SUITE} /p; q' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/newer.list"
printf 'Package: *\\nPin: release n={NEWER_SUITE}\\nPin-Priority: 100\\n' >"$1/etc/apt/preferences.d/newer"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o Acquire::Check-Valid-Until=false update -qq
"""

# trixie's needs a newer C library than bookworm has, and gets it beside bookworm's own.
_VIRTIOFSD = """
set -e
mkdir "$1/usr/lib/newer" "$1/tmp/newer"
sed -n 's/ bookworm / trixie /p; q' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/trixie.list"
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
apt-get -o Acquire::Check-Valid-Until=false update -qq
cd "$1/tmp/newer"
apt-get -o APT::Sandbox::User=root download virtiofsd/trixie libc6/trixie libcap-ng0/trixie libgcc-s1/trixie \\
    libseccomp2/trixie
for package in *.deb; do dpkg-deb --extract "$package" .; done
cp -a usr/lib/x86_64-linux-gnu/*.so* "$1/usr/lib/newer"
cp -a usr/libexec/virtiofsd "$1/usr/libexec"
chroot "$1" patchelf --set-interpreter /usr/lib/newer/ld-linux-x86-64.so.2 --set-rpath /usr/lib/newer \\
    /usr/libexec/virtiofsd
chroot "$1" /usr/libexec/virtiofsd --version
rm -r "$1/tmp/newer" "$1/etc/apt/sources.list.d/trixie.list"
"""

_CUSTOMIZE = f"""
set -e
chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash {USER}
chroot "$1" useradd --create-home --uid 1001 --shell /bin/bash {STRANGER}
echo lab >"$1/etc/hostname"
echo LANG=C.UTF-8 >"$1/etc/locale.conf"
rm -f "$1/etc/machine-id" "$1/var/lib/dbus/machine-id" "$1/etc/resolv.conf"
mkdir -p "$1/var/lib/vmsilo/images" "$1/etc/vmsilo.d"
mkdir -p "$1/etc/systemd/journald.conf.d"
printf '[Journal]\\nStorage=volatile\\nRateLimitBurst=0\\n' >"$1/etc/systemd/journald.conf.d/lab.conf"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer man-db.timer e2scrub_all.timer fstrim.timer \
    podman.socket podman-auto-update.timer podman-restart.service netavark-dhcp-proxy.socket console-getty.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount knot.service
do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
"""


def build(*more: str) -> Path:
    """The tree, with the packages *more* beside its own, from the cache where it is already there."""
    command = (
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join([*PACKAGES, *more])}",
        f"--essential-hook={_NEWER}",
        f"--customize-hook={_CUSTOMIZE}",
        *([f"--customize-hook={_VIRTIOFSD}"] if SUITE == "bookworm" else []),
        SUITE,
    )

    def make(target: Path) -> None:
        cache.run(*command, str(target))

    name = f"tree-{cache.digest(word.encode() for word in command)}"
    return cache.once(name, f"building the lab's host tree (Debian {SUITE})", make)
