"""The configuration files: which there are, and their text; and what else is read of the host, which is all of it.

``/etc/vmsilo.d`` comes before ``/run/vmsilo.d`` and ``/usr/lib/vmsilo.d``: of files with the same name the first
counts, and one that is a link to /dev/null counts as none. A file that can't be read is found all the same, with
what is wrong with it, so that its VM can say so.
"""

import os
import stat
from typing import NamedTuple

from vmsilo import paths, policy
from vmsilo.paths import CONFIG_DIRECTORIES, CONFIG_SUFFIX
from vmsilo_generator.model import Facts
from vmsilo_generator.policies import Policies

PASSWD = "/etc/passwd"
GROUP = "/etc/group"
KVM_GROUP = "kvm"

# What the service manager has loaded. What is installed may be newer, until the next boot.
MANAGER = "/proc/1/maps"
LIBRARY = b"/libsystemd-shared-"  # and its version
VERSION_LENGTH = 3  # digits

PRIVATE_PIDS_SINCE = 257

# In a checkout. Installed, this is the name of nothing.
OWN_POLICIES = __file__.rpartition("/generators/")[0] + "/units/seccomp"

# Far above any configuration, far below what would slow the boot.
SIZE_MAX = 1 << 20


class ConfigFile(NamedTuple):
    """One file: its stem ("": it has none that counts), where it is, and its text or why there is none."""

    name: str
    path: str
    text: str
    fault: str = ""
    line: int = 0  # of the fault, where it has a place in the text
    column: int = 0


def directories(root: str = "", environment: str = "") -> tuple[str, ...]:
    """The directories to look into, the first one foremost.

    *root* goes before the three of the system; *environment* is the value of VMSILO_CONFIG_DIRS and replaces them.
    They are absolute, as units name the files in them.
    """
    if environment:
        found = [entry for entry in environment.split(":") if entry]
    else:
        found = [root.rstrip("/") + entry for entry in CONFIG_DIRECTORIES]
    return tuple(entry if entry[0] == "/" else f"{os.getcwd()}/{entry}" for entry in found)


def find(dirs: tuple[str, ...] | list[str]) -> list[ConfigFile]:
    """All configuration files of *dirs*, sorted by name, each name once."""
    chosen: dict[str, str] = {}
    faults: list[ConfigFile] = []
    for directory in dirs:
        try:
            entries = os.listdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(ConfigFile("", directory, "", f"can't list this directory: {error.strerror}"))
            continue
        for entry in entries:
            if entry.endswith(CONFIG_SUFFIX) and entry[0] != ".":
                chosen.setdefault(entry, f"{directory}/{entry}")
    found = (read(chosen[entry]) for entry in sorted(chosen))
    return faults + [file for file in found if file is not None]


def read(path: str) -> ConfigFile | None:
    """The file at *path*; None where it is a link to /dev/null."""
    if not path.isprintable():
        return ConfigFile("", path, "", "a unit can't name this file: expected a path of printable UTF-8")
    name = path.rpartition("/")[2].removesuffix(CONFIG_SUFFIX)
    try:
        # Without O_NONBLOCK a FIFO of that name would hang the boot.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        return ConfigFile(name, path, "", f"can't read this file: {error.strerror}")
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3):
                return None
            return ConfigFile(name, path, "", "not a file: expected a regular file, or a link to /dev/null")
        if status.st_size > SIZE_MAX:
            return ConfigFile(name, path, "", f"too large: expected at most {SIZE_MAX} bytes")
        data = _read_all(fd)
    except OSError as error:
        return ConfigFile(name, path, "", f"can't read this file: {error.strerror}")
    finally:
        os.close(fd)
    return decode(name, path, data)


def _read_all(fd: int) -> bytes:
    """Up to SIZE_MAX bytes; one read is nearly always enough."""
    data = os.read(fd, SIZE_MAX)
    while chunk := os.read(fd, SIZE_MAX - len(data)) if data else b"":
        data += chunk
    return data


def decode(name: str, path: str, data: bytes) -> ConfigFile:
    """The file with its bytes as text, or with the place of the first one that isn't UTF-8."""
    try:
        return ConfigFile(name, path, data.decode())
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        return ConfigFile(
            name,
            path,
            data.decode(errors="backslashreplace"),
            f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8 text",
            before.count("\n") + 1,
            len(before) - before.rfind("\n"),
        )


def passwd(root: str = "") -> str:
    """The user database as text; empty where there is none."""
    try:
        with open(root.rstrip("/") + PASSWD, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def facts(root: str = "") -> Facts:
    """Of the host whose file system is at *root*. What can't be told of its systemd is taken to be there."""
    version = systemd_version(root)
    return Facts(
        kvm_group=has_group(root, KVM_GROUP),
        private_pids=version is None or version >= PRIVATE_PIDS_SINCE,
        policies=Policies(policies(root)),
    )


def policies(root: str) -> dict[str, str]:
    """The texts of all policies that can be read, by name: the checkout's own, where this is one."""
    for directory in (OWN_POLICIES, root.rstrip("/") + paths.POLICIES):
        try:
            entries = os.listdir(directory)
        except OSError:
            continue
        files = {entry: read(f"{directory}/{entry}") for entry in entries if entry.endswith(policy.SUFFIX)}
        return {
            entry.removesuffix(policy.SUFFIX): file.text
            for entry, file in files.items()
            if file is not None and not file.fault
        }
    return {}


def has_group(root: str, name: str) -> bool:
    try:
        with open(root.rstrip("/") + GROUP, "rb") as file:
            return f"\n{name}:".encode() in b"\n" + file.read()
    except OSError:
        return False


def systemd_version(root: str) -> int | None:
    """Of the service manager that runs; None if that is no systemd, or we are not root, to whom alone it shows."""
    try:
        with open(root.rstrip("/") + MANAGER, "rb") as file:
            digits = file.read().partition(LIBRARY)[2][:VERSION_LENGTH]
    except OSError:
        return None
    return int(digits) if digits.isdigit() else None
