"""QEMU, an x86-64 PC of type q35 with PCI devices only.

Options and QMP commands are those of qemu(1) and of QEMU's QMP reference; all are known to QEMU 7.2 and later.
"""

import _socket
import json

from vm_launch.hypervisor import SHARE_QUEUE, Drive, Nic, Share, Start, Target, Traits, no_config
from vm_launch.qmp import Monitor
from vmsilo.failure import EX_CONFIG, Failure
from vmsilo.plan import PciDevice, Plan, VhostUser

# Without these the board has devices that no guest of ours needs and every guest could attack. The user's own
# properties follow, so they win.
_PC_PROPERTIES = ("sata=off", "smbus=off", "hpet=off", "vmport=off")

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

# QEMU has no log levels, only things it can log (-d help): messages of its own always go to standard error.
_LOG_ITEMS = {
    "error": "",
    "warn": "",
    "info": "",
    "debug": "guest_errors,unimp",
    "trace": "guest_errors,unimp,cpu_reset,trace:virtio_set_status,trace:vhost_dev_start,trace:pci_cfg_write",
}


def argv(plan: Plan, start: Start) -> list[str]:
    """The command line. The guest waits: nothing of it has run when QEMU is ready for commands."""
    kind, accelerator, properties = read_machine(plan.machine, kvm=start.kvm)
    line = [
        start.binary,
        *("-name", f"guest={escape(plan.vm)},debug-threads=on"),
        *("-nodefaults", "-no-user-config", "-S"),
        *("-display", "none", "-nic", "none"),
        *("-machine", ",".join([kind, *_board(kind), *properties, "memory-backend=mem0"])),
        *("-accel", accelerator),
        *("-cpu", "host" if accelerator == "kvm" else "max"),
        *("-smp", f"cpus={plan.cpus}"),
        *("-m", f"size={plan.memory}M"),
        # Shared, since user-space devices such as vsock work in this memory too.
        *("-object", _json(qom_type="memory-backend-memfd", id="mem0", size=plan.memory << 20, share=True)),
        *("-chardev", f"socket,id=qmp,fd={start.control},server=on,wait=off"),
        *("-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"pipe,id=console,path={escape(plan.run_dir)}/console"),
        *("-serial", "chardev:console"),
        *("-kernel", start.kernel),
        *("-initrd", start.initramfs),
        *("-append", start.cmdline),
    ]
    for path in start.oem_files:
        line += ["-smbios", f"type=11,path={escape(path)}"]
    for index, drive in enumerate(start.drives):
        line += _drive(f"disk{index}", drive)
    for index, share in enumerate(start.shares):
        line += _share(f"share{index}", share)
    line += ["-object", _json(qom_type="rng-builtin", id="rng0")]
    line += ["-device", _json(driver="virtio-rng-pci", rng="rng0")]
    line += _vsock(plan, start)
    for number, (device, connection) in enumerate(zip(plan.vhost_user, start.vhost_user, strict=True)):
        line += _vhost_user(f"vhost{number}", device, connection)
    for nic in start.nics:
        line += _nic(nic)
    line += _pci(plan.pci)
    # A guest that panics ends QEMU with status 1, so the unit fails instead of standing there dead. One that resets
    # while it boots would do it for ever; see ready().
    line += ["-device", _json(driver="pvpanic-pci"), "-action", "panic=exit-failure,reboot=shutdown"]
    if not plan.seccomp_log:
        line += ["-sandbox", _SANDBOX]
    if _LOG_ITEMS[plan.log_level]:
        line += ["-d", _LOG_ITEMS[plan.log_level]]
    return line + list(plan.extra_args)


def read_machine(machine: str, *, kvm: bool) -> tuple[str, str, list[str]]:
    """Type, accelerator and remaining properties of the -machine value *machine*.

    The accelerator is the first that *machine* names and that is usable, or the best usable one. Raises Failure if
    none is, or if the machine has no SMBIOS to carry credentials.
    """
    kind, *properties = _split(machine)
    if kind == "microvm":
        raise Failure("qemu.machine: a microvm has no SMBIOS, which carries the guest's credentials", code=EX_CONFIG)
    wanted = [word for item in properties if item.startswith("accel=") for word in item[6:].split(":")]
    for accelerator in wanted or ["kvm", "tcg"]:
        if accelerator != "kvm" or kvm:
            return kind, accelerator, [item for item in properties if not item.startswith("accel=")]
    raise Failure("qemu.machine asks for KVM alone, and /dev/kvm can't be used", "drop accel=kvm", EX_CONFIG)


def escape(value: str) -> str:
    """*value* inside a QEMU option, where a comma would start the next property."""
    return value.replace(",", ",,")


def boot(target: Target) -> None:
    with Monitor(target.socket, target.deadline) as monitor:
        monitor.execute("cont")


def ready(target: Target) -> None:
    """From here on a reset is the guest's wish to reboot."""
    with Monitor(target.socket, target.deadline) as monitor:
        monitor.execute("set-action", reboot="reset")


def processors(connection: _socket.socket, deadline: float) -> list[int]:
    """The thread of each virtual processor."""
    with Monitor.over(connection, deadline) as monitor:
        found = monitor.execute("query-cpus-fast")
    named = [cpu.get("thread-id") for cpu in found if isinstance(cpu, dict)] if isinstance(found, list) else []
    threads = [thread for thread in named if isinstance(thread, int) and thread > 0]
    if not threads or len(threads) < len(named):
        raise Failure("QEMU does not name the threads of its virtual processors")
    return threads


def press_power_button(target: Target) -> None:
    with Monitor(target.socket, target.deadline) as monitor:
        monitor.execute("system_powerdown")


def explain(status: int) -> str:
    if status == 1:
        return "the guest panicked, or QEMU could not start or go on: see its messages"
    return f"QEMU ended with status {status}"


def _split(value: str) -> list[str]:
    """The properties of a QEMU option, still escaped."""
    return [item.replace("\0", ",,") for item in value.replace(",,", "\0").split(",")]


def _board(kind: str) -> tuple[str, ...]:
    return _PC_PROPERTIES if kind == "q35" or kind.startswith("pc-q35-") else ()


def _drive(node: str, drive: Drive) -> list[str]:
    blockdev = {
        "driver": drive.format,
        "node-name": node,
        "read-only": drive.readonly,
        "discard": "unmap" if drive.sparse else "ignore",
        "cache": {"direct": drive.direct},
        "file": {
            "driver": "host_device" if drive.device else "file",
            "filename": f"/dev/fdset/{drive.descriptor}",
            "read-only": drive.readonly,
            "discard": "unmap" if drive.sparse else "ignore",
            "cache": {"direct": drive.direct},
        },
    }
    device = {"driver": "virtio-blk-pci", "drive": node, "serial": drive.serial, "discard": drive.sparse}
    # The guest hears of an error and goes on. Without this, a host without room would stop it, and nobody is there to
    # let it go on.
    device |= {"werror": "report", "rerror": "report"}
    if drive.block_size:
        device |= {"logical_block_size": drive.block_size, "physical_block_size": drive.block_size}
    passed = ["-add-fd", f"fd={drive.descriptor},set={drive.descriptor}"]
    return [*passed, "-blockdev", json.dumps(blockdev), "-device", json.dumps(device)]


def _share(name: str, share: Share) -> list[str]:
    device = {"driver": "vhost-user-fs-pci", "chardev": name, "tag": share.tag, "queue-size": SHARE_QUEUE}
    return ["-chardev", f"socket,id={name},fd={share.connection}", "-device", json.dumps(device)]


def _vsock(plan: Plan, start: Start) -> list[str]:
    if start.kernel_vsock:
        device = {"driver": "vhost-vsock-pci", "guest-cid": plan.cid, "vhostfd": str(start.vsock)}
        return ["-device", json.dumps(device)]
    # The device was given the context id when it was started.
    return [
        *("-chardev", f"socket,id=vsock,fd={start.vsock}"),
        *("-device", _json(driver="vhost-user-vsock-pci", chardev="vsock")),
    ]


def _nic(nic: Nic) -> list[str]:
    # Not by the kernel's vhost-net: its code would work on what the guest writes.
    netdev = {"type": "tap", "id": _netdev(nic.id), "fd": str(nic.tap), "vhost": False}
    return ["-netdev", json.dumps(netdev), "-device", json.dumps(_card(nic))]


def _netdev(nic_id: str) -> str:
    """The host's side of the interface, which is a thing of its own."""
    return nic_id + ".tap"


def _card(nic: Nic) -> dict[str, object]:
    # Without the program to boot from it.
    return {"driver": "virtio-net-pci", "id": nic.id, "netdev": _netdev(nic.id), "mac": nic.mac, "romfile": ""}


# Of the types in vmsilo.toml(5); a net device is one of QEMU's own with its queues elsewhere.
_VHOST_USER = {
    "block": "vhost-user-blk-pci",
    "fs": "vhost-user-fs-pci",
    "gpio": "vhost-user-gpio-pci",
    "gpu": "vhost-user-gpu-pci",
    "i2c": "vhost-user-i2c-pci",
    "input": "vhost-user-input-pci",
    "rng": "vhost-user-rng-pci",
    "scmi": "vhost-user-scmi-pci",
    "scsi": "vhost-user-scsi-pci",
    "sound": "vhost-user-snd-pci",
}


def _vhost_user(name: str, device: VhostUser, connection: int) -> list[str]:
    settings = {setting.key: setting.value for setting in device.settings}
    line = ["-chardev", f"socket,id={name},fd={connection}"]
    if device.type != "net":
        return [*line, "-device", json.dumps({"driver": _VHOST_USER[device.type], "chardev": name, **settings})]
    netdev = {"type": "vhost-user", "id": f"{name}n", "chardev": name, "queues": settings.pop("queues", 1)}
    card = {"driver": "virtio-net-pci", "netdev": f"{name}n", "romfile": "", **settings}
    return [*line, "-netdev", json.dumps(netdev), "-device", json.dumps(card)]


def _pci(devices: tuple[PciDevice, ...]) -> list[str]:
    """Each device behind a port of its own; functions of one device stay together, as their drivers may expect."""
    slots: dict[str, list[PciDevice]] = {}
    for device in sorted(devices):
        slots.setdefault(device.address.rpartition(".")[0], []).append(device)
    line = []
    for number, functions in enumerate(slots.values(), 1):
        port = f"pci{number}"
        line += ["-device", _json(driver="pcie-root-port", id=port, chassis=number, hotplug=False)]
        for function, device in enumerate(functions):
            properties: dict[str, object] = {"driver": "vfio-pci", "host": device.address, "bus": port}
            # From 0 on, whatever they were: without that one nobody looks for the others.
            properties |= {"addr": f"0.{function}", "multifunction": function == 0 and len(functions) > 1}
            properties |= {setting.key: setting.value for setting in device.settings}
            line += ["-device", json.dumps(properties)]
    return line


def _json(**properties: object) -> str:
    """Properties in QEMU's JSON form, which needs no escaping. (``qom_type`` stands for ``qom-type``.)"""
    return json.dumps({key.replace("_", "-"): value for key, value in properties.items()})


TRAITS = Traits(
    name="qemu",
    binaries=("qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
    needs_kvm=False,
    serves_vsock=False,
    user_space_vsock=True,
    reads_oem_files=True,
    reads_terminal=False,
    disks_by_path=False,
    landlock=False,
    takes_connections=True,
    packet_socket=False,
    adds_nics=False,
    asks_for_mtu=False,
    directories=(),
    argv=argv,
    config=no_config,
    takes_for=None,
    boot=boot,
    ready=ready,
    processors=processors,
    press_power_button=press_power_button,
    explain=explain,
)
