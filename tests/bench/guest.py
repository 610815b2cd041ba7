"""What needs guests: boots the lab, lets inside.py measure there, and prints its tables."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import boot, config, images
from lab.host import CONFIG, Host

from bench.clock import Result
from bench.table import ms, ratio, render

HERE = Path(__file__).parent
PLACE = "/run/vmsilo-bench/bench"
HOURS = 3 * 3600.0

PEER_PACKAGES = "openssh-server,socat"


@contextmanager
def host(*, full: bool) -> Iterator[Host]:
    """A lab with the VM ``demo``: the full Debian guest with the peers in it, or the smallest."""
    name = "bench" if full else "minimal"
    image = images.build(name, "--packages", PEER_PACKAGES) if full else images.minimal()
    memory = 1024 if full else 256
    files = {
        f"{CONFIG}/host.toml": config.HOST,
        f"{CONFIG}/demo.toml": config.vm(name, memory=memory),
    }
    lab = boot.boot({name: image}, files)
    try:
        for script in ("__init__.py", "clock.py", "inside.py", "proxy.py"):
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
