"""The generator, beside the bare interpreter and podman's quadlet.

Both generators read from and write to memory, each into a directory that is empty when it starts, as systemd does it.
Quadlet gets one .container file for each unit file that we write, since it makes one unit of each.
"""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from project import ROOT

from bench.clock import Contender, Result, in_turns, spawn
from bench.table import ms, ratio, render

PYTHON = "/usr/bin/python3"
COUNTS = (0, 1, 10, 100, 1000)

# A VM as people have them: some lines differ from the defaults, most do not.
VM = """\
# the VM for work number {number}
hypervisor = "qemu"
image = "debian"
memory = {memory}
cpus = 4
kernelParams = ["quiet", "systemd.show_status=no"]
dependsOn = [{needs}]
autoStart = false
startTimeout = 90

[rootOverlay]
type = "raw"
size = "20G"

[qemu]
logLevel = "info"
"""

CONTAINER = """\
[Unit]
Description=container {number}
After=network-online.target

[Container]
Image=quay.io/fedora/fedora:latest
Exec=sleep infinity
Environment=NUMBER={number}
Volume=/srv/{number}:/data

[Install]
WantedBy=multi-user.target
"""


class Installed(NamedTuple):
    """`make install` into a directory of its own, with compiled modules, as users have it."""

    generator: str


def install(where: Path) -> Installed:
    variables = {"prefix": where / "usr", "sysconfdir": where / "etc", "python": PYTHON}
    settings = [f"{name}={value}" for name, value in variables.items()]
    subprocess.run(["make", "-s", "-C", str(ROOT), "install", *settings], check=True, stdout=subprocess.DEVNULL)
    return Installed(str(where / "usr/lib/systemd/system-generators/vmsilo-generator"))


def write_vms(directory: Path, count: int, user: str) -> None:
    directory.mkdir(parents=True)
    if not count:
        return
    (directory / "host.toml").write_text(f'user = "{user}"\n')
    for number in range(count):
        needs = f'"vm-{number - 1}"' if number % 10 else ""
        text = VM.format(number=number, memory=1024 + number, needs=needs)
        (directory / f"vm-{number}.toml").write_text(text)


def write_containers(directory: Path, count: int) -> None:
    directory.mkdir(parents=True)
    for number in range(count):
        (directory / f"c-{number}.container").write_text(CONTAINER.format(number=number))


def fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def units_in(directory: Path) -> int:
    """Unit files, not the links that enable them."""
    suffixes = (".service", ".socket", ".slice", ".target")
    return sum(path.is_file() and not path.is_symlink() and path.suffix in suffixes for path in directory.rglob("*"))


class Case(NamedTuple):
    vms: int
    units: int
    results: list[Result]


def measure(installed: Installed, scratch: Path, vms: int, rounds: int, user: str, rival: str | None) -> Case:
    """One row: *vms* VMs, and as many containers as they have unit files."""
    config, containers, output = (fresh(scratch / name) for name in ("vmsilo.d", "containers", "output"))
    config.rmdir()
    containers.rmdir()
    write_vms(config, vms, user)
    ours = {"PATH": "/usr/sbin:/usr/bin", "VMSILO_CONFIG_DIRS": str(config)}
    theirs = {"PATH": "/usr/sbin:/usr/bin", "QUADLET_UNIT_DIRS": str(containers)}

    def run_ours() -> float:
        places = [str(fresh(output / name)) for name in ("normal", "early", "late")]
        return spawn([installed.generator, *places], ours)

    run_ours()
    units = units_in(output)
    write_containers(containers, units)
    contenders = [
        Contender("python", lambda: spawn([PYTHON, "-I", "-S", "-c", "pass"], {})),
        Contender("vmsilo", run_ours),
    ]
    if rival:

        def run_theirs() -> float:
            places = [str(fresh(output / name)) for name in ("normal", "early", "late")]
            return spawn([rival, "-no-kmsg-log", *places], theirs)

        run_theirs()
        made = units_in(output)
        if made != units:
            raise RuntimeError(f"quadlet made {made} units of {units} files")
        contenders.append(Contender("quadlet", run_theirs))
    return Case(vms, units, in_turns(contenders, rounds))


def row(case: Case) -> list[str]:
    by_name = {result.name: result.median for result in case.results}
    python, ours, theirs = by_name["python"], by_name["vmsilo"], by_name.get("quadlet", 0.0)
    cells = [str(case.vms), str(case.units), ms(python), ms(ours), ratio(ours, python)]
    return [*cells, ms(theirs) if theirs else "-", ratio(ours, theirs)]


def vms_for_units(units: int, installed: Installed, scratch: Path, user: str) -> int:
    """How many VMs have about *units* unit files."""
    few, more = (measure(installed, scratch, count, 0, user, None).units for count in (10, 20))
    each = (more - few) / 10
    return round((units - few) / each) + 10


def report(scratch: Path, rounds: int, user: str, rival: str | None) -> str:
    """The table; *rival* is quadlet's path."""
    installed = install(scratch / "tree")
    counts = sorted({*COUNTS, vms_for_units(1000, installed, scratch, user)})
    cases = [measure(installed, scratch, count, rounds, user, rival) for count in counts]
    header = ["VMs", "units", "python ms", "vmsilo ms", "of python", "quadlet ms", "of quadlet"]
    title = f"Generator: wall time, medians of {rounds} runs in turns, files in memory"
    return render(title, header, [row(case) for case in cases])
