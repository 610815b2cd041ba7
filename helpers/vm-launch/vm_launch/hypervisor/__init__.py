"""Hypervisors, each a module of its own.

Each says how it is started (a pure function of the plan and what only start time knows), how its guest is let
run, how the power button is pressed, and what its exit status means. Nothing outside asks which one it is,
beyond the few constants of Traits.
"""

import _socket
from collections.abc import Callable
from typing import NamedTuple

from vmsilo.failure import EX_CONFIG, Failure
from vmsilo.plan import Nic as PlannedNic
from vmsilo.plan import Plan, Setting

SHARE_QUEUE = 1024  # requests that may be on their way to a virtiofsd


class Drive(NamedTuple):
    """A block device of the guest."""

    serial: str  # the guest finds it under this name; at most 20 bytes
    path: str
    descriptor: int  # of the same, inheritable, and locked
    format: str  # raw | qcow2
    device: bool  # *path* is a block device, not a file
    readonly: bool
    direct: bool
    sparse: bool
    block_size: int  # bytes; 0: the hypervisor's own default
    settings: tuple[Setting, ...]
    backing: tuple[str, ...] = ()  # files beneath a qcow2 disk, where the hypervisor is confined to files by name


class Share(NamedTuple):
    """A shared directory of the guest."""

    tag: str
    socket: str  # where its virtiofsd listens
    connection: int  # descriptor of a connection to that; -1: the hypervisor makes its own


class Nic(NamedTuple):
    """A network interface of the guest."""

    id: str  # ours, see nic_id()
    mac: str
    tap: int  # descriptor


class Start(NamedTuple):
    """What only start time knows."""

    binary: str
    kernel: str
    initramfs: str
    cmdline: str
    drives: tuple[Drive, ...]
    shares: tuple[Share, ...]
    oem_strings: tuple[str, ...]  # SMBIOS type 11
    oem_files: tuple[str, ...]  # the same, each in a file, for the hypervisor that reads files
    control: int  # descriptor of the listening control socket
    kvm: bool  # usable
    vsock: int  # descriptor of the kernel's or the user-space vsock device; -1: the hypervisor sees to it
    kernel_vsock: bool
    landlock: bool  # the host's kernel has it
    vhost_user: tuple[int, ...] = ()  # connections to the backends, for the hypervisor that does not connect itself
    pci_groups: tuple[str, ...] = ()  # the IOMMU groups of the plan's PCI devices, each once
    nics: tuple[Nic, ...] = ()  # in the plan's order


class Target(NamedTuple):
    """A running hypervisor, to someone who wants to tell it something."""

    binary: str
    socket: str  # path of its control socket
    config: str  # path of the VM's configuration, for the hypervisor that takes one
    deadline: float  # of time.monotonic()
    nics: tuple[PlannedNic, ...] = ()
    taps: str = ""  # path of the socket where their TAPs are kept, for the hypervisor that takes them when it boots


class Traits(NamedTuple):
    """One hypervisor."""

    name: str
    binaries: tuple[str, ...]  # the first that is found in PATH
    needs_kvm: bool
    serves_vsock: bool  # makes the hybrid socket itself
    user_space_vsock: bool  # can use a vhost-user vsock device
    reads_oem_files: bool  # takes SMBIOS strings from files
    reads_terminal: bool  # takes console input only from a terminal
    disks_by_path: bool  # opens disks itself, and so needs the right to
    landlock: bool  # can confine itself with it
    takes_connections: bool  # to the backends of its devices
    packet_socket: bool  # its control socket is of type SOCK_SEQPACKET
    adds_nics: bool  # takes its network interfaces over its control socket, before it boots
    asks_for_mtu: bool  # of a TAP, by its name, in its own network namespace
    directories: tuple[str, ...]  # empty ones that it wants in the runtime directory
    argv: Callable[[Plan, Start], list[str]]
    config: Callable[[Plan, Start], str]  # text of the VM's configuration, "" for none
    takes_for: Callable[[bytes], str] | None  # format it guesses from a disk's first bytes; None: it does as told
    boot: Callable[[Target], None]
    ready: Callable[[Target], None]  # what it has to hear once the guest is ready
    # Threads of the virtual processors, asked over a connection to the control socket, until a time.monotonic();
    # None: it keeps them apart by itself.
    processors: Callable[[_socket.socket, float], list[int]] | None
    press_power_button: Callable[[Target], None]
    explain: Callable[[int], str]


def find(name: str) -> Traits:
    """The hypervisor called *name* in plans."""
    match name:
        case "qemu":
            from vm_launch.hypervisor import qemu

            return qemu.TRAITS
        case "cloud-hypervisor":
            from vm_launch.hypervisor import cloud_hypervisor

            return cloud_hypervisor.TRAITS
        case "crosvm":
            from vm_launch.hypervisor import crosvm

            return crosvm.TRAITS
    raise Failure(f"there is no hypervisor {name!r}", code=EX_CONFIG)


def nic_id(nic: PlannedNic) -> str:
    """What the interface is called in a hypervisor: letters, digits and dashes, the first one a letter.

    It says all that can't be changed of an interface that is there.
    """
    return f"nic-{nic.mac.replace(':', '')}-{nic.tap.encode().hex()}"


def no_config(_plan: Plan, _start: Start) -> str:
    return ""


def nothing(_target: Target) -> None:
    pass
