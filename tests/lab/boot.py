"""Boots the tree as a systemd host, with the project of this checkout installed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lab import cache, kvm, tree
from lab.host import Failed, Host
from lab.supervise import CONSOLE

BOOT_PATIENCE = 300.0  # seconds; less than one, but for VMs that start with the host


def boot(images: Mapping[str, Path], files: Mapping[str, str], *, degraded: bool = False) -> Host:
    """A running lab, with the image bundles *images* in its image directory by these names.

    *files*, texts by absolute path, are in place before systemd starts. Units that fail at boot are an error, unless
    *degraded* is what the test is about.
    """
    host_tree = tree.build()
    if os.geteuid() != 0:
        raise Failed("the lab makes namespaces and mounts, so it needs root (VMSILO_SKIP_LAB=1 leaves it out)")
    place = cache.directory() / "mnt"
    place.mkdir(exist_ok=True)
    settings = {
        "place": str(place),
        "tree": str(host_tree),
        "images": {name: str(path) for name, path in images.items()},
        "install": ["make", "-s", "-C", str(cache.ROOT), "install", "python=/usr/bin/python3", "prefix=/usr"],
        "files": dict(files),
        "kvm": kvm.works(host_tree, next(iter(images.values()), None)),
    }
    supervisor = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("supervise.py")), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert supervisor.stdout
    first = supervisor.stdout.readline()
    if not first.startswith(b"leader "):
        said = first + supervisor.stdout.read()
        raise Failed(f"the lab does not boot: {said.decode(errors='replace').strip()}")
    # The console's log is where only the supervisor sees it, so nothing has to remove it.
    host = Host(int(first.split()[1]), supervisor, Path(f"/proc/{supervisor.pid}/root{place}/{CONSOLE}"))
    try:
        _wait_running(host, degraded=degraded)
    except BaseException:
        host.close()
        raise
    return host


def _wait_running(host: Host, *, degraded: bool) -> None:
    deadline = time.monotonic() + BOOT_PATIENCE
    state = ""
    while time.monotonic() < deadline:
        if host.supervisor.poll() is not None:
            assert host.supervisor.stdout
            printed = host.supervisor.stdout.read().decode(errors="replace")
            raise Failed(f"the lab ended while it was booting; its console:\n{printed}")
        state = host.run("systemctl", "is-system-running", check=False).out.strip()
        if state == "running" or (degraded and state == "degraded"):
            return
        if state in ("degraded", "maintenance"):
            failed = host.systemctl("list-units", "--failed", "--plain", "--no-legend").out
            raise Failed(f"the lab boots with failed units:\n{failed}\n{host.journal('-b')[-6000:]}")
        time.sleep(0.1)
    printed = host.console.read_text(errors="replace")[-4000:]
    raise Failed(f"the lab did not come up in {BOOT_PATIENCE} s ({state or 'no systemd'}); its console:\n{printed}")
