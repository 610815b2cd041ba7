"""Network namespaces: hosts, guests and the internet, each a file descriptor and no process."""

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Space:
    """One network namespace. Gone with the last socket in it, once closed."""

    def __init__(self, name: str) -> None:
        self.name = name
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.unshare(_CLONE_NEWNET))
            self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            _checked(_libc.setns(home, _CLONE_NEWNET))
            os.close(home)
        self.ip("link set lo up")

    def close(self) -> None:
        os.close(self.descriptor)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self.descriptor, _CLONE_NEWNET))
            yield
        finally:
            _checked(_libc.setns(home, _CLONE_NEWNET))
            os.close(home)

    def run(self, *command: str, given: str = "") -> str:
        """What *command* prints. Raises RuntimeError with its complaint when it fails."""
        with self.entered():
            done = subprocess.run(command, input=given, capture_output=True, encoding="utf-8")
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr}\n{given}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", given="\n".join(lines))

    def nft(self, script: str) -> None:
        self.run("nft", "-f", "-", given=script)

    def set(self, *settings: str) -> None:
        """Write kernel settings below net, such as "ipv4/ip_forward=1"."""
        with self.entered():
            for setting in settings:
                key, _, value = setting.partition("=")
                with open(f"/proc/sys/net/{key}", "w") as file:
                    file.write(value)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)


def join(one: Space, interface: str, other: Space, other_interface: str, mac: str = "", other_mac: str = "") -> None:
    """A cable between two namespaces: a pair of interfaces, both up."""
    macs = [f" address {each}" if each else "" for each in (mac, other_mac)]
    peer = f"peer name {other_interface}{macs[1]}"
    pid_of_descriptor = f"/proc/{os.getpid()}/fd/{other.descriptor}"
    one.ip(f"link add {interface}{macs[0]} type veth {peer} netns {pid_of_descriptor}", f"link set {interface} up")
    other.ip(f"link set {other_interface} up")
