"""The handle on a running machine: the lab's, but for how it is reached and ended."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.host import Host

from vmsilo import names, paths

CLIENT = Path(__file__).with_name("client.py")

# The answer to one command of QEMU's control socket.
ASK = """
import json, socket, sys
control = socket.socket(socket.AF_UNIX)
control.settimeout(60)
control.connect(sys.argv[1])
lines = control.makefile("rw")
lines.readline()
for command in ("qmp_capabilities", sys.argv[2]):
    lines.write(json.dumps({"execute": command}) + "\\n")
    lines.flush()
    while "event" in (answer := json.loads(lines.readline())):
        pass
print(json.dumps(answer["return"]))
"""


class Machine(Host):
    """A running machine; nothing of ours runs in it but the agent and what a test starts."""

    def __init__(self, emulator: "subprocess.Popen[bytes]", directory: Path) -> None:
        """*emulator* is QEMU, whose sockets and console are in *directory*."""
        super().__init__(emulator.pid, emulator, directory / "console")
        self.directory = directory

    def enter(self) -> list[str]:
        return [sys.executable, "-IS", str(CLIENT), str(self.directory)]

    def close(self) -> None:
        """Power off at the wall."""
        self.supervisor.kill()
        self.supervisor.wait()

    # vmsilo. No guest gets through its boot here: on this emulated processor an interrupt reaches a guest of KVM that
    # has them disabled, and sooner or later it waits for itself. So what is seen is what its hypervisor has.

    def begin(self, vm: str, timeout: float) -> None:
        """Start a VM on QEMU, and return when its guest has begun to run."""
        unit = names.vm_unit(vm)
        self.systemctl("start", "--no-block", unit)
        self.wait_for(lambda: self.show(unit, "SubState")["SubState"] in ("start-post", "running"), timeout)
        self.wait_for(lambda: self.ask(vm, "query-status")["status"] == "running", timeout)

    def ask(self, vm: str, command: str) -> Any:
        """What QEMU answers to a command without arguments."""
        control = f"{paths.vm_dir(vm)}/control.socket"
        return json.loads(self.run("python3", "-I", "-c", ASK, control, command).out)
