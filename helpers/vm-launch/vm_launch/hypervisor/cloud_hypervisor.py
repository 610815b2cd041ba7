"""cloud-hypervisor, from version 51 on.

It starts without a VM and is given one over its API, in the form its OpenAPI description calls VmConfig.
"""

import json
import os
from typing import Any, NamedTuple

from vm_launch import api, hugepages, pci
from vm_launch.hypervisor import SHARE_QUEUE, Drive, Nic, Share, Start, Target, Traits, nic_id, nothing
from vmsilo import paths
from vmsilo.failure import EX_CONFIG, Failure
from vmsilo.plan import (
    CORES_PER_THREAD,
    CORES_PER_VM,
    CORES_SHARED,
    CORES_UNGUARDED,
    PciDevice,
    Plan,
    Setting,
    VhostUser,
)

# It logs warnings and errors at least.
_VERBOSITY = {"error": [], "warn": [], "info": ["-v"], "debug": ["-vv"], "trace": ["-vvv"]}
_CORE_SCHEDULING = {CORES_SHARED: "Off", CORES_UNGUARDED: "Off", CORES_PER_VM: "Vm", CORES_PER_THREAD: "Vcpu"}
_IMAGE_TYPES = {"raw": "Raw", "qcow2": "Qcow2"}


def argv(plan: Plan, start: Start) -> list[str]:
    """The command line: how it runs, but nothing about the VM."""
    return [
        start.binary,
        *("--api-socket", f"fd={start.control}"),
        *("--seccomp", "log" if plan.seccomp_log else "true"),
        *_VERBOSITY[plan.log_level],
        *plan.extra_args,
    ]


def config(plan: Plan, start: Start) -> str:
    """The VM as JSON text."""
    return json.dumps(merge(vm_config(plan, start), plan.extra_config), indent=1, ensure_ascii=False) + "\n"


def vm_config(plan: Plan, start: Start) -> dict[str, Any]:
    # Programs that serve a device work in the guest's memory too.
    memory: dict[str, Any] = {"size": plan.memory << 20, "shared": bool(start.shares or plan.vhost_user)}
    if plan.hugepages:
        memory |= {"hugepages": True, "hugepage_size": hugepages.SIZE << 20}
    found: dict[str, Any] = {
        "payload": {"kernel": start.kernel, "initramfs": start.initramfs, "cmdline": start.cmdline},
        "cpus": {
            "boot_vcpus": plan.cpus,
            "max_vcpus": plan.cpus,
            "core_scheduling": _CORE_SCHEDULING[plan.core_scheduling],
        },
        "memory": memory,
        "disks": [_disk(drive) for drive in start.drives],
        "fs": [_share(share) for share in start.shares],
        "rng": {"src": "/dev/urandom"},
        "serial": {"mode": "Tty"},  # standard input and output, which vm-launch has prepared
        "console": {"mode": "Off"},  # else it is a second one on the same descriptors
        "vsock": {"cid": plan.cid, "socket": plan.vsock},
        "platform": {"oem_strings": list(start.oem_strings)},
        "pvpanic": True,
        "landlock_enable": plan.sandbox and start.landlock,
    }
    for device in plan.vhost_user:
        _add_vhost_user(found, device)
    if plan.pci:
        found["devices"] = [_device(device) for device in plan.pci]
    # What it forgets for itself when it confines itself to the files of its configuration.
    rules = [{"path": file, "access": "r"} for drive in start.drives for file in drive.backing]
    rules += _device_rules(plan, start)
    if rules:
        found["landlock_rules"] = rules
    return found


class _Generic(NamedTuple):
    """A device that cloud-hypervisor knows nothing about but this."""

    number: int  # of the type of device (VIRTIO 1.3, section 5)
    queues: int


_GENERIC = {
    "console": _Generic(3, 2),
    "rng": _Generic(4, 1),
    "scsi": _Generic(8, 3),
    "input": _Generic(18, 2),
    "sound": _Generic(25, 4),
    "scmi": _Generic(32, 2),
    "i2c": _Generic(34, 1),
    "gpio": _Generic(41, 2),
}
_QUEUE_SIZE = 64


_LISTS = {"net": "net", "block": "disks", "fs": "fs"}  # where a device is that it knows


