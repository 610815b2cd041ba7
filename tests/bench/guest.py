"""What needs guests: boots the lab, lets inside.py measure there, and prints its tables."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import boot, config, images
from lab.host import CONFIG, Host
from lab.tree import USER

from bench.clock import Result
from bench.table import ms, ratio, render

HERE = Path(__file__).parent
PLACE = "/run/vmsilo-bench/bench"
HOURS = 3 * 3600.0

PEER_PACKAGES = "openssh-server,socat"


@contextmanager
def host(*, full: bool, vms: Mapping[str, str] | None = None) -> Iterator[Host]:
    """A lab with the VM ``demo``: the full Debian guest with the peers in it, or the smallest; or with other VMs."""
    name = "bench" if full else "minimal"
    image = images.build(name, "--packages", PEER_PACKAGES) if full else images.minimal()
    memory = 1024 if full else 256
    files = {
        f"{CONFIG}/host.toml": config.HOST,
    }
    for vm, text in (vms or {"demo": config.vm(name, memory=memory)}).items():
        files[f"{CONFIG}/{vm}.toml"] = text
    lab = boot.boot({name: image}, files)
    try:
        for script in ("__init__.py", "clock.py", "files.py", "inside.py", "proxy.py", "shares.py"):
            lab.write(f"{PLACE}/{script}", (HERE / script).read_bytes())
        yield lab
    finally:
        lab.close()


def ask(lab: Host, what: str, **settings: object) -> Any:
    arguments = ("python3", "-I", f"{PLACE}/inside.py", what, json.dumps({"vm": "demo", **settings}))
    process = lab.start(*arguments)
    result = process.wait(HOURS)
    if result.code:
        raise RuntimeError(f"bench {what}: {result.err.strip()}")
    return json.loads(result.out)


def results(answer: Any) -> dict[str, Result]:
    return {name: Result(name, tuple(samples)) for name, samples in answer}


def spread(result: Result) -> list[str]:
    return [ms(result.low), ms(result.median), ms(result.high)]


def run(rounds: int) -> str:
    with host(full=True) as lab:
        found = results(ask(lab, "run", rounds=rounds))
    ours = found["vm-run"].median
    rows = [[name, *spread(result), ratio(ours, result.median)] for name, result in found.items()]
    title = (
        f"Warm `vm-run demo true`: wall ms, {rounds} runs in turns, Debian guest with systemd; ssh's proxy is Python"
    )
    return render(title, ["", "least", "median", "9 of 10", "vm-run is"], rows)


def throughput(size: int, rounds: int) -> str:
    with host(full=True) as lab:
        answer = ask(lab, "throughput", size=size, rounds=rounds)
    rows = []
    for direction, found in ((direction, results(part)) for direction, part in answer.items()):
        speed = {name: size / (result.median / 1000) for name, result in found.items()}
        cells = [f"{speed[name]:.0f}" for name in ("vm-run", "ssh", "socat")]
        ratios = [ratio(speed["vm-run"], speed[name]) for name in ("ssh", "socat")]
        rows.append([direction, *cells, *ratios])
    title = f"{size} MiB through a command: MiB/s, medians of {rounds} runs in turns"
    return render(title, ["", "vm-run", "ssh", "socat", "of ssh", "of socat"], rows)


def coldstart(rounds: int) -> str:
    with host(full=False) as lab:
        found = results(ask(lab, "coldstart", rounds=rounds))
    bare, cold, warm = (found[name].median for name in ("bare", "vm-run", "warm vm-run"))
    rows = [
        ["bare hypervisor, to the ready message", *spread(found["bare"]), ""],
        ["vm-run on a stopped VM, to the first byte", *spread(found["vm-run"]), ms(cold - bare)],
        ["vm-run on a running VM, to the first byte", *spread(found["warm vm-run"]), ms(warm)],
        ["cold, less warm", "", ms(cold - warm), "", ms(cold - warm - bare)],
    ]
    title = f"Cold start: wall ms, {rounds} starts in turns, the smallest guest"
    return render(title, ["", "least", "median", "9 of 10", "on top"], rows)


def memory() -> str:
    with host(full=False) as lab:
        found = ask(lab, "memory", idle=5)
    ours = sum(size for kind, _, size in found if kind == "ours")
    rows = [[kind, str(size), command] for kind, command, size in found]
    rows.append(["ours in all", str(ours), ""])
    return render("One idle VM: PSS of its processes and of ours, in KiB", ["", "KiB", "command"], rows)


# Shared directories.

SHARED = "/srv/bench"


def shared(count: int) -> list[str]:
    """So many of them, as tables of a VM's file."""
    return [f'[sharedDirectories.s{number}]\npath = "{SHARED}/{number}"' for number in range(count)]


def shares(size: int, rounds: int, starts: int) -> str:
    numbers = (0, 1, 8)
    vms = {f"shares-{number}": config.vm("minimal", *shared(number), memory=512) for number in numbers}
    with host(full=False, vms=vms) as lab:
        lab.run("install", "-d", f"--owner={USER}", *(f"{SHARED}/{number}" for number in range(max(numbers))))
        names = {str(number): f"shares-{number}" for number in numbers}
        started = {
            number: [Result(number, tuple(samples)) for _, samples in found]
            for number, found in ask(lab, "startup", vms=names, rounds=starts).items()
        }
        counts = {"size": size, "operations": 2000, "files": 10_000}
        place = {"vm": "shares-1", "tag": "s0", "path": f"{SHARED}/0", "owner": 1000}
        times = ask(lab, "files", rounds=rounds, **counts, **place)
    return files_table(times, counts, rounds) + "\n" + starts_table(started, starts)


def files_table(times: Any, counts: dict[str, int], rounds: int) -> str:
    amounts = {
        "sequential write": (counts["size"], "MiB/s"),
        "sequential read": (counts["size"], "MiB/s"),
        "random read": (counts["operations"], "4 KiB blocks/s"),
        "random write": (counts["operations"], "4 KiB blocks/s"),
        "create": (counts["files"], "files/s"),
        "stat": (counts["files"], "files/s"),
        "remove": (counts["files"], "files/s"),
    }
    rows = []
    for step, (amount, unit) in amounts.items():
        speed = {where: amount / times[where][step] for where in ("host", "virtio disk", "virtiofs")}
        rows.append([f"{step}, {unit}", *(f"{value:.0f}" for value in speed.values())])
        rows[-1].append(ratio(speed["virtiofs"], speed["virtio disk"]))
    title = (
        f"A shared directory beside the guest's own disk and the host: medians of {rounds} runs in turns, "
        f"{counts['size']} MiB, {counts['files']} files; the host's page cache is warm, the guest's cold"
    )
    return render(title, ["", "host", "virtio disk", "virtiofs", "of disk"], rows)


def starts_table(started: dict[str, list[Result]], starts: int) -> str:
    rows = []
    base = [result.median for result in started["0"]]
    for number, (early, late) in started.items():
        each = (early.median - base[0]) / int(number) if int(number) else 0.0
        whole = (late.median - base[1]) / int(number) if int(number) else 0.0
        rows.append(
            [number, ms(early.median), ms(late.low), ms(late.median), ms(late.high), f"{each:.1f}", f"{whole:.1f}"]
        )
    title = f"Start of a VM with shares, the smallest guest: ms, {starts} starts in turns"
    return render(
        title, ["shares", "to hypervisor", "ready, least", "median", "9 of 10", "each", "each, ready"], rows
    )
