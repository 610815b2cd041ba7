#!/usr/bin/python3 -I
"""Boots one lab and sees to it that nothing of it outlives whoever asked for it.

    supervise.py SETTINGS        (JSON, see Settings)

Prints ``leader PID`` when systemd has been started; if the lab ends by itself, what its console showed last. Ends the
lab when standard input ends, which it also does when
the process at its other end is killed. The lab's init is killed with this process, every process of the lab with its
init, and every mount with the last process: only the lab's control groups need removing, and those of a lab whose
supervisor was killed are removed by the next one.
"""

import ctypes
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from typing import NamedTuple

# sched.h, sys/mount.h, sys/prctl.h
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
PR_SET_PDEATHSIG = 1

GROUP_PREFIX = "vmsilo-lab-"
CONSOLE = "console"  # file below the lab's place: what its console printed

libc = ctypes.CDLL(None, use_errno=True)


class Settings(NamedTuple):
    """What the lab is made of."""

    place: str  # an empty directory; the lab's files are mounted there, seen by nobody else
    tree: str
    images: dict[str, str]  # name: directory of the bundle
    install: list[str]  # command that installs the project; gets DESTDIR=... as its last argument
    files: dict[str, str]  # absolute path: text; there when the lab boots
    kvm: bool


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    checked(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode() or None))


def remove_groups(top: str) -> None:
    """Remove a control group with all below it; a group whose last process is still being buried is busy."""
    for directory, _, _ in os.walk(top, topdown=False):
        for _ in range(100):
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


def is_abandoned(group: str) -> bool:
    with open(group + "/cgroup.events", encoding="ascii") as events:
        if "populated 1" in events.read():
            return False
    return not os.path.exists(f"/proc/{group.rpartition('-')[2]}")


def make_group(mounted: str) -> str:
    """A control group for the lab, in a version 2 hierarchy mounted for this alone."""
    mount("cgroup2", mounted, "cgroup2")
    for name in os.listdir(mounted):
        if name.startswith(GROUP_PREFIX) and is_abandoned(f"{mounted}/{name}"):
            remove_groups(f"{mounted}/{name}")
    group = f"{mounted}/{GROUP_PREFIX}{os.getpid()}"
    os.mkdir(group)
    return group


def be_init(settings: Settings, group: str, terminal: int) -> None:
    """In the child, which is PID 1 of its namespace: leave the outer world, then become the lab's systemd."""
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    with open(group + "/cgroup.procs", "w", encoding="ascii") as processes:
        processes.write("0")
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET))
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, signal.SIG_DFL)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LAB": settings.place,
        "TREE": settings.tree,
        "IMAGES": "\n".join(f"{name} {path}" for name, path in sorted(settings.images.items())),
        "KVM": "yes" if settings.kvm else "",
        "CONSOLE": os.ttyname(terminal),
    }
    script = os.path.dirname(os.path.abspath(__file__)) + "/inside.sh"
    os.execve("/bin/sh", ["sh", "-eu", script], environment)


def watch(leader: int, console: int, log_path: str) -> bool:
    """Keep the console drained until the lab ends. True if it did so by itself, and not at the end of our input."""
    unasked = True
    ended = os.pidfd_open(leader)
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    poll.register(console, select.POLLIN)
    poll.register(ended, select.POLLIN)
    with open(log_path, "ab", buffering=0) as log:
        while True:
            ready = dict(poll.poll())
            if console in ready:
                try:
                    log.write(os.read(console, 65536))
                except OSError:  # EIO: nobody has the terminal open
                    poll.unregister(console)
            if ended in ready:
                return unasked
            if 0 in ready and not os.read(0, 4096):
                unasked = False
                os.kill(leader, signal.SIGKILL)
                poll.unregister(0)


def main() -> int:
    settings = Settings(**json.loads(sys.argv[1]))
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # a Ctrl-C on the terminal must not end the one who cleans up
    checked(libc.unshare(CLONE_NEWNS))
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    mount("lab", settings.place, "tmpfs", 0, "mode=0755")
    os.chdir("/")
    for name in ("project", "upper", "work", "root", "cgroup"):
        os.mkdir(f"{settings.place}/{name}")

    installed = subprocess.run(
        [*settings.install, f"DESTDIR={settings.place}/project"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if installed.returncode:
        sys.stdout.buffer.write(b"make install failed:\n" + installed.stdout)
        return 1

    for path, text in settings.files.items():
        os.makedirs(os.path.dirname(f"{settings.place}/project{path}"), exist_ok=True)
        with open(f"{settings.place}/project{path}", "w", encoding="utf-8") as file:
            file.write(text)

    group = make_group(settings.place + "/cgroup")
    console, terminal = pty.openpty()
    checked(libc.unshare(CLONE_NEWPID))
    leader = os.fork()
    if leader == 0:
        try:
            be_init(settings, group, terminal)
        except BaseException as error:
            os.write(terminal, f"{error!r}\n".encode())
        os._exit(1)
    print("leader", leader, flush=True)
    log = f"{settings.place}/{CONSOLE}"
    try:
        if watch(leader, console, log):
            with open(log, "rb") as printed:
                sys.stdout.buffer.write(printed.read()[-4000:])
                sys.stdout.flush()
    finally:
        os.waitpid(leader, 0)
        remove_groups(group)
    return 0


if __name__ == "__main__":
    sys.exit(main())
