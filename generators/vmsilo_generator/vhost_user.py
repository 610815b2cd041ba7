"""A VM's vhostUser devices: which types there are, and what they are. Loaded where a file has any."""

from vmsilo.plan import Setting, VhostUser
from vmsilo_generator.options import DEFAULTS, UNSET
from vmsilo_generator.reader import Key, Reader, Values, shown

# crosvm is handed everything as it is.
_TYPES = {
    "qemu": ("block", "fs", "gpio", "gpu", "i2c", "input", "net", "rng", "scmi", "scsi", "sound"),
    "cloud-hypervisor": ("block", "console", "fs", "gpio", "i2c", "input", "net", "rng", "scmi", "scsi", "sound"),
}

# Decided by vmsilo.
_OURS = {
    "qemu": ("driver", "chardev", "netdev", "id"),
    "cloud-hypervisor": ("vhost_user", "vhost_socket", "device_type", "queue_sizes", "id"),
}
_KEYS = ("type", "socket")


def judge(values: Values, reader: Reader) -> None:
    """Note what a hypervisor can't have."""
    chosen = values.get("hypervisor", DEFAULTS["hypervisor"])
    sockets: dict[str, int] = {}
    for index, device in enumerate(values["vhostUser"]):
        if device is UNSET:
            continue
        key: Key = ("vhostUser", index)
        if chosen in _TYPES and not reader.faulty("hypervisor"):
            _judge_device(device, key, chosen, reader)
        first = sockets.setdefault(device["socket"], index)
        if first != index:
            message = f"this is the socket of number {first + 1} of vhostUser already: each device has one of its own"
            reader.fault((*key, "socket"), message)


def _judge_device(device: Values, key: Key, chosen: str, reader: Reader) -> None:
    kind = device["type"]
    if kind == "vsock":
        reader.fault((*key, "type"), "a VM has its vsock device already: remove this one")
    elif kind not in _TYPES[chosen]:
        known = ", ".join(_TYPES[chosen])
        reader.fault((*key, "type"), f"{chosen} has no such device: expected one of {known}, found {shown(kind)}")
    elif kind == "fs" and "tag" not in device:
        reader.fault(key, "tag is missing: the name by which the guest mounts it", of_key=True)
    for name, value in device.items():
        if name in _OURS[chosen]:
            reader.fault((*key, name), "this is for vmsilo to set: remove it", of_key=True)
        elif name in ("num_queues", "queue_size") and chosen == "cloud-hypervisor":
            if type(value) is not int or not 0 < value <= 32768:
                reader.fault((*key, name), f"expected 1 to 32768, found {shown(str(value))}")


def device(values: Values) -> VhostUser:
    """The device of an item of vhostUser."""
    settings = tuple([Setting(key, value) for key, value in values.items() if key not in _KEYS])
    return VhostUser(values["type"], values["socket"], settings)
