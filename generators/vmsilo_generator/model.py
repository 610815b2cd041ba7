"""What a checked configuration is: typed, immutable, without logic or I/O."""

from enum import StrEnum
from typing import Any, NamedTuple

from vmsilo.plan import Disk


class Hypervisor(StrEnum):
    CLOUD_HYPERVISOR = "cloud-hypervisor"
    CROSVM = "crosvm"
    QEMU = "qemu"


class Host(NamedTuple):
    """host.toml."""

    file: str
    user: str
    uid: int
    bash_integration: bool


class Vm(NamedTuple):
    """One VM's file, every option with its value or default."""

    name: str
    file: str
    hypervisor: Hypervisor
    image: str  # name of a bundle, or absolute path of its directory
    memory: int  # MiB
    cpus: int
    kernel: str | None
    initramfs: str | None
    root_disk: Disk | None
    root_disk_readonly: bool
    overlay_type: str  # raw | tmpfs
    overlay_size: int  # bytes
    kernel_params: tuple[str, ...]
    depends_on: tuple[str, ...]
    auto_start: bool
    cid: int | None  # None: derived from the name
    start_timeout: int  # seconds
    stop_timeout: int  # seconds
    # Of the hypervisor chosen; those of the two others can't be set.
    log_level: str
    extra_args: tuple[str, ...]
    extra_run_args: tuple[str, ...]
    extra_config: dict[str, Any]  # as the user wrote it: JSON for the hypervisor, not ours to type
    seccomp_log: bool
    sandbox: bool
    machine: str


class Broken(NamedTuple):
    """A VM whose file can't be used: only its refusing socket is made."""

    name: str
    file: str
    messages: tuple[str, ...]  # ready to print: place, message, quoted line and caret


class Config(NamedTuple):
    """All that was found, sorted by name."""

    host: Host | None
    vms: tuple[Vm, ...]
    broken: tuple[Broken, ...]
