"""The lab itself: what it promises to the tests, and to the machine it runs on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab import cache
from lab.host import Host
from lab.tree import STRANGER, USER

STARTER = """
import json, sys, time
from pathlib import Path
from lab import boot
host = boot.boot({}, {})
print(json.dumps([host.leader, host.supervisor.pid]), flush=True)
time.sleep(600)
"""


def test_the_host_is_up(lab: Host) -> None:
    assert lab.systemctl("is-system-running").out == "running\n"
    assert lab.read("/proc/1/comm") == "systemd\n"


def test_users(lab: Host) -> None:
    assert lab.run("id", "-u", user=USER).out == "1000\n"
    assert lab.run("id", "-u", user=STRANGER).out == "1001\n"
    assert lab.run("pwd", user=USER).out == "/\n"


def test_the_outer_machine_is_out_of_reach(lab: Host) -> None:
    assert lab.run("sysctl", "-w", "kernel.panic=0", check=False).code != 0
    assert "error" not in lab.run("hostname", "elsewhere").err
    assert os.uname().nodename != "elsewhere"


def test_nothing_outlives_who_started_it() -> None:
    """Not even when that is killed without a chance to clean up."""
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        env={**os.environ, "PYTHONPATH": f"{cache.ROOT}:{cache.ROOT}/tests"},
        stdout=subprocess.PIPE,
    )
    assert starter.stdout
    leader, supervisor = json.loads(starter.stdout.readline())
    group = Path(f"/proc/{leader}/cgroup").read_text().splitlines()[-1].partition("::")[2].split("/init.scope")[0]
    assert "vmsilo-lab-" in group

    starter.send_signal(signal.SIGKILL)
    starter.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{supervisor}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not Path(f"/proc/{supervisor}").exists()
    assert not Path(f"/proc/{leader}").exists()
    look = 'mount -t cgroup2 cgroup2 /mnt; test ! -e "/mnt$1"'
    subprocess.run(["unshare", "--mount", "--propagation=private", "sh", "-ec", look, "sh", group], check=True)
    assert str(cache.directory()) not in Path("/proc/self/mounts").read_text()
