"""Files, sockets and devices of the host and of other VMs."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial

from lab.attack import calls
from lab.attack.trial import Attempt, Refused, Scene

# Device nodes that give the host away, or a good deal of it. The test makes those that the lab has not, open to all.
DEVICES = {
    "mem": ("c", 1, 1),
    "kmsg": ("c", 1, 11),
    "fuse": ("c", 10, 229),
    "loop-control": ("c", 10, 237),
    "uinput": ("c", 10, 223),
    "userfaultfd": ("c", 10, 126),
    "sda": ("b", 8, 0),
    "nvme0n1": ("b", 259, 0),
    "tty1": ("c", 4, 1),
    "ttyS0": ("c", 4, 64),
    "input/event0": ("c", 13, 64),
    "dri/renderD128": ("c", 226, 128),
    "snd/controlC0": ("c", 116, 0),
    "vfio/vfio": ("c", 10, 196),
    "vhost-net": ("c", 10, 238),
    "net/tun": ("c", 10, 200),
    "console": ("c", 5, 1),
}

_KERNEL_FILES = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/drop_caches",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
    "/sys/module/kernel/parameters/panic",
    "/sys/devices/system/cpu/cpu1/online",
)
_PLACES = ("/", "/etc", "/usr", "/usr/lib", "/var", "/var/lib", "/var/lib/vmsilo", "/root", "/home", "/boot", "/run")
_BUS = "/run/dbus/system_bus_socket"
_MANAGER_SOCKETS = (
    "/run/systemd/private",
    "/run/systemd/journal/stdout",
    "/run/systemd/io.systemd.ManagedOOM",
    "/run/systemd/userdb/io.systemd.DynamicUser",
)


def attempts(scene: Scene) -> Iterator[Attempt]:
    for what, path in scene.files.items():
        yield Attempt("files", f"read {what}", partial(read, path))
    for what, path in scene.writable.items():
        yield Attempt("files", f"write {what}", partial(open_for, path, os.O_WRONLY))
    for path, name in scene.directories.items():
        yield Attempt("files", f"see {name or 'anything'} in {path}", partial(listed, path, name))
    for path in _PLACES:
        yield Attempt("files", f"create a file in {path}", partial(create, path))
    yield Attempt("files", "see the journal", partial(listed, "/run/log/journal", ""))
    yield Attempt("files", "link to a file of the host", partial(linked, scene.files["another VM's disk"], scene))
    yield Attempt("files", "open a file by its handle", by_handle)
    for path in scene.sockets:
        yield Attempt("sockets", f"connect to {path}", partial(connect, path))
    for path in _MANAGER_SOCKETS:
        yield Attempt("sockets", f"connect to {path}", partial(connect, path))
    yield Attempt("sockets", "connect to the system bus", partial(connect, _BUS))
    yield Attempt(
        "sockets", "write to the journal", partial(send, "/run/systemd/journal/socket", b"MESSAGE=forged\n")
    )
    for device in DEVICES:
        yield Attempt("devices", f"open /dev/{device}", partial(open_device, "/dev/" + device))
    yield Attempt("devices", "open a user's terminal", partial(open_for, scene.terminal, os.O_RDWR | os.O_NOCTTY))
    yield Attempt(
        "devices", "make a device node", in_own(scene, partial(make_node, kind=stat.S_IFCHR, number=(1, 1)))
    )
    yield Attempt(
        "devices", "make a disk's node", in_own(scene, partial(make_node, kind=stat.S_IFBLK, number=(8, 0)))
    )
    yield Attempt("files", "make a set-user-ID program", in_own(scene, partial(make_special, mode=0o4755)))
    yield Attempt("files", "make a set-group-ID program", in_own(scene, partial(make_special, mode=0o2755)))
    yield Attempt("files", "give a file away", in_own(scene, partial(give_away, user=scene.victim_uid)))
    for path in _KERNEL_FILES:
        yield Attempt("kernel files", f"write to {path}", partial(open_for, path, os.O_WRONLY))
    yield Attempt("kernel files", "leave the control group", leave_group)
    yield Attempt("kernel files", "make a control group", make_group)
    yield Attempt("kernel files", "become the last one to be killed for memory", never_killed)
    yield Attempt("kernel files", "read /proc/kallsyms", partial(read, "/proc/kallsyms"))
    yield Attempt("kernel files", "read /proc/kcore", partial(read, "/proc/kcore"))
    yield Attempt("kernel files", "read /proc/keys", partial(read, "/proc/keys"))
    yield Attempt("kernel files", "read /proc/cmdline", partial(read, "/proc/cmdline"))


def in_own(scene: Scene, act: Callable[[str], object]) -> Callable[[], object]:
    """*act* on a new name in the directory that the attacker may write."""

    def attempt() -> object:
        path = f"{scene.own}/attempt-{os.getpid()}"
        try:
            return act(path)
        finally:
            try:
                os.unlink(path)
            except OSError:
                pass

    return attempt


def read(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        content = file.read(16)
    if not content:
        raise Refused("empty")
    return content.decode("latin-1")


def listed(path: str, name: str) -> None:
    """Find *name*, or anything where it is empty, in the directory *path*."""
    found = os.listdir(path)
    if name not in found if name else not found:
        raise Refused("not in it")


def open_for(path: str, flags: int) -> None:
    os.close(os.open(path, flags | os.O_CLOEXEC))


def open_device(path: str) -> str | None:
    """Opened, or refused by the device itself, which then isn't there."""
    past = ("ENXIO", "ENODEV", "EBUSY", "ENOMEDIUM", "EIO")
    try:
        open_for(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        return None
    except OSError as error:
        import errno

        if (name := errno.errorcode.get(error.errno or 0, "")) in past:
            return f"the node is there: {name}"
        raise


def create(directory: str) -> None:
    path = f"{directory}/attempt-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def connect(path: str) -> None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        if error.errno != 91:  # EPROTOTYPE: it listens, to another kind of socket
            raise


def send(path: str, message: bytes) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(message, path)


def linked(path: str, scene: Scene) -> None:
    """A hard link, which would stay when the view of the file is gone."""
    target = f"{scene.own}/attempt-{os.getpid()}"
    os.link(path, target)
    os.unlink(target)


def by_handle() -> None:
    """A handle names a file by its number, wherever it is."""
    handle = calls.buffer(136, (128).to_bytes(4, "little"))
    mount = calls.buffer(4)
    calls.call(calls.NAME_TO_HANDLE_AT, -100, b"/tmp", handle, mount, 0)
    directory = os.open("/tmp", os.O_RDONLY)
    os.close(calls.call(calls.OPEN_BY_HANDLE_AT, directory, handle, os.O_RDONLY | os.O_DIRECTORY))


def make_node(path: str, kind: int, number: tuple[int, int]) -> None:
    os.mknod(path, kind | 0o666, os.makedev(*number))


def make_special(path: str, mode: int) -> str:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755))
    os.chmod(path, mode)
    if os.stat(path).st_mode & 0o7777 != mode:
        raise Refused("the bit is not kept")
    return f"{mode:o}"


def give_away(path: str, user: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755))
    os.chown(path, user, user)


def _groups() -> str:
    """The directory of the control group that we are in, or of one above."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        own = file.read().splitlines()[-1].partition("::")[2]
    return "/sys/fs/cgroup" + own


def leave_group() -> None:
    open_for("/sys/fs/cgroup/cgroup.procs", os.O_WRONLY)


def make_group() -> None:
    path = f"{_groups()}/attempt-{os.getpid()}"
    os.mkdir(path)
    os.rmdir(path)


def never_killed() -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("-1000")
