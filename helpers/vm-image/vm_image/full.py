"""The full guest: Debian with systemd, and what a desktop's programs expect to find.

What differs between VMs reaches it as system credentials (systemd.system-credentials(7)); what it never needs in a
virtual machine is switched off here, since all of it would run at every start.
"""

from pathlib import Path

from vm_image import guest
from vm_image.archive import run_logged
from vmsilo.failure import EX_DATAERR, Failure

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "libnss-resolve",
    "libnss-systemd",
    "libnss-myhostname",
    "libpam-systemd",
    "dbus",
    "dbus-user-session",
    "udev",
    "kmod",
    "python3",
    "busybox-static",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "netbase",
    "procps",
    "less",
    "ca-certificates",
    # For a VM that others reach the network through. None of it runs in any other.
    "nftables",
    "python3-nftables",
    "unbound",
    "dns-root-data",
)

PROGRAMS = guest.PROGRAMS

SYSTEMD_MIN = 254  # the first that reports READY=1 to vmm.notify_socket over a stream

# For the kernel, beside what all images want. Without a size, systemd asks the console for it and waits for nobody.
PARAMETERS = ("systemd.tty.rows.console=24", "systemd.tty.columns.console=80")

ENABLED = (
    "vmsilo-agent.socket",
    "vmsilo-unbound.service",
    "vmsilo-name-rules.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-network-generator.service",
)

DISABLED = (
    "getty@tty1.service",
    "systemd-networkd-wait-online.service",
    "e2scrub_reap.service",
    # It has a unit of ours, with the configuration that the host gives.
    "unbound.service",
)

MASKED = (
    # Upkeep of an installation, pointless in one that is thrown away.
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-machine-id-commit.service",
    "systemd-firstboot.service",
    # The hypervisor gives randomness and keeps the time; a seed in the image would be the same for all.
    "systemd-random-seed.service",
    "systemd-boot-random-seed.service",
    "systemd-timesyncd.service",
    # Consoles and machinery that a virtual machine does not have.
    "console-getty.service",
    "getty-static.service",
    "systemd-pstore.service",
    "systemd-backlight@.service",
    "systemd-rfkill.service",
    "systemd-rfkill.socket",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrmachine.service",
    # Nobody reads utmp, and no file system is checked or remounted: the initramfs mounted the root.
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-fsck-root.service",
    "systemd-remount-fs.service",
    # Loaded, or mounted, by whoever needs it, when it does.
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "dev-hugepages.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    # Only of use to a networkd that outlives the machine.
    "systemd-networkd-persistent-storage.service",
)

# Generators that run at every start and never find what they look for.
MASKED_GENERATORS = (
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
)

USER = "user"
UID = 1000
GROUPS = ("audio", "video", "render", "input", "plugdev")

REMOVED = (
    "boot/*",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/*-",
    "etc/modules-load.d/modules.conf",
    "etc/unbound/unbound.conf.d/remote-control.conf",
    "usr/lib/binfmt.d/python*.conf",
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/catalog/database",
    "var/log/*",
)


def shape(tree: Path, sources: guest.Sources, release: str, log: Path) -> None:
    """Make *tree* the full guest."""
    require_systemd(tree)
    guest.install_files(tree, sources.files / "full")
    for unit in sorted(sources.files.glob("vmsilo-*.*")):
        guest.install_file(unit, tree / guest.UNITS_DIR / unit.name)
    guest.install_file(sources.files / "pam.d-vmsilo", tree / "etc/pam.d/vmsilo")
    _add_user(tree, log)
    _add_trust_anchor(tree, log)
    for verb, units in (("enable", ENABLED), ("disable", DISABLED), ("mask", MASKED)):
        run_logged(["chroot", str(tree), "systemctl", verb, *units], log, f"cannot {verb} units of the guest")
    generators = tree / "etc/systemd/system-generators"
    generators.mkdir()
    for name in MASKED_GENERATORS:
        (generators / name).symlink_to("/dev/null")
    guest.remove(tree, REMOVED)
    guest.empty(tree, ("dev", "proc", "sys", "run", "tmp", "var/tmp"))


def finish(tree: Path) -> None:
    """What must stay as it is left here."""
    # As systemd-update-done.service(8) would: /usr has not changed since, so nothing is to be brought up to date.
    # Every time in the image is the same.
    for directory in ("etc", "var"):
        (tree / directory / ".updated").touch()
    (tree / "etc/machine-id").touch(mode=0o444)  # empty: systemd makes one at each start, and calls no start a first
    (tree / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")


def require_systemd(tree: Path) -> None:
    """Raise Failure if the guest's systemd is too old."""
    versions = sorted(path.name for path in tree.glob("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-*.so"))
    version = versions[0].removeprefix("libsystemd-shared-").partition(".")[0] if versions else "0"
    if not version.isdigit() or int(version) < SYSTEMD_MIN:
        raise Failure(
            f"the suite's systemd is too old ({version}): it cannot tell the host that the guest is ready",
            f"{SYSTEMD_MIN} or later is needed: Debian trixie has it",
            EX_DATAERR,
        )


def _add_trust_anchor(tree: Path, log: Path) -> None:
    """Give unbound the key of the DNS root, which Debian's own unit would copy at every start."""
    owned = ("--owner=unbound", "--group=unbound", "--mode=0644")
    run_logged(
        ["chroot", str(tree), "install", *owned, "/usr/share/dns/root.key", "/var/lib/unbound/root.key"],
        log,
        "cannot install the key of the DNS root",
    )


def _add_user(tree: Path, log: Path) -> None:
    """Add the user whose programs run in the guest; no password opens it."""
    run_logged(
        [
            "chroot",
            str(tree),
            "useradd",
            "--uid",
            str(UID),
            "--user-group",
            "--create-home",
            "--shell",
            "/bin/bash",
            USER,
        ],
        log,
        "cannot add the guest's user",
    )
    for group in GROUPS:
        run_logged(
            ["chroot", str(tree), "usermod", "--append", "--groups", group, USER],
            log,
            f"cannot add the guest's user to {group}",
        )
    lingering = tree / "var/lib/systemd/linger" / USER  # its service manager and /run/user/1000 are always there
    lingering.parent.mkdir(parents=True, exist_ok=True)
    lingering.touch()
