"""Shared directories: as whom each is served, by which command line, and how the guest mounts it.

virtiofsd opens files as the user it runs as, and a program that a guest has taken over does what that user may. So
it runs as the user whose VMs these are wherever that serves, and as root only for what no one else can do.
"""

from vmsilo import paths, plan
from vmsilo_generator.machine import ROOT, Server
from vmsilo_generator.model import Host, Share

# The ids of the user whose home a home is, in guests, see vmsilo-image(5).
GUEST_USER = 1000


def for_guest_user(share: Share, host: Host) -> Share:
    """The *share* such that what is the user's on the host is the user's in the guest, whatever the numbers are."""
    if (host.uid, host.gid) == (GUEST_USER, GUEST_USER):
        return share
    return share._replace(
        posix_acl=False,  # virtiofsd does not translate the ids in them
        translate_uid=f"map:{GUEST_USER}:{host.uid}:1",
        translate_gid=f"map:{GUEST_USER}:{host.gid}:1",
    )


def server(share: Share, host: Host, *, seccomp_log: bool, sandbox: bool, tagged: bool) -> Server:
    """The virtiofsd of *share*. *tagged*: the hypervisor asks it for the tag."""
    mapped = bool(share.uid_map or share.gid_map)
    needs = root_needs(share, host)
    arguments = [
        "--fd=3",
        f"--shared-dir={paths.share_inside(share.path) if sandbox else share.path}",
        # systemd has made a room for it, as it makes one for all: its own way would take rights to make one, from
        # a user that has none.
        "--sandbox=none",
        f"--seccomp={'log' if seccomp_log else 'kill'}",
        *options(share),
    ]
    if needs and not mapped:
        # Nor has its unit these: a device or a privileged program in a shared directory would be one of the host's.
        arguments.append("--modcaps=-mknod:-setfcap")
    if tagged:
        arguments.append(f"--tag={share.tag}")
    return Server(
        tag=share.tag,
        path=share.path,
        readonly=share.readonly,
        user=ROOT if needs else host.user,
        reason=needs or "that suffices",
        arguments=tuple(arguments),
        uid_map=(share.uid_map or itself(host.uid)) if mapped else "",
        gid_map=(share.gid_map or itself(host.gid)) if mapped else "",
        seccomp_log=seccomp_log,
        sandbox=sandbox,
    )


def root_needs(share: Share, host: Host) -> str:
    """What of *share* only root can do; "" if nothing."""
    if share.uid_map or share.gid_map:
        key = "uidMap" if share.uid_map else "gidMap"
        return f"{key}: only root may map ids; virtiofsd itself has no others then"
    if share.foreign_owners:
        return "foreignOwners: it makes files of others, and gives files away"
    if share.inode_file_handles == "mandatory":
        return 'inodeFileHandles = "mandatory": only root may open a file by its handle'
    for key, text, own in (
        ("translateUid", share.translate_uid, host.uid),
        ("translateGid", share.translate_gid, host.gid),
    ):
        if text and not stays(text, own):
            return f"{key}: it makes files of ids other than {own}"
    return ""


def itself(own: int) -> str:
    """The map in which one id stands for itself, and all others for nobody."""
    return f":{own}:{own}:1:"


def stays(translation: str, own: int) -> bool:
    """Whether all that a guest makes under *translation* is of the id *own*, as far as it says of which id."""
    kind, *numbers = translation.split(":")
    if kind in ("guest", "map"):
        _source, target, count = map(int, numbers)
        return target == own and count == 1
    if kind == "squash-guest":
        return int(numbers[1]) == own
    return True  # of what the guest sees, or what it may not


def options(share: Share) -> list[str]:
    """What virtiofsd is told of the share, each thing in words: its defaults change with its versions."""
    switches = [
        ("--readonly", share.readonly),
        ("--xattr", share.xattr),
        ("--posix-acl", share.posix_acl),
        ("--allow-mmap", share.allow_mmap),
        ("--no-readdirplus", not share.readdirplus),
        ("--writeback", share.writeback),
        ("--allow-direct-io", share.allow_direct_io),
        ("--killpriv-v2", share.killpriv_v2),
        ("--no-killpriv-v2", not share.killpriv_v2),
        ("--preserve-noatime", share.preserve_noatime),
    ]
    values = [
        ("--thread-pool-size", str(share.thread_pool_size)),
        ("--inode-file-handles", share.inode_file_handles),
        ("--cache", share.cache),
        ("--log-level", share.log_level),
        ("--translate-uid", share.translate_uid),
        ("--translate-gid", share.translate_gid),
        # 0: as the unit has it.
        ("--rlimit-nofile", "0"),
    ]
    return [name for name, on in switches if on] + [f"{name}={value}" for name, value in values if value]


# Not fatal: what can't be mounted is one failed unit of a guest that runs. A virtiofsd that is dead by then answers
# nothing, so there is an end to waiting.
_MOUNT_OPTIONS = "nofail,x-systemd.before=local-fs.target,x-systemd.mount-timeout=10s"


def mounts(shares: tuple[Share, ...]) -> tuple[plan.Credential, ...]:
    """The credential by which systemd in the guest mounts the *shares* (systemd-fstab-generator(8)), if any."""
    lines = [
        f"{share.tag} {fstab_word(share.mount_path)} virtiofs {_access(share)},{_MOUNT_OPTIONS} 0 0\n"
        for share in shares
        if share.mount_path
    ]
    return (plan.Credential("fstab.extra", "".join(lines)),) if lines else ()


def _access(share: Share) -> str:
    return "ro" if share.readonly else "rw"


def fstab_word(value: str) -> str:
    """*value* as one field of fstab(5)."""
    for character in "\\ \t\n":
        value = value.replace(character, f"\\{ord(character):03o}")
    return value
