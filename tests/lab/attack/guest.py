"""What root of a guest tries in a directory that it shares with the host. Sent to the guest as it is.

The argument is where it is mounted. Prints each attempt as JSON: what, whether it succeeded, and the error or what
was found.
"""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from functools import partial

_CAPABILITY = (
    (0x0200_0001).to_bytes(4, "little") + (1 << 7).to_bytes(4, "little") + bytes(12)
)  # cap_setuid, effective

Attempts = dict[str, Callable[[], object]]


def attempts(where: str) -> Attempts:
    tried: Attempts = {
        f"read {name}": partial(content, f"{where}/{name}") for name in ("absolute", "relative", "dotted")
    }
    tried |= {
        f"read {name}": partial(content, f"{where}/{name}")
        for name in ("../outside/secret", "inner/../../outside/secret", "../../etc/shadow.host")
    }
    for name in ("absolute", "relative"):
        tried[f"write through {name}"] = partial(os.open, f"{where}/{name}", os.O_WRONLY | os.O_TRUNC)
        tried[f"link to what {name} leads to"] = partial(linked, f"{where}/{name}", f"{where}/linked-{name}")
    tried["go through a link to a directory"] = partial(os.listdir, f"{where}/away/")
    tried["swap a directory for a link while it is used"] = partial(swap, where)
    for kind, name in ((stat.S_IFCHR, "character"), (stat.S_IFBLK, "block")):
        tried[f"make a {name} device"] = partial(os.mknod, f"{where}/{name}", kind | 0o666, os.makedev(1, 1))
    for bits, name in ((0o4755, "set-user-ID"), (0o2755, "set-group-ID"), (0o6755, "set-both")):
        tried[f"make a {name} program by chmod"] = partial(chmod, f"{where}/{name}", bits)
        tried[f"make a {name} program by open"] = partial(create, f"{where}/{name}-made", bits)
        tried[f"make a {name} program by mknod"] = partial(node, f"{where}/{name}-node", bits)
    tried["give a program a capability"] = partial(capable, f"{where}/capable")
    tried["open by a made-up handle"] = partial(by_handle, where)
    tried["use a name that is too long"] = partial(create, f"{where}/{'x' * 256}", 0o644)
    tried["make a file"] = partial(create, f"{where}/made", 0o755)  # which is what it may
    return tried


def content(path: str) -> str:
    with open(path, encoding="latin-1") as file:
        return file.read(100)


def linked(path: str, target: str) -> str:
    os.link(path, target, follow_symlinks=True)
    return content(target)


def swap(where: str) -> str:
    """Open a file below a directory that becomes a link to the host's in the meantime."""
    directory, other = f"{where}/swapped", f"{where}/swapped-away"
    os.mkdir(directory)
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.rename(directory, other)
    os.symlink("../outside", directory)
    try:
        return content(f"{directory}/secret")
    except OSError:
        os.close(os.open("../outside/secret", os.O_RDONLY, dir_fd=held))
        return "by the directory that it had opened"


def created(descriptor: int, bits: int) -> str:
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    if mode & 0o6000 != bits & 0o6000:
        raise OSError(errno.EPERM, "the bits are not kept")
    return f"{mode:o}"


def create(path: str, bits: int) -> str:
    os.umask(0)
    return created(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, bits), bits)


def chmod(path: str, bits: int) -> str:
    create(path, 0o755)
    os.chmod(path, bits)
    return created(os.open(path, os.O_WRONLY), bits)


def node(path: str, bits: int) -> str:
    os.umask(0)
    os.mknod(path, stat.S_IFREG | bits)
    return created(os.open(path, os.O_WRONLY), bits)


def capable(path: str) -> None:
    create(path, 0o755)
    os.setxattr(path, "security.capability", _CAPABILITY)


def by_handle(where: str) -> str:
    """Inodes that the guest has never looked up, by the numbers that it may have."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    for number in (*range(1000, 1100), *range(1 << 32, (1 << 32) + 100)):
        handle = (12).to_bytes(4, "little") + (0x81).to_bytes(4, "little") + number.to_bytes(8, "big") + bytes(4)
        found = libc.syscall(304, directory, handle, os.O_PATH)
        if found >= 0:
            return os.readlink(f"/proc/self/fd/{found}")
    raise OSError(ctypes.get_errno(), "none")


def outcome(act: Callable[[], object]) -> tuple[bool, str]:
    try:
        return True, str(act())
    except OSError as error:
        return False, errno.errorcode.get(error.errno or 0, str(error))


if __name__ == "__main__":
    print(json.dumps([[what, *outcome(act)] for what, act in attempts(sys.argv[1]).items()]))