def _add_vhost_user(config: dict[str, Any], device: VhostUser) -> None:
    settings = {setting.key: setting.value for setting in device.settings}
    if device.type in ("net", "block"):
        settings |= {"vhost_user": True, "vhost_socket": device.socket}
    else:
        settings["socket"] = device.socket
    found: dict[str, Any] = dict(settings)
    if device.type == "fs":
        found = {"num_queues": 1, "queue_size": 1024, **found}
    if device.type in _GENERIC:
        kind = _GENERIC[device.type]
        count, size = found.pop("num_queues", kind.queues), found.pop("queue_size", _QUEUE_SIZE)
        found |= {"device_type": kind.number, "queue_sizes": [size] * count}
    config.setdefault(_LISTS.get(device.type, "generic_vhost_user"), []).append(found)


def merge(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """*base* with *extra* over it: objects are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in extra.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def boot(target: Target) -> None:
    with open(target.config, encoding="utf-8") as file:
        api.put(target.socket, "vm.create", file.read(), target.deadline)
    if target.nics:
        from vm_launch import keeper  # it takes descriptors over its socket alone

        taps = keeper.fetch(target.taps, len(target.nics), target.deadline)
        for nic, tap in zip(target.nics, taps, strict=True):
            add_nic(target, Nic(nic_id(nic), nic.mac, tap))
    api.put(target.socket, "vm.boot", "", target.deadline)


def add_nic(target: Target, nic: Nic) -> None:
    """Give the guest a network interface, whether it runs already or not. *nic*'s descriptor is closed."""
    # One queue pair: the TAP has no more.
    described = {"id": nic.id, "mac": nic.mac, "num_queues": 2}
    try:
        api.put(target.socket, "vm.add-net", json.dumps(described), target.deadline, descriptor=nic.tap)
    finally:
        os.close(nic.tap)


def press_power_button(target: Target) -> None:
    api.put(target.socket, "vm.power-button", "", target.deadline)


def explain(status: int) -> str:
    if status == 1:
        return "cloud-hypervisor could not start or go on: see its messages"
    return f"cloud-hypervisor ended with status {status}"


def _disk(drive: Drive) -> dict[str, Any]:
    if drive.block_size:
        raise Failure(f"block-size of {drive.path}: cloud-hypervisor has no such setting", code=EX_CONFIG)
    disk: dict[str, Any] = {
        "path": drive.path,
        "readonly": drive.readonly,
        "direct": drive.direct,
        "sparse": drive.sparse,
        # Always stated: it would guess from the first bytes, and those are the guest's to write.
        "image_type": _IMAGE_TYPES[drive.format],
        "serial": drive.serial,
    }
    if drive.format == "qcow2":
        disk["backing_files"] = True  # named by the image's owner: the guest writes inside it only
    return disk


def _share(share: Share) -> dict[str, Any]:
    return {"tag": share.tag, "socket": share.socket, "num_queues": 1, "queue_size": SHARE_QUEUE}


def _device(device: PciDevice) -> dict[str, Any]:
    return {
        "path": pci.sysfs(device.address),
        **{setting.key: _json_value(setting) for setting in device.settings},
    }


def _json_value(setting: Setting) -> str | float:
    """A switch is "on" on its command line, as users know it, and true in JSON."""
    return setting.value == "on" if setting.key == "iommu" and isinstance(setting.value, str) else setting.value


def _device_rules(plan: Plan, start: Start) -> list[dict[str, str]]:
    """It takes the device's address for the group's number."""
    rules = [{"path": f"{paths.VFIO}/{group}", "access": "rw"} for group in start.pci_groups]
    return rules + [{"path": pci.sysfs(device.address), "access": "r"} for device in plan.pci]


TRAITS = Traits(
    name="cloud-hypervisor",
    binaries=("cloud-hypervisor",),
    needs_kvm=True,
    serves_vsock=True,
    user_space_vsock=False,
    reads_oem_files=False,
    reads_terminal=True,
    disks_by_path=True,
    landlock=True,
    takes_connections=False,
    packet_socket=False,
    adds_nics=True,
    asks_for_mtu=True,
    directories=(),
    argv=argv,
    config=config,
    takes_for=None,
    boot=boot,
    ready=nothing,
    processors=None,
    press_power_button=press_power_button,
    explain=explain,
)
