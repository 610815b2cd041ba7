"""Giving devices back to the host's drivers."""

import os

from vm_pci import device as devices
from vm_pci import grant, isolation
from vm_pci.device import Device
from vm_pci.place import Place, attribute, entries
from vmsilo import paths
from vmsilo.failure import EX_TEMPFAIL, Failure
from vmsilo.plan import HostPlan


def chosen(place: Place, plan: HostPlan | None, *, everything: bool) -> list[str]:
    """The addresses of the devices that are isolated though the configuration no longer says so, or of all."""
    listed = {device.address for device in plan.isolated} if plan and not everything else set()
    isolated = [device.address for device in devices.everything(place) if device.isolated]
    return [address for address in isolated if address not in listed]


def release(place: Place, address: str) -> str:
    """Let the host's drivers have the device: what became of it. Raises Failure if a VM or a program has it."""
    device = devices.get(place, address)
    if not device.isolated:
        return f"was not isolated{f', {device.driver} has it' if device.driver else ''}"
    check_unused(place, device)
    now = isolation.free(place, device)
    return f"given back to {now.driver}" if now.driver else "given back; no driver took it"


def check_unused(place: Place, device: Device) -> None:
    """Raise Failure if the device is in use: the kernel would wait for its user to let go, for however long."""
    vm = grant.holder(place, device.address)
    if vm:
        raise Failure(f"VM {vm} has {device.address}", f"stop it first: vm-stop {vm}", EX_TEMPFAIL)
    user = _opened_by(place, f"{paths.VFIO}/{device.group}") if device.group else ""
    if user:
        raise Failure(f"{user} has {device.address} open", "end it first", EX_TEMPFAIL)


def _opened_by(place: Place, node: str) -> str:
    """A process that has *node* open, "" if none has."""
    for process in entries(place.proc):
        if not process.isdigit():
            continue
        directory = f"{place.proc}/{process}/fd"
        try:
            opened = {os.readlink(f"{directory}/{name}") for name in os.listdir(directory)}
        except OSError:
            continue  # it has ended, or is not ours to look at
        if node in opened:
            return f"process {process} ({attribute(f'{place.proc}/{process}/comm')})"
    return ""
