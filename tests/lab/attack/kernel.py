"""What the kernel does for the privileged, or has more code for than a sandbox should reach."""

import errno
import fcntl
import mmap
import os
import resource
import signal
import sys
from collections.abc import Iterator
from functools import partial

from lab.attack import calls
from lab.attack.calls import call
from lab.attack.processes import INIT
from lab.attack.trial import Attempt, Refused, Scene

# linux/sched.h
_NAMESPACES = {
    "mount": 0x0002_0000,
    "cgroup": 0x0200_0000,
    "uts": 0x0400_0000,
    "ipc": 0x0800_0000,
    "user": 0x1000_0000,
    "pid": 0x2000_0000,
    "net": 0x4000_0000,
    "time": 0x0000_0080,
}
_TIOCSTI = 0x5412

# A program that asks, as an i386 one would, to end with status 42: a way around filters that know one architecture.
_I386_EXIT = b"\xb8\x01\x00\x00\x00\xbb\x2a\x00\x00\x00\xcd\x80\xf4"


def attempts(scene: Scene) -> Iterator[Attempt]:
    yield from _plain_calls()
    for name, flag in _NAMESPACES.items():
        yield Attempt("namespaces", f"make a {name} namespace", partial(call, calls.UNSHARE, flag))
        if flag > 0xFF:  # the lowest byte is a signal's number here
            yield Attempt("namespaces", f"start a process in a new {name} namespace", partial(clone, flag))
        yield Attempt("namespaces", f"enter the {name} namespace of PID 1", partial(enter, name))
    yield Attempt("namespaces", "make a user namespace by clone3", clone3)
    yield Attempt("memory", "write code", partial(map_memory, mmap.PROT_WRITE | mmap.PROT_EXEC))
    yield Attempt("memory", "make written memory executable", make_executable)
    yield Attempt("memory", "make i386 system calls", partial(i386, scene))
    yield Attempt("identity", "become root", partial(os.setresuid, 0, 0, 0))
    yield Attempt("identity", "become the other VM's user", partial(become, scene.victim_uid))
    yield Attempt("identity", "join root's group", partial(os.setgroups, [0]))
    yield Attempt("identity", "take a capability", capabilities)
    yield Attempt("identity", "run a set-user-ID program", partial(set_user_id, scene.setuid))
    yield Attempt("identity", "run with realtime priority", realtime)
    yield Attempt("identity", "run before others", partial(os.nice, -1))
    yield Attempt("identity", "raise a limit", more)
    yield Attempt("identity", "leave core dumps", core_dumps)
    yield Attempt("terminal", "type into the terminal", partial(type_into, scene.terminal))


def _plain_calls() -> Iterator[Attempt]:
    """Calls that need no more than their arguments."""

    def make(
        group: str, what: str, number: int, *arguments: int | bytes | None, past: tuple[int, ...] = ()
    ) -> Attempt:
        return Attempt(group, what, partial(call, number, *arguments, past=past))

    yield make("mounts", "mount a file system", calls.MOUNT, b"x", b"/nowhere", b"tmpfs", 0, None, past=(2,))
    yield make("mounts", "mount a file system over /tmp", calls.MOUNT, b"x", b"/tmp", b"nosuch", 0, None, past=(19,))
    yield make("mounts", "unmount", calls.UMOUNT2, b"/usr", 0, past=(errno.EINVAL,))
    yield make("mounts", "change the root", calls.CHROOT, b"/")
    yield make("mounts", "exchange the root", calls.PIVOT_ROOT, b"/usr", b"/usr", past=(errno.EINVAL, errno.EBUSY))
    yield make("mounts", "open a file system", calls.FSOPEN, b"tmpfs", 0)
    yield make("mounts", "copy a tree of mounts", calls.OPEN_TREE, -100, b"/", 1)
    yield make("mounts", "change a mount", calls.MOUNT_SETATTR, -100, b"/", 0, bytes(32), 32)
    yield make("kernel", "load a module", calls.INIT_MODULE, bytes(64), 64, b"", past=(errno.ENOEXEC,))
    yield make("kernel", "load a module from a file", calls.FINIT_MODULE, 0, b"", 0, past=(8, 9, 22, 26, 13))
    yield make("kernel", "unload a module", calls.DELETE_MODULE, b"nosuch", 0, past=(errno.ENOENT,))
    yield make("kernel", "load another kernel", calls.KEXEC_LOAD, 0, 17, None, 0, past=(errno.EINVAL,))
    yield make("kernel", "reboot", calls.REBOOT, 0, 0, 0, None, past=(errno.EINVAL,))
    yield make("kernel", "set the clock", calls.SETTIMEOFDAY, None, None)
    yield make("kernel", "set the clock otherwise", calls.CLOCK_SETTIME, 0, None, past=(errno.EFAULT,))
    yield make("kernel", "set the name of the host", calls.SETHOSTNAME, *_hostname())
    yield make("kernel", "swap", calls.SWAPON, b"/nowhere", 0, past=(errno.ENOENT,))
    yield make("kernel", "account for processes", calls.ACCT, b"/nowhere", past=(errno.ENOENT,))
    yield make("kernel", "change quotas", calls.QUOTACTL, 0x80000200, b"/nowhere", 0, None, past=(errno.ENOENT,))
    yield make("kernel", "read the kernel's log", calls.SYSLOG, 10, None, 0)
    yield make("kernel", "use ports of the hardware", calls.IOPERM, 0x80, 1, 1)
    yield make("kernel", "use all ports of the hardware", calls.IOPL, 3)
    yield make("kernel", "hang up terminals", calls.VHANGUP)
    yield make("kernel", "watch the file system", calls.FANOTIFY_INIT, 0, 0)
    yield make("kernel", "be another system's program", calls.PERSONALITY, 0x0008)
    yield make("kernel", "have all readable memory executable", calls.PERSONALITY, 0x0040_0000)
    yield make("kernel", "use io_uring", calls.IO_URING_SETUP, 1, bytes(120))
    yield make("kernel", "load a BPF map", calls.BPF, 0, _numbers(2, 4, 4, 1) + bytes(112), 128)
    yield make("kernel", "measure performance", calls.PERF_EVENT_OPEN, _numbers(1, 112) + bytes(104), 0, -1, -1, 0)
    yield make("kernel", "handle page faults", calls.USERFAULTFD, 1)
    yield make("kernel", "add a key", calls.ADD_KEY, b"user", b"vmsilo-attempt", b"x", 1, -2)
    yield make("kernel", "ask for a key", calls.REQUEST_KEY, b"user", b"nosuch", None, 0, past=(errno.ENOKEY,))
    yield make("kernel", "find a keyring", calls.KEYCTL, 0, -3, 1)
    yield make("kernel", "change the segments", calls.MODIFY_LDT, 0, bytes(16), 16)
    yield make("kernel", "hide memory from the kernel", calls.MEMFD_SECRET, 0)


