"""The lab's host: a Debian tree with everything vmsilo needs there, and two desktop users."""

from pathlib import Path

from lab import cache

SUITE = "trixie"

# vhost-device-vsock is packaged from this suite on, and runs unmodified on SUITE.
NEWER_SUITE = "forky"

PACKAGES = (
    "acl",
    "busybox-static",
    "dbus",
    "debian-archive-keyring",
    "e2fsprogs",
    "iproute2",
    "kmod",
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

# The user of host.toml, and one who has no say. Ids 1000 and 1001.
USER = "alice"
STRANGER = "mallory"

# Signatures are checked as ever; only a mirror that lags behind is no reason to have no lab.
_NEWER = f"""
sed -n 's/ {SUITE} / {NEWER_SUITE} /p; q' "$1/etc/apt/sources.list" >"$1/etc/apt/sources.list.d/newer.list"
printf 'Package: *\\nPin: release n={NEWER_SUITE}\\nPin-Priority: 100\\n' >"$1/etc/apt/preferences.d/newer"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -o Acquire::Check-Valid-Until=false update -qq
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
    sys-kernel-debug.mount sys-kernel-tracing.mount
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
        SUITE,
    )

    def make(target: Path) -> None:
        cache.run(*command, str(target))

    name = f"tree-{cache.digest(word.encode() for word in command)}"
    return cache.once(name, f"building the lab's host tree (Debian {SUITE})", make)
