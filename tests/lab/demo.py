"""make demo: two VMs start on demand and run commands, shown on the terminal as a user sees it.

In the lab, or, where PID 1 is systemd and VMSILO_DEMO_HOST=1 asks for it, on this very machine, which has to have
vmsilo installed. Ends with status 1 if anything differs from what should be seen.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import boot, cache, config, images
from lab.host import CONFIG, Failed, Host, Result
from lab.tree import USER
from vmsilo import names, paths

VMS = ("demo", "twin")
PATIENCE = 600.0  # seconds for one command; the first one starts a Debian under emulation

BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else [""] * 5
)


class Here:
    """This machine, where it is the host: what Host is for the lab, as far as the demo needs it."""

    def run(self, *argv: str, user: str | None = None, check: bool = True, timeout: float = PATIENCE) -> Result:
        identity = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        done = subprocess.run([*identity, *argv], capture_output=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise Failed(f"{' '.join(argv)} ended with status {done.returncode}\n{done.stderr.decode()}")
        return Result(done.returncode, done.stdout, done.stderr)


class Demo:
    """The transcript, and whether all of it was as it should be."""

    def __init__(self, host: Host | Here, user: str, prompt: str) -> None:
        self.host = host
        self.user = user
        self.prompt = prompt
        self.wrong = 0

    def say(self, text: str) -> None:
        print(f"\n{DIM}# {text}{PLAIN}", flush=True)

    def show(self, command: str, expected: str, *, status: int = 0, root: bool = False) -> None:
        """Run *command* in a shell; *expected* is a regular expression for all of its output."""
        prompt = f"root@{self.prompt}:~#" if root else f"{self.user}@{self.prompt}:~$"
        print(f"{BOLD}{prompt} {command}{PLAIN}", flush=True)
        began = time.monotonic()
        shell = ("bash", "-c", command)
        done = self.host.run(*shell, user=None if root else self.user, check=False, timeout=PATIENCE)
        took = time.monotonic() - began
        output = done.out + done.err
        print(output, end="" if output.endswith("\n") or not output else "\n")
        print(f"{DIM}({took:.2f} s){PLAIN}", flush=True)
        if done.code != status:
            self.fault(f"exit status {done.code}, not {status}")
        if not re.fullmatch(expected, output, re.DOTALL):
            self.fault(f"this is not what should be seen: {expected}")

    def fault(self, what: str) -> None:
        self.wrong += 1
        print(f"{RED}^ {what}{PLAIN}", flush=True)

    def play(self) -> None:
        self.say("Two VMs from one image. Each is a file:")
        self.show(f"tail -n +1 {CONFIG}/demo.toml {CONFIG}/twin.toml", ".*memory.*", root=True)
        self.show("systemctl daemon-reload", "", root=True)
        self.say("The first command starts the VM, through its socket:")
        uname = r"Linux demo \S+ .*GNU/Linux\n"
        self.show("vm-run demo uname -a", uname)
        self.say("The next one finds it running:")
        self.show("vm-run demo uname -a", uname)
        self.say("Input, output and exit status pass:")
        self.show("echo hello | vm-run demo 'tr a-z A-Z'", "HELLO\n")
        self.show("vm-run demo 'exit 3'; echo \"status $?\"", "status 3\n")
        self.say("Both at once, from the same image; the second one has to start first:")
        self.show("vm-run twin hostname & vm-run demo hostname; wait", "(demo\ntwin|twin\ndemo)\n")
        self.show("vm-list", r"NAME .*\ndemo +running +qemu .*\ntwin +running +qemu .*")
        self.say("The power button:")
        self.show("vm-stop demo twin", "")
        self.show("vm-list", r"NAME .*\ndemo +stopped .*\ntwin +stopped .*")


def main() -> int:
    began = time.monotonic()
    try:
        with on_this_machine() if os.environ.get("VMSILO_DEMO_HOST") == "1" else in_the_lab() as demo:
            demo.play()
            wrong = demo.wrong
    except (Failed, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        print(f"{RED}demo: {error}{PLAIN}", file=sys.stderr)
        return 1
    print()
    verdict = f"{RED}{wrong} faults{PLAIN}" if wrong else f"{GREEN}all as it should be{PLAIN}"
    print(f"{verdict}, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def vm_files() -> dict[str, str]:
    return dict.fromkeys(VMS, config.vm("debian", memory=512))


@contextmanager
def in_the_lab() -> Iterator[Demo]:
    bundle = images.debian()
    with cache.step("booting the lab, with vmsilo installed"):
        host = boot.boot({"debian": bundle}, {f"{CONFIG}/host.toml": config.HOST})
    try:
        host.configure(vm_files())
        yield Demo(host, USER, "lab")
    finally:
        with cache.step("switching the lab off"):
            host.close()


@contextmanager
def on_this_machine() -> Iterator[Demo]:
    if Path("/proc/1/comm").read_text() != "systemd\n":
        raise Failed("PID 1 of this machine is not systemd: without VMSILO_DEMO_HOST=1 the demo brings its own")
    if not shutil.which("vm-run"):
        raise Failed("vmsilo is not installed: make install")
    if not Path(paths.IMAGES, "debian/image.toml").exists():
        raise Failed("there is no guest image: vm-image build debian")
    host, files = Here(), vm_files()
    for vm in files:
        if Path(f"{CONFIG}/{vm}.toml").exists():
            raise Failed(f"{CONFIG}/{vm}.toml exists, and the demo would overwrite it")
    user = configured_user()
    try:
        for vm, text in files.items():
            Path(f"{CONFIG}/{vm}.toml").write_text(text)
        host.run("systemctl", "daemon-reload")
        yield Demo(host, user, os.uname().nodename)
    finally:
        for vm in files:
            host.run("systemctl", "stop", names.vm_unit(vm), names.command_socket_unit(vm), check=False)
            Path(f"{CONFIG}/{vm}.toml").unlink(missing_ok=True)
        host.run("systemctl", "daemon-reload")


def configured_user() -> str:
    """The user of host.toml, which must be there: who may use VMs is nothing a demo decides."""
    try:
        found = re.search(r'^user\s*=\s*"([^"]+)"', Path(f"{CONFIG}/host.toml").read_text(), re.MULTILINE)
    except FileNotFoundError:
        found = None
    if not found:
        raise Failed(f"{CONFIG}/host.toml names no user")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