def _numbers(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def _hostname() -> tuple[bytes, int]:
    name = os.uname().nodename.encode()
    return name, len(name)


def clone(flag: int) -> None:
    child = call(calls.CLONE, flag | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def clone3() -> None:
    arguments = (
        (0x1000_0000).to_bytes(8, "little") + bytes(24) + int(signal.SIGCHLD).to_bytes(8, "little") + bytes(48)
    )
    child = call(calls.CLONE3, arguments, 88)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def enter(name: str) -> None:
    file = {"mount": "mnt", "pid": "pid_for_children", "time": "time_for_children"}.get(name, name)
    descriptor = os.open(f"/proc/{INIT}/ns/{file}", os.O_RDONLY)
    # Everybody may enter the user namespace he is in already, in so far as that is an error of its own.
    call(calls.SETNS, descriptor, 0, past=(errno.EINVAL,))


def map_memory(protection: int) -> None:
    mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, protection)


def make_executable() -> None:
    import ctypes

    memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    memory.write(b"\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    call(calls.MPROTECT, address, 4096, mmap.PROT_READ | mmap.PROT_EXEC)


def i386(scene: Scene) -> None:
    """Run a program, of 64 bits by its file, that makes its only system call the old way."""
    start = 0x40_0000
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00\x01\x00\x00\x00"
        + (start + 120).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(12)
        + b"\x40\x00\x38\x00\x01\x00" + bytes(6)
    )  # fmt: skip
    size = 120 + len(_I386_EXIT)
    segment = (
        b"\x01\x00\x00\x00\x05\x00\x00\x00" + bytes(8) + start.to_bytes(8, "little") * 2
        + size.to_bytes(8, "little") * 2 + (0x1000).to_bytes(8, "little")
    )  # fmt: skip
    program = os.memfd_create("attempt", 0)
    os.write(program, header + segment + _I386_EXIT)
    child = os.fork()
    if child == 0:
        try:
            os.execve(program, ["attempt"], {})
        except OSError as error:
            os._exit(error.errno or 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 42:
        raise Refused(signal.Signals(-status).name if status < 0 else errno.errorcode.get(status, str(status)))


def become(user: int) -> None:
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def capabilities() -> str:
    """At least that which is nearly all of them."""
    admin = _numbers(1 << 21, 1 << 21, 0, 0, 0, 0)
    call(calls.CAPSET, _numbers(0x2008_0522, 0), admin)
    with open("/proc/self/status", encoding="ascii") as file:
        return next(line for line in file if line.startswith("CapEff"))


def set_user_id(path: str) -> str:
    """Run the program, which prints who it is."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 1)
            os.execv(path, [path, "-u"])
        except OSError as error:
            os._exit(error.errno or 1)
    os.close(writer)
    said = os.read(reader, 64).decode().strip()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said != "0":
        raise Refused(f"it runs as {'nobody else' if said else errno.errorcode.get(status, str(status))}")
    return said


def realtime() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def more() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (101, 101))
    except ValueError as error:  # what Python makes of EPERM there
        raise Refused(str(error)) from None


def core_dumps() -> int:
    """A dump has the guest's memory in it, and whoever handles dumps parses what the attacker wrote."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if not hard:
        raise Refused("limit 0")
    return hard


def type_into(path: str) -> None:
    """Put a character where the user's shell will read it, if he has a terminal that we can get."""
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            fcntl.ioctl(descriptor, _TIOCSTI, b"\0")
            return
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(terminal, _TIOCSTI, b"\0")


if sys.byteorder != "little":
    raise SystemExit("the numbers of these system calls are those of x86-64")
