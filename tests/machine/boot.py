"""Boots the machine: a PC with an IOMMU, a core of two threads, and PCI devices of several kinds."""

import os
import subprocess
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

from lab import cache
from lab.host import Failed

from machine import disks, hardware
from machine.computer import Machine
from vmsilo import paths

PATIENCE = 400.0  # seconds; a tenth of it where nothing else runs
PORTS = 4  # commands at once
MEMORY = 3072  # MiB
MESSAGES = "qemu"  # file with QEMU's own

# One thread for both processors: with one for each, QEMU runs code that the kernel is just patching, and the kernel
# dies of the breakpoint in it. It is no slower to boot.
ACCELERATOR = "tcg,thread=single,tb-size=1024"

# Not the guest image's: an IOMMU that translates for those alone who ask for it.
PARAMETERS = "intel_iommu=on iommu=pt systemd.show_status=no"


def boot(bundles: Mapping[str, Path], files: Mapping[str, str], directory: Path) -> Machine:
    """A running machine, with the image *bundles* by name and *files*, texts by absolute path.

    *directory* is for what belongs to this boot; the path must be short enough for the name of a socket.
    """
    if os.geteuid() != 0:
        raise Failed("the machine's disks are made with root's rights (VMSILO_SKIP_MACHINE=1 leaves it out)")
    made = disks.make(directory, bundles, files)
    with cache.step("booting the machine"):
        with (directory / MESSAGES).open("wb") as messages:
            emulator = subprocess.Popen(
                command(made, directory), stdin=subprocess.DEVNULL, stdout=messages, stderr=messages
            )
        machine = Machine(emulator, directory)
        try:
            _wait_running(machine)
        except BaseException:
            machine.close()
            raise
    return machine


def command(made: disks.Disks, directory: Path) -> list[str]:
    """QEMU's command line. It ends with this process."""
    image = tomllib.loads((made.kernel.parent / paths.BUNDLE_MANIFEST).read_text())
    line = [
        *("setpriv", "--pdeathsig=KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-display", "none", "-M", "q35", "-accel", ACCELERATOR, "-cpu", "max,topoext=on"),
        *("-smp", "cpus=2,cores=1,threads=2", "-m", str(MEMORY)),
        *("-device", "intel-iommu,intremap=on"),
        *("-kernel", str(made.kernel), "-initrd", str(made.initramfs)),
        *("-append", f"{image['cmdline']} {PARAMETERS}"),
        *("-serial", f"file:{directory}/console"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
    ]
    for block in made.blocks:
        line += ["-drive", f"if=virtio,format=raw,readonly=on,file={block}"]
    for index in range(PORTS):
        line += ["-chardev", f"socket,id=port{index},path={directory}/port-{index}.socket,server=on,wait=off"]
        line += ["-device", f"virtserialport,chardev=port{index},name={disks.PORT_PREFIX}{index}"]
    return [*line, *hardware.ARGUMENTS]


def _wait_running(machine: Machine) -> None:
    deadline = time.monotonic() + PATIENCE
    while not list(machine.directory.glob("port-*.socket")):
        if machine.supervisor.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"QEMU does not start the machine:\n{(machine.directory / MESSAGES).read_text()}")
        time.sleep(0.02)
    said = machine.run("systemctl", "is-system-running", "--wait", check=False, timeout=PATIENCE)
    if said.out == "running\n":
        return
    printed = machine.console.read_text(errors="replace")[-4000:]
    if said.out == "degraded\n":
        listed = machine.systemctl("list-units", "--failed", "--plain", "--no-legend").out.splitlines()
        printed = machine.journal(*(f"--unit={line.split()[0]}" for line in listed))[-6000:]
    raise Failed(f"the machine is {said.out.strip() or 'silent'}: {said.err}\n{printed}")
