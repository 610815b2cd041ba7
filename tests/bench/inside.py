"""Runs in the lab, beside the guests: ``inside.py WHAT SETTINGS``, both ways JSON. See guest.py for what is asked.

The contenders of one table all go to the same guest over the same vsock: through the user-space device's socket, or
through the kernel where it has vsock.
"""

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

sys.path[:0] = [__file__.rpartition("/bench/")[0], "/usr/lib/vmsilo"]

from bench.clock import Contender, Result, in_turns, spawn  # noqa: E402
from vmsilo import names, paths, plan, ports, vsock  # noqa: E402

Settings = dict[str, Any]

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "LANG": "C.UTF-8"}
VM_RUN = "/usr/bin/vm-run"
MIB = 1 << 20
PATIENCE = 600  # seconds, for one transfer: what takes longer hangs

# Where socat listens in the guest.
ECHO, SINK, SOURCE = 7000, 7001, 7002

_KEY = "/root/bench-key"
_SSH_OPTIONS = (
    *("-i", _KEY, "-F", "none", "-T"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
    *("-o", "BatchMode=yes", "-o", "ProxyUseFdpass=yes", "-o", "CheckHostIP=no"),
)
PROXY = ("/usr/bin/python3", "-IS", os.path.join(os.path.dirname(__file__), "proxy.py"))


def running_plan(vm: str) -> plan.Plan:
    with open(f"{paths.vm_dir(vm)}/{paths.RUNNING_PLAN}", encoding="utf-8") as file:
        return plan.loads(file.read())


def connect(vm: str, port: int) -> socket.socket:
    its = running_plan(vm)
    bare = vsock.connect(its.cid, port, its.vsock, patience=10, timeout=60)
    return socket.socket(fileno=bare.detach())


def ssh(vm: str, command: str) -> list[str]:
    its = running_plan(vm)
    proxy = " ".join([*PROXY, "-" + its.vsock, str(its.cid), "22"])
    return ["/usr/bin/ssh", *_SSH_OPTIONS, "-o", f"ProxyCommand={proxy}", "root@guest", command]


def output(argv: Sequence[str], text: str = "") -> str:
    done = subprocess.run(argv, input=text, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def prepare(vm: str, size: int) -> None:
    """Start *vm*; let root in by ssh, and start socat in it."""
    if not os.path.exists(_KEY):
        output(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", _KEY])
    with open(_KEY + ".pub", encoding="utf-8") as file:
        allow = "umask 077; mkdir -p /root/.ssh; cat >/root/.ssh/authorized_keys"
        output([VM_RUN, "--user", "root", vm, allow], file.read())
    servers = {
        ECHO: "EXEC:cat",
        SINK: f"SYSTEM:head -c {size} >/dev/null; echo done",
        SOURCE: f"SYSTEM:head -c {size} /dev/zero",
    }
    for port, does in servers.items():
        output([VM_RUN, "-d", vm, "socat", "-b", "65536", f"VSOCK-LISTEN:{port},fork,reuseaddr", does])
    for port in servers:
        connect(vm, port).close()
    output(ssh(vm, "true"))


def wall(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


# Latency of one command.


def echo_once(vm: str) -> None:
    with connect(vm, ECHO) as connection:
        connection.sendall(b"x")
        if connection.recv(1) != b"x":
            raise RuntimeError("the echo is not what was sent")


def latency(settings: Settings) -> list[Result]:
    vm = settings["vm"]
    prepare(vm, MIB)
    over_ssh = ssh(vm, "true")
    return in_turns(
        [
            Contender("vm-run", lambda: spawn([VM_RUN, vm, "true"], ENVIRONMENT)),
            Contender("ssh", lambda: spawn(over_ssh, ENVIRONMENT)),
            Contender("socat echo", lambda: wall(lambda: echo_once(vm))),
            Contender("python3 -IS", lambda: spawn([*PROXY[:2], "-c", "pass"], ENVIRONMENT)),
        ],
        settings["rounds"],
    )


# Throughput.


def pipeline(remote: Callable[[str], list[str]], direction: str, size: int) -> str:
    """A shell's command line that moves *size* bytes through *remote*, which makes argv from a command."""
    words = {
        "to guest": "cat >/dev/null",
        "from guest": f"head -c {size} /dev/zero",
        "both": "cat",
    }
    command = " ".join(_quoted(word) for word in ["timeout", str(PATIENCE), *remote(words[direction])])
    if direction == "from guest":
        return f"{command} </dev/null >/dev/null"
    return f"head -c {size} /dev/zero | {command} >/dev/null"


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def socat_once(vm: str, direction: str, size: int) -> None:
    """The same with socat at both ends, on a socket that is connected already.

    It must not shut its side down at the end of its input: the hybrid vsock would drop what is on its way back.
    """
    port = {"to guest": SINK, "from guest": SOURCE, "both": ECHO}[direction]
    with connect(vm, port) as connection:
        descriptor = connection.fileno()
        line = {
            "to guest": f"socat -u -b 65536 OPEN:/dev/zero,readbytes={size} FD:{descriptor},shut-none",
            "from guest": f"socat -u -b 65536 FD:{descriptor},readbytes={size} OPEN:/dev/null",
            "both": f"socat -u -b 65536 OPEN:/dev/zero,readbytes={size} FD:{descriptor},shut-none & "
            f"socat -u -b 65536 FD:{descriptor},readbytes={size} OPEN:/dev/null; wait",
        }[direction]
        subprocess.run(["/bin/sh", "-ec", line], env=ENVIRONMENT, check=True, pass_fds=[descriptor], timeout=PATIENCE)
        if direction == "to guest" and connection.recv(4) != b"done":
            raise RuntimeError("the guest did not get everything")


def throughput(settings: Settings) -> dict[str, list[Result]]:
    vm, size, rounds = settings["vm"], settings["size"] * MIB, settings["rounds"]
    prepare(vm, size)

    def shell(line: str) -> Contender:
        return Contender("", lambda: spawn(["/bin/sh", "-ec", line], ENVIRONMENT))

    tables = {}
    for direction in ("to guest", "from guest", "both"):
        contenders = [
            shell(pipeline(lambda command: [VM_RUN, "-T", vm, command], direction, size))._replace(name="vm-run"),
            shell(pipeline(lambda command: ssh(vm, command), direction, size))._replace(name="ssh"),
            Contender("socat", partial(wall, partial(socat_once, vm, direction, size))),
        ]
        tables[direction] = in_turns(contenders, rounds)
    return tables


# Cold start.


def stop(vm: str) -> None:
    output(["/usr/bin/systemctl", "stop", names.vm_unit(vm)])


def first_byte(vm: str) -> float:
    """Time from the call of vm-run to the first byte that a command in the guest printed."""
    start = time.perf_counter()
    with subprocess.Popen([VM_RUN, vm, "echo", "x"], env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        if process.stdout.read(1) != b"x":
            raise RuntimeError("vm-run printed something else")
        spent = (time.perf_counter() - start) * 1000
    return spent


class Bare:
    """The hypervisor's command line as vm-launch had it, with files in place of the descriptors it inherited.

    Nothing starts it but us: no systemd, no sandbox around it, no plan. The vsock device is there before.
    """

    def __init__(self, vm: str, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.plan = running_plan(vm)
        self.guest = f"{directory}/guest.socket"
        self.device = f"{directory}/device.socket"
        self.overlay = f"{directory}/overlay"
        with open(f"/proc/{main_pid(vm)}/cmdline", encoding="utf-8") as file:
            self.argv = self.translated(file.read().rstrip("\0").split("\0"))

    def translated(self, argv: list[str]) -> list[str]:
        line = []
        words = iter(argv)
        for word in words:
            if word == "-S":
                continue
            if word in ("-mon", "-smbios", "-add-fd"):
                next(words)
                continue
            if word == "-chardev":
                kind = next(words)
                if "id=qmp" in kind:
                    continue
                if "id=console" in kind:
                    kind = "null,id=console"
                if "id=vsock" in kind:
                    kind = f"socket,id=vsock,path={self.device}"
                line += [word, kind]
                continue
            if word == "-blockdev":
                line += [word, self.blockdev(next(words))]
                continue
            line.append(word)
        for credential in self.plan.credentials:
            line += self.smbios(credential.name, credential.value)
        return line + self.smbios("vmm.notify_socket", f"vsock-stream:{ports.HOST_CID}:{ports.READY}")

    def blockdev(self, text: str) -> str:
        facts = json.loads(text)
        file = facts["file"]
        # Its two disks, which it has as descriptors.
        file["filename"] = f"{self.plan.image}/{paths.BUNDLE_ROOT}" if file["read-only"] else self.overlay
        return json.dumps(facts)

    @staticmethod
    def smbios(name: str, value: str) -> list[str]:
        encoded = b64encode(value.encode()).decode()
        return ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={encoded}"]

    def once(self) -> float:
        """Boot it until it says that it is ready; then kill it."""
        for path in (self.guest, self.device, f"{self.guest}_{ports.READY}"):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.overlay, "wb") as file:
            file.truncate(self.plan.overlay.size or 1 << 30)
        device = subprocess.Popen(
            [
                "/usr/bin/vhost-device-vsock",
                f"--guest-cid={self.plan.cid}",
                f"--socket={self.device}",
                f"--uds-path={self.guest}",
                "--tx-buffer-size=32768",
            ],
            stderr=subprocess.DEVNULL,
        )
        while not os.path.exists(self.device):
            time.sleep(0.01)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"{self.guest}_{ports.READY}")
        listener.listen(16)
        listener.settimeout(300)
        start = time.perf_counter()
        hypervisor = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if b"READY=1" in connection.recv(4096):
                        return (time.perf_counter() - start) * 1000
        finally:
            listener.close()
            for process in (hypervisor, device):
                process.kill()
                process.wait()


def main_pid(vm: str) -> int:
    return int(output(["/usr/bin/systemctl", "show", "--value", "--property=MainPID", names.vm_unit(vm)]))


def coldstart(settings: Settings) -> list[Result]:
    vm = settings["vm"]
    first_byte(vm)
    if not running_plan(vm).vsock:
        raise RuntimeError("the bare command line is only known for the user-space vsock device")
    bare = Bare(vm, "/run/bench-bare")
    warm = in_turns([Contender("warm vm-run", lambda: first_byte(vm))], 20)

    def cold() -> float:
        stop(vm)
        return first_byte(vm)

    def by_hand() -> float:
        stop(vm)
        return bare.once()

    return [*in_turns([Contender("vm-run", cold), Contender("bare", by_hand)], settings["rounds"]), *warm]


# Memory.


def pss(pid: int) -> int:
    """KiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def memory(settings: Settings) -> list[tuple[str, str, int]]:
    """Every process of an idle VM's slice, and every other one that runs code of ours: kind, command line, KiB."""
    output([VM_RUN, settings["vm"], "true"])
    time.sleep(settings["idle"])
    found: list[tuple[str, str, int]] = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().rstrip(b"\0").decode(errors="replace").split("\0")
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                in_slice = names.ALL_SLICE in file.read()
            if not words[0] or pid == os.getpid():
                continue
            ours = any(word.startswith(("/usr/lib/vmsilo", "/usr/libexec/vmsilo", "/usr/bin/vm-")) for word in words)
            if ours or in_slice:
                program = os.path.basename(words[0])
                kind = "ours" if ours else {"vhost-device-vsock": "backend"}.get(program, "hypervisor")
                found.append((kind, " ".join(words)[:60], pss(pid)))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return sorted(found)


def main() -> int:
    what, settings = sys.argv[1], json.loads(sys.argv[2])
    benches: dict[str, Callable[[Settings], object]] = {
        "run": latency,
        "throughput": throughput,
        "coldstart": coldstart,
        "memory": memory,
    }
    if what in ("files", "startup"):
        from bench import shares  # it imports this module

        benches = {"files": shares.files, "startup": shares.startup}
    json.dump(benches[what](settings), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
