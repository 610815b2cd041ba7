"""The plan: everything that is decided about one VM, in the form the helpers read.

The generator writes it beside the VM's units; nothing in it is left to compute but what only start time knows
(which devices the host has, the overlay's file, what the image bundle says).
"""

import json
from typing import Any, NamedTuple

VERSION = 3


# Who may run on a core's other hyperthread while the VM runs on one of them. The values are schedulerIsolation's.
CORES_SHARED = "off"  # anybody
CORES_PER_VM = "vm"  # the VM's own threads
CORES_PER_THREAD = "full"  # nobody
CORES_UNGUARDED = "missing"  # of a running VM: anybody, since this kernel can't do better


class Setting(NamedTuple):
    """A key that the user wrote for the hypervisor, handed on as it is."""

    key: str
    value: str | int | float | bool


class Disk(NamedTuple):
    """One block device."""

    path: str
    format: str = "raw"  # raw | qcow2; always stated, never guessed from content that a guest can write
    readonly: bool = False
    direct: bool = False
    sparse: bool = False  # pass discards on to the file
    block_size: int = 0  # bytes; 0: the hypervisor's own default
    id: str = ""
    settings: tuple[Setting, ...] = ()  # further ones, for the hypervisor that takes them


class Share(NamedTuple):
    """A directory of the host that the guest mounts by virtiofs."""

    tag: str
    socket: str  # where its virtiofsd listens (vhost-user)


class VhostUser(NamedTuple):
    """A device whose backend the user runs."""

    type: str
    socket: str
    settings: tuple[Setting, ...]


class PciDevice(NamedTuple):
    """A PCI device of the host that the guest gets."""

    address: str  # domain:bus:device.function, all of it, in lower case
    settings: tuple[Setting, ...]
    force: bool = False  # also if the host can't do without it


class Nic(NamedTuple):
    """A network interface of the guest, and the TAP of the host that is its other end."""

    name: str  # that the guest sees
    mac: str  # of the guest's end
    tap: str
    bridge: str  # of the host, that the TAP is a port of; "" = none
    addresses: tuple[str, ...]  # of the host's end, with their prefix lengths; only without a bridge
    peer: str  # who is at the other end of a link to or of a netvm: a VM or "host"; "" = not such a link


class Network(NamedTuple):
    """What the VM reaches of the network, and by what."""

    nics: tuple[Nic, ...]
    rules: str  # for nft(8): makes the VM's tables on the host anew, in one transaction; "" = it has none
    tables: tuple[str, ...]  # those tables, each with its family: "inet vmsilo-banking"
    forward: tuple[int, ...]  # the versions of IP that the host forwards for it: 4, 6
    netvm: bool = False  # other VMs may come to be its clients while it runs


class Overlay(NamedTuple):
    """The writable layer over a read-only root."""

    type: str  # raw: a disposable disk; tmpfs: guest memory; none: the root itself is writable
    size: int  # bytes, for raw


# The credentials that say what a guest's network is begin with one of these.
GUEST_NETWORK = ("network.", "vmsilo.")


class Credential(NamedTuple):
    """A system credential of the guest, see systemd.system-credentials(7)."""

    name: str
    value: str


class Plan(NamedTuple):
    """One VM."""

    vm: str
    hypervisor: str  # qemu | cloud-hypervisor | crosvm
    image: str  # the bundle's directory
    kernel: str  # "" = the bundle's
    initramfs: str  # "" = the bundle's
    root: Disk | None  # None = the bundle's rootfs.erofs, read-only
    overlay: Overlay
    disks: tuple[Disk, ...]  # beside the root
    shares: tuple[Share, ...]
    vhost_user: tuple[VhostUser, ...]
    pci: tuple[PciDevice, ...]
    network: Network
    kernel_params: tuple[str, ...]
    memory: int  # MiB
    hugepages: bool
    cpus: int
    core_scheduling: str  # CORES_...
    cid: int
    vsock: str  # path of the hybrid socket; "" = only the kernel's vsock (crosvm)
    credentials: tuple[Credential, ...]
    log_level: str
    extra_args: tuple[str, ...]
    extra_run_args: tuple[str, ...]
    extra_config: dict[str, Any]  # cloud-hypervisor: merged into the VM's JSON as it is
    seccomp_log: bool  # log instead of block
    sandbox: bool
    machine: str  # QEMU's -machine type
    start_timeout: int  # seconds
    stop_timeout: int  # seconds
    run_dir: str


class IsolatedDevice(NamedTuple):
    """A PCI device that the host's drivers don't get."""

    address: str
    force: bool  # also if the host can't do without it


class HostPlan(NamedTuple):
    """What concerns all VMs."""

    user: str
    bash_integration: bool
    isolated: tuple[IsolatedDevice, ...]


# On one line: with indentation json falls back to an encoder in Python, which takes four times as long.
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


def dumps(plan: Plan | HostPlan) -> str:
    """The plan as JSON text, the same bytes for the same plan."""
    return _encode({"version": VERSION, **_plain(plan)}) + "\n"


def guest_network(plan: Plan) -> str:
    """What the guest is told of its network, as JSON text: those of its credentials that may change while it runs.

    "" if there are none.
    """
    known = {one.name: one.value for one in plan.credentials if one.name.startswith(GUEST_NETWORK)}
    return _encode(known) + "\n" if known else ""


def _plain(value: Any) -> Any:
    """*value* with a dictionary in place of each named tuple, since JSON would make a list of it."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {key: _plain(item) for key, item in value._asdict().items()}
        return [_plain(item) for item in value]
    return value


def loads(text: str) -> Plan:
    """Read what dumps() wrote.

    Raises ValueError for a plan of another version: units of one installation, helpers of another.
    """
    fields = _fields(text)
    fields["root"] = _disk(fields["root"]) if fields["root"] else None
    fields["overlay"] = Overlay(**fields["overlay"])
    fields["disks"] = tuple(_disk(item) for item in fields["disks"])
    fields["shares"] = tuple(Share(**item) for item in fields["shares"])
    fields["vhost_user"] = tuple(VhostUser(**_with_settings(item)) for item in fields["vhost_user"])
    fields["pci"] = tuple(PciDevice(**_with_settings(item)) for item in fields["pci"])
    fields["network"] = _network(fields["network"])
    fields["credentials"] = tuple(Credential(**item) for item in fields["credentials"])
    for key in ("kernel_params", "extra_args", "extra_run_args"):
        fields[key] = tuple(fields[key])
    return Plan(**fields)


def loads_host(text: str) -> HostPlan:
    """Read what dumps() wrote of a host's plan. Raises ValueError for one of another version."""
    fields = _fields(text)
    fields["isolated"] = tuple(IsolatedDevice(**item) for item in fields["isolated"])
    return HostPlan(**fields)


def _fields(text: str) -> dict[str, Any]:
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("version", None) != VERSION:
        raise ValueError(f"not a plan of version {VERSION}: run systemctl daemon-reload")
    return fields


def _disk(item: dict[str, Any]) -> Disk:
    return Disk(**_with_settings(item))


def _network(item: dict[str, Any]) -> Network:
    nics = tuple(Nic(**{**nic, "addresses": tuple(nic["addresses"])}) for nic in item["nics"])
    return Network(nics, item["rules"], tuple(item["tables"]), tuple(item["forward"]), item["netvm"])


def _with_settings(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "settings": tuple(Setting(**setting) for setting in item["settings"])}
