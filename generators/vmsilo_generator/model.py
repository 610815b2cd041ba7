"""What a checked configuration is: typed, immutable, without logic or I/O."""

from enum import StrEnum
from typing import Any, NamedTuple

from vmsilo.plan import Disk, PciDevice, VhostUser
from vmsilo_generator.policies import Policies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmsilo_generator.network.facts import Network  # few VMs have one


class Hypervisor(StrEnum):
    CLOUD_HYPERVISOR = "cloud-hypervisor"
    CROSVM = "crosvm"
    QEMU = "qemu"


class Host(NamedTuple):
    """host.toml."""

    file: str
    user: str
    uid: int
    gid: int
    bash_integration: bool
    scheduler_isolation: str  # off | vm | full
    isolated: tuple[str, ...]  # full addresses of PCI devices
    netvm_range: str  # an IPv4 network: where links have their addresses from
    netvm_range6: str  # an IPv6 network; "" = no link has any


class Home(NamedTuple):
    """The directory of the host that is the guest's /home/user."""

    path: str
    ours: bool  # in the directory of all homes: what it is in is made where it is missing


class Share(NamedTuple):
    """A directory of the host that the guest sees, every option with its value or default."""

    tag: str
    path: str
    mount_path: str  # in the guest; "" = it does not mount it by itself
    readonly: bool
    thread_pool_size: int
    xattr: bool
    posix_acl: bool
    inode_file_handles: str  # never | prefer | mandatory
    cache: str  # auto | always | never | metadata
    allow_mmap: bool
    readdirplus: bool
    writeback: bool
    allow_direct_io: bool
    log_level: str
    killpriv_v2: bool
    uid_map: str  # "" = none, as the next three
    gid_map: str
    translate_uid: str
    translate_gid: str
    preserve_noatime: bool
    foreign_owners: bool


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
    disks: tuple[Disk, ...]  # beside the root
    vhost_user: tuple[VhostUser, ...]
    hugepages: bool
    overlay_type: str  # raw | tmpfs
    overlay_size: int  # bytes
    home: Home | None
    shares: tuple[Share, ...]  # sorted by tag; the home is one of them
    share_seccomp_log: bool  # of all of them
    share_sandbox: bool
    pci: tuple[PciDevice, ...]
    network: "Network | None"
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


# Of one file. Nobody reads more, and to look for them all would hold up the boot.
PROBLEMS_MAX = 100


class Facts(NamedTuple):
    """What units depend on of the host itself."""

    kvm_group: bool = True  # whether there is the group that /dev/kvm belongs to
    private_pids: bool = True  # whether systemd has PrivatePIDs=; one that has not complains of it at each reload
    policies: Policies = Policies({})


class Problem(NamedTuple):
    """One thing that is wrong in one file.

    Who finds it knows file, key and message; problems.locate() adds the place and the quoted line.
    """

    file: str
    key: tuple[str | int, ...]  # such as ("usbDevices", 0, "serial"); () is the file as a whole
    message: str  # what is wrong and what would be right, lower case, no full stop
    of_key: bool = False  # the caret stands under the key, not under its value
    line: int = 0  # from 1; 0: not located, or a file that isn't there
    column: int = 0  # from 1, in characters
    quote: str = ""  # the line


class Broken(NamedTuple):
    """A VM whose file can't be used: only its refusing socket is made."""

    name: str
    file: str
    messages: tuple[str, ...]  # ready to print, of several lines each: place and message, quoted line, caret


class Config(NamedTuple):
    """All that was found, sorted by name."""

    host: Host | None  # None: host.toml is missing or can't be used, and then every VM is broken
    vms: tuple[Vm, ...]
    broken: tuple[Broken, ...]
    problems: tuple[Problem, ...] = ()  # of all files, located and sorted
