"""Shared directories, measured in the lab; see guest.py for what is asked, and inside.py for how it is called."""

import json
import os
import subprocess
import time
from functools import partial
from statistics import median
from typing import Any

from bench.clock import Contender, Result, in_turns
from bench.inside import ENVIRONMENT, MIB, VM_RUN, Settings, output, stop
from vmsilo import names

WORK = os.path.join(os.path.dirname(__file__), "files.py")

IN_GUEST = "/mnt"
OWN_DISK = "/root"


def work(argv: list[str], directory: str, sizes: list[int]) -> dict[str, float]:
    with open(WORK, encoding="utf-8") as script:
        command = [*argv, "python3", "-IS", "-", directory, *map(str, sizes)]
        return dict(json.loads(output(command, script.read())))


def mount(vm: str, tag: str) -> None:
    output([VM_RUN, "--user", "root", vm, f"mkdir -p {IN_GUEST} && mount -t virtiofs {tag} {IN_GUEST}"])


def files(settings: Settings) -> dict[str, dict[str, float]]:
    """Medians in seconds: by place, by step."""
    vm, path = settings["vm"], settings["path"]
    sizes = [settings["size"] * MIB, settings["operations"], settings["files"]]
    mount(vm, settings["tag"])
    in_guest = [VM_RUN, "--user", "user", vm]
    as_owner = ["/usr/bin/setpriv", f"--reuid={settings['owner']}", f"--regid={settings['owner']}", "--clear-groups"]
    contenders = {
        "host": partial(work, as_owner, path, sizes),
        "virtio disk": partial(work, [VM_RUN, "--user", "root", vm], OWN_DISK, sizes),
        "virtiofs": partial(work, in_guest, IN_GUEST, sizes),
    }
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(settings["rounds"]):
        for name, once in contenders.items():
            samples[name].append(once())
    return {
        name: {step: median(sample[step] for sample in taken) for step in taken[0]} for name, taken in samples.items()
    }


# Start-up.


def started(vm: str) -> tuple[float, float]:
    """ms from the call of systemctl until vm-launch has all it needs, and until the guest is ready."""
    before = time.monotonic()
    subprocess.run(["/usr/bin/systemctl", "start", names.vm_unit(vm)], env=ENVIRONMENT, check=True)
    after = time.monotonic()
    # What systemd runs once the hypervisor's process has said that it is about to be one: its time of start.
    path = "/org/freedesktop/systemd1/unit/" + "".join(
        letter if letter.isalnum() else f"_{ord(letter):02x}" for letter in names.vm_unit(vm)
    )
    manager = "org.freedesktop.systemd1"
    command = [
        "/usr/bin/busctl",
        "--json=short",
        "get-property",
        manager,
        path,
        f"{manager}.Service",
        "ExecStartPost",
    ]
    post: list[Any] = json.loads(output(command))["data"][0]
    return (post[4] / 1e6 - before) * 1000, (after - before) * 1000


def startup(settings: Settings) -> dict[str, list[Result]]:
    """By number of shares, as text: until it could be let run, and until it was ready."""
    found: dict[str, tuple[list[float], list[float]]] = {}

    def once(vm: str) -> float:
        stop(vm)
        early, late = started(vm)
        found[vm][0].append(early)
        found[vm][1].append(late)
        stop(vm)
        return late

    vms: dict[str, str] = settings["vms"]
    found = {vm: ([], []) for vm in vms.values()}
    in_turns([Contender(vm, partial(once, vm)) for vm in vms.values()], settings["rounds"])
    return {
        number: [Result(number, tuple(sorted(times[1:]))) for times in found[vm]]  # the first one warms caches
        for number, vm in vms.items()
    }
