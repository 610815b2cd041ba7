"""The handle on a running lab: run programs in it, read its journal, change its configuration."""

import json
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lab.tree import USER
from vmsilo import names

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
CONFIG = "/etc/vmsilo.d"

# Seconds a program in the lab may take when the caller says nothing: guests run emulated, on what may be a busy
# machine, so this is for what hangs and no measure of speed.
PATIENCE = 240.0


class Result(NamedTuple):
    """How a program ended: exit status, or minus the signal; and what it said."""

    code: int
    raw: bytes  # standard output
    errors: bytes  # standard error

    @property
    def out(self) -> str:
        return self.raw.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.errors.decode(errors="replace")


class Failed(AssertionError):
    """A program in the lab did not do what the test took for granted."""


class Process:
    """A program in the lab that runs beside the test."""

    def __init__(self, argv: list[str], *, stdin: int, stdout: int, stderr: int) -> None:
        self.popen = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd="/")

    @property
    def pid(self) -> int:
        """Of the program itself, as seen from outside the lab: nsenter(1) stays in front of it as its parent."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.popen.poll() is None:
            children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
            if children:
                return int(children[0])
            time.sleep(0.005)
        raise Failed(f"{self.popen.args!r} has ended with status {self.popen.poll()}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> Result:
        """Collect what is left of the output, and the end."""
        try:
            out, err = self.popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            out, err = self.popen.communicate()
            raise Failed(
                f"{self.popen.args!r} is still running after {timeout} s\n{_shown(out)}\n{_shown(err)}"
            ) from None
        code = self.popen.returncode
        return Result(code, out or b"", err or b"")

    def stop(self) -> None:
        if self.popen.poll() is None:
            try:
                self.signal(signal.SIGKILL)
            except (Failed, ProcessLookupError):
                self.popen.kill()

    def write(self, text: bytes) -> None:
        """Give the program this much input now."""
        assert self.popen.stdin
        self.popen.stdin.write(text)
        self.popen.stdin.flush()

    def read_line(self, timeout: float = PATIENCE) -> bytes:
        """The next line of its output; empty at the end."""
        assert self.popen.stdout
        line = b""
        deadline = time.monotonic() + timeout
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.popen.stdout], [], [], left)[0]:
                raise Failed(f"{self.popen.args!r} has written nothing but {line!r} for {timeout} s")
            byte = os.read(self.popen.stdout.fileno(), 1)
            if not byte:
                break
            line += byte
        return line


class Host:
    """A running lab. Its root is reached with nsenter(1); nothing of ours runs in it but what a test starts."""

    def __init__(self, leader: int, supervisor: "subprocess.Popen[bytes]", console: Path) -> None:
        self.leader = leader
        self.supervisor = supervisor
        self.console = console

    def close(self) -> None:
        """Power off at the wall. Returns when nothing of the lab is left."""
        assert self.supervisor.stdin
        self.supervisor.stdin.close()
        self.supervisor.wait(timeout=60)

    def enter(self) -> list[str]:
        """The command that runs the command after it in the lab."""
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        return ["nsenter", f"--target={self.leader}", *namespaces, "--"]

    def argv(self, argv: tuple[str, ...], user: str | None, env: Mapping[str, str]) -> list[str]:
        """The command, seen from outside, that runs *argv* in the lab."""
        home = f"/home/{user}" if user else "/root"
        name = user or "root"
        identity = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"] if user else []
        variables = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": home, "USER": name, "LOGNAME": name, **env}
        return [
            *self.enter(),
            *identity,
            "/usr/bin/env",
            "-i",
            *(f"{key}={value}" for key, value in variables.items()),
            *argv,
        ]

    def start(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Process:
        return Process(self.argv(argv, user, env or {}), stdin=stdin, stdout=stdout, stderr=stderr)

    def run(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        input: bytes | str = b"",  # noqa: A002 (the name that subprocess gave it)
        check: bool = True,
        timeout: float = PATIENCE,
    ) -> Result:
        """Run *argv* to its end; with *check*, a status other than 0 fails the test with all that was said."""
        given = input.encode() if isinstance(input, str) else input
        process = Process(
            self.argv(argv, user, env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.popen.communicate(given, timeout)
        except subprocess.TimeoutExpired:
            process.stop()
            out, err = process.popen.communicate()
            raise Failed(f"{shlex.join(argv)} took more than {timeout} s\n{_shown(out)}\n{_shown(err)}") from None
        except BaseException:
            process.stop()
            raise
        result = Result(process.popen.returncode, out, err)
        if check and result.code != 0:
            raise Failed(f"{shlex.join(argv)} ended with status {result.code}\n{_shown(out)}\n{_shown(err)}")
        return result

    # Files. Not through /proc/PID/root: an absolute link in there would lead out of the lab.

    def write(self, path: str, text: str | bytes, mode: str = "0644") -> None:
        self.run("sh", "-ec", 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"', "sh", path, mode, input=text)

    def read(self, path: str) -> str:
        return self.run("cat", path).out

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path, check=False).code == 0

    # systemd

    def systemctl(self, *arguments: str, check: bool = True, user: str | None = None) -> Result:
        return self.run("systemctl", "--no-pager", "--no-ask-password", *arguments, check=check, user=user)

    def systemd_version(self) -> int:
        return int(self.systemctl("--version").out.split()[1])

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit as systemctl(1) prints them."""
        text = self.systemctl("show", "--property=" + ",".join(properties), "--", unit).out
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def state(self, unit: str) -> str:
        """active, inactive, failed, ..."""
        return self.show(unit, "ActiveState")["ActiveState"]

    def wait_state(self, unit: str, wanted: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while (state := self.state(unit)) != wanted:
            if time.monotonic() > deadline:
                raise Failed(f"{unit} is {state} after {timeout} s, not {wanted}")
            time.sleep(0.1)

    def wait_for(self, holds: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until *holds* says yes."""
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline:
                raise Failed(f"still not so after {timeout} s")
            time.sleep(0.2)

    @staticmethod
    def now() -> float:
        """For journal(since=...): the lab's clock is ours."""
        return time.time()

    def reload(self) -> None:
        self.systemctl("daemon-reload")

    def journal(self, *arguments: str, since: float | None = None) -> str:
        """Lines of the journal; *since* is a time.time()."""
        self.run("journalctl", "--sync")
        when = [f"--since=@{since:.6f}"] if since is not None else []
        return self.run("journalctl", "--no-pager", "--no-hostname", "-q", *when, *arguments).out

    def bus(self, *arguments: str) -> object:
        """A call of busctl(1), with its answer as plain values."""
        return json.loads(self.run("busctl", "--json=short", *arguments).out)

    # vmsilo

    def configure(self, files: Mapping[str, str]) -> None:
        """Add or replace files of /etc/vmsilo.d, by stem, and reload. An empty text removes the file."""
        for stem, text in files.items():
            if text:
                self.write(f"{CONFIG}/{stem}.toml", text)
            else:
                self.run("rm", "-f", f"{CONFIG}/{stem}.toml")
        self.reload()

    @contextmanager
    def configured(self, files: Mapping[str, str]) -> Iterator[None]:
        """VMs that are there for a while, with their sockets, which at a boot would be started by themselves."""
        self.configure(files)
        for stem in files:
            self.systemctl("start", names.command_socket_unit(stem), names.console_socket_unit(stem), check=False)
        try:
            yield
        finally:
            self.stop(*files)
            self.configure(dict.fromkeys(files, ""))

    def stop(self, *vms: str) -> None:
        """Stop VMs without ceremony, with all of their units."""
        for vm in vms:
            unit = names.vm_unit(vm)
            self.systemctl("kill", "--signal=KILL", unit, check=False)
            sockets = (names.command_socket_unit(vm), names.console_socket_unit(vm))
            # Before its file is removed: what is not needed any more is stopped by and by.
            self.systemctl("stop", unit, *sockets, names.share_socket_unit(vm, "*"), check=False)
            self.systemctl("reset-failed", f"{names.PREFIX}{vm}*", check=False)

    def vm_run(
        self,
        *argv: str,
        user: str = USER,
        input: bytes | str = b"",  # noqa: A002
        check: bool = True,
        timeout: float = PATIENCE,
    ) -> Result:
        return self.run("vm-run", *argv, user=user, input=input, check=check, timeout=timeout)

    def listed(self) -> list[dict[str, Any]]:
        """What vm-list says."""
        answer: list[dict[str, Any]] = json.loads(self.run("vm-list", "--json", user=USER).out)
        return answer

    def cid(self, vm: str) -> int:
        """The VM's vsock context id."""
        text = self.run("/usr/lib/systemd/system-generators/vmsilo-generator", "--list").out
        return next(int(line.split("\t")[2]) for line in text.splitlines() if line.startswith(f"{vm}\t"))

    def main_pid(self, unit: str) -> int:
        """Of a running service, as seen in the lab."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def processes(self) -> list[str]:
        """Command lines of all processes in the lab."""
        return self.run("ps", "-ww", "-e", "-o", "args=").out.splitlines()


def _shown(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")[-2000:]
