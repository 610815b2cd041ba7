"""Every option there is. The reader, the checks and the manual page are driven by this table and nothing else.

A path is written as in the documentation: ``gpu.backend``; ``network.interfaces.<name>.dhcp`` where the user
chooses a key; ``usbDevices[].serial`` for the tables of a list.
"""

# A default stands in its column, a truth value like any other.
# ruff: noqa: FBT003

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from vmsilo.ports import CID_END, CID_FIRST
from vmsilo_generator import syntax


class Scope(Enum):
    """The file an option stands in."""

    HOST = "host.toml"
    VM = "a VM's file"


class Kind(Enum):
    """What a value is in TOML."""

    BOOL = "true or false"
    INT = "a whole number"
    TEXT = "text"
    CHOICE = "one of"
    TEXTS = "a list of texts"
    FREE = "a table"  # any keys: handed on as it is
    SCALAR = "text, a number, true or false"
    BOOL_OR_PATH = "true, false or a path"
    DISK = "a path or a table"
    TABLES = "a table of tables"  # <name>: the user chooses the keys
    LIST = "a list of tables"  # []


class Status(Enum):
    """Whether setting an option does something."""

    WORKS = "works"
    PENDING = "not implemented yet"
    NIX = "NixOS only"


class Absent(Enum):
    """Stands where there is no value. None would do for a default, but not tell the two apart."""

    REQUIRED = "required"
    UNSET = "unset"


REQUIRED = Absent.REQUIRED
UNSET = Absent.UNSET

Default = bool | int | str | tuple[str, ...] | Absent
Syntax = Callable[[str], str]


class Option(NamedTuple):
    """One option."""

    scope: Scope
    path: str
    kind: Kind
    default: Default
    text: str  # documents it: one sentence or more, in the manual page's words
    choices: tuple[str, ...] = ()
    low: int = 0  # of a number; of a size in bytes
    high: int = 0
    unit: str = ""  # what a number counts
    syntax: Syntax | None = None  # of the text, of each item of a list, of each key of a table of tables
    status: Status = Status.WORKS
    until: Default = UNSET  # pending: the value that is in effect without a backend, and therefore may be set
    ours: bool = False  # not in the original system

    @property
    def key(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def unique(self) -> bool:
        """Whether an item that stands in a list twice is a mistake; arguments may repeat."""
        return self.syntax not in (syntax.argument, syntax.kernel_parameter)


LOG_LEVELS = ("error", "warn", "info", "debug", "trace")
POLICIES = ("enforcing", "log")

_HOST, _VM = Scope.HOST, Scope.VM
_PENDING, _NIX = Status.PENDING, Status.NIX

# fmt: off
OPTIONS: tuple[Option, ...] = (
    # Global.
    Option(_HOST, "user", Kind.TEXT, REQUIRED,
           "The user whose VMs these are: the only one, besides root, who may start them and run commands in them."
           " Must have an entry with a user id in /etc/passwd.", syntax=syntax.user),
    Option(_HOST, "enableBashIntegration", Kind.BOOL, True,
           "Completion of VM names and options for the vm-* commands in bash."),
    Option(_HOST, "schedulerIsolation", Kind.CHOICE, "vm",
           "Against attacks between hyperthreads: \"full\" lets a virtual CPU share a core with no other thread,"
           " \"vm\" only with threads of the same VM's hypervisor, \"off\" with any."
           " Takes effect at a VM's next start.",
           choices=("full", "vm", "off")),
    Option(_HOST, "netvmRange", Kind.TEXT, "10.200.0.0/16",
           "The network from which each link between a VM and its netvm gets its two addresses, a /31.",
           syntax=syntax.ipv4_pool),
    Option(_HOST, "netvmRange6", Kind.TEXT, "fd29:9d30:5e92::/64",
           "The network from which each of these links gets two IPv6 addresses, a /127: it begins with this, and ends"
           " with the link's IPv4 address. \"\" is none: no link has IPv6.",
           syntax=syntax.ipv6_pool, ours=True),
    Option(_HOST, "isolatedPciDevices", Kind.TEXTS, (),
           "PCI devices that the host's drivers don't get: early in the boot they are bound to vfio-pci, which keeps"
           " them for VMs. An address is written as lspci(8) shows it, like \"01:00.0\" or \"0000:01:00.0\", or as a"
           " path in /sys. See vm-pci(8).", syntax=syntax.pci),
    Option(_HOST, "gpu.allowWX", Kind.BOOL, False,
           "Let the GPU backends map memory writable and executable at once, as NVIDIA's drivers need it.",
           status=_PENDING, until=False),
    Option(_HOST, "vmsilo-balloond.logLevel", Kind.CHOICE, "info",
           "How much the memory balancer logs.", choices=LOG_LEVELS, status=_PENDING),
    Option(_HOST, "vmsilo-balloond.pollInterval", Kind.TEXT, "2s",
           "The longest time between two looks at memory, kept while there is no pressure.",
           syntax=syntax.duration, status=_PENDING),
    Option(_HOST, "vmsilo-balloond.minPollInterval", Kind.TEXT, "250ms",
           "The shortest time between two looks, kept under full pressure.",
           syntax=syntax.duration, status=_PENDING),
    Option(_HOST, "vmsilo-balloond.psiCeiling", Kind.INT, 25,
           "The memory pressure (PSI, avg10) that counts as full.",
           low=1, high=100, unit="percent", status=_PENDING),
    Option(_HOST, "vmsilo-balloond.criticalHostPercent", Kind.INT, 5,
           "The part of the host's memory that is never given to VMs.",
           low=0, high=100, unit="percent", status=_PENDING),
    Option(_HOST, "vmsilo-balloond.criticalGuestAvailable", Kind.TEXT, "256m",
           "The available memory below which nothing more is taken from a VM.",
           syntax=syntax.size, status=_PENDING),
    Option(_HOST, "vmsilo-balloond.guestAvailableBias", Kind.TEXT, "400m",
           "A cushion above that floor, which grows as more is taken from a VM.",
           syntax=syntax.size, status=_PENDING),
    Option(_HOST, "vmsilo-balloond.extraArgs", Kind.TEXTS, (),
           "More arguments for the memory balancer.", syntax=syntax.argument, status=_PENDING, until=()),
    Option(_HOST, "enable", Kind.BOOL, False, "Switches the module on.", status=_NIX),
    Option(_HOST, "nixosVms", Kind.FREE, UNSET, "The VMs; here each has a file of its own.", status=_NIX),

    # What runs.
    Option(_VM, "hypervisor", Kind.CHOICE, "cloud-hypervisor",
           "The program that runs the VM. \"qemu\" is an addition: every distribution has it, and it also"
           " works without KVM, slowly.", choices=("cloud-hypervisor", "crosvm", "qemu")),
    Option(_VM, "image", Kind.TEXT, "debian",
           "The image bundle to boot, as vm-image(8) makes it: its name in /var/lib/vmsilo/images, or the absolute"
           " path of its directory.", syntax=syntax.image, ours=True),
    Option(_VM, "memory", Kind.INT, 1024, "Memory of the VM.", low=16, high=1 << 24, unit="MiB"),
    Option(_VM, "cpus", Kind.INT, 2, "Virtual CPUs.", low=1, high=254, unit="CPUs"),
    Option(_VM, "kernel", Kind.TEXT, UNSET, "A kernel to boot instead of the image's.", syntax=syntax.path),
    Option(_VM, "initramfs", Kind.TEXT, UNSET,
           "An initial RAM disk to boot with instead of the image's.", syntax=syntax.path),
    Option(_VM, "kernelParams", Kind.TEXTS, (),
           "Parameters for the guest's kernel, one an item, behind those of the image. A value with spaces stands in"
           " double quotes.", syntax=syntax.kernel_parameter),
    Option(_VM, "color", Kind.TEXT, "darkred",
           "The colour that marks the VM's windows: a name of CSS, \"#rrggbb\" or \"rgb(r,g,b)\".",
           syntax=syntax.colour, status=_PENDING),

    # When it runs.
    Option(_VM, "autoStart", Kind.BOOL, False,
           "Start the VM at boot; one with a GPU, when the desktop session starts."),
    Option(_VM, "dependsOn", Kind.TEXTS, (),
           "VMs that are started when this one is, and before it.", syntax=syntax.vm),
    Option(_VM, "startTimeout", Kind.INT, 120,
           "How long the guest may take to report that it is ready; after that the start has failed.",
           low=1, high=86400, unit="seconds", ours=True),
    Option(_VM, "stopTimeout", Kind.INT, 30,
           "How long the guest may take to shut down after its power button was pressed; after that it is killed.",
           low=1, high=86400, unit="seconds", ours=True),
    Option(_VM, "autoShutdown.enable", Kind.BOOL, False,
           "Shut the VM down when it has been idle.", status=_PENDING, until=False),
    Option(_VM, "autoShutdown.after", Kind.INT, 60,
           "How long it must have been idle.", low=1, high=31_536_000, unit="seconds", status=_PENDING),

    # Disks.
    Option(_VM, "rootDisk", Kind.DISK, UNSET,
           "A disk to use as the root file system instead of the image's: the path of a raw disk, or a table with the"
           " keys below."),
    Option(_VM, "rootDisk.path", Kind.TEXT, REQUIRED, "The disk: a file or a block device.", syntax=syntax.path),
    Option(_VM, "rootDisk.format", Kind.CHOICE, "raw",
           "Its format. It is never guessed, since a guest can write what would be guessed from.",
           choices=("raw", "qcow2"), ours=True),
    Option(_VM, "rootDisk.direct", Kind.BOOL, False, "Go past the host's page cache (O_DIRECT)."),
    Option(_VM, "rootDisk.sparse", Kind.BOOL, True,
           "Pass discards on, so that freed blocks are freed on the host; only with rootDiskReadonly = false."),
    Option(_VM, "rootDisk.block-size", Kind.INT, UNSET,
           "The block size that the guest sees, a power of two; unset: the hypervisor's own. Not with"
           " cloud-hypervisor, which has no such setting.", low=512, high=65536, unit="bytes"),
    Option(_VM, "rootDisk.id", Kind.TEXT, UNSET,
           "The serial number that the guest sees; unset: vmsilo-root. A guest that finds no disk of that name takes"
           " its first one for the root.", syntax=syntax.disk_id),
    Option(_VM, "rootDisk.<name>", Kind.SCALAR, UNSET,
           "Any other key is handed to crosvm, as a key of --block; with another hypervisor it is refused.",
           syntax=syntax.tag),
    Option(_VM, "rootDiskReadonly", Kind.BOOL, True,
           "Whether the root disk is read-only, with a writable layer over it that is thrown away; needs rootDisk to"
           " be false."),
    Option(_VM, "rootOverlay.type", Kind.CHOICE, "raw",
           "Where the writable layer is: \"raw\" on a disposable disk, \"tmpfs\" in the guest's memory.",
           choices=("raw", "tmpfs")),
    Option(_VM, "rootOverlay.size", Kind.TEXT, "10G",
           "The most that a disposable disk may take on the host; only with type \"raw\".",
           syntax=syntax.size, low=16 << 20, high=(1 << 63) - 1, unit="bytes"),
    Option(_VM, "additionalDisks", Kind.LIST, (),
           "More disks, which the guest sees behind those for its root, in this order."),
    Option(_VM, "additionalDisks[].path", Kind.TEXT, REQUIRED,
           "The disk: a file or a block device.", syntax=syntax.path),
    Option(_VM, "additionalDisks[].format", Kind.CHOICE, "raw",
           "Its format. It is never guessed, since a guest can write what would be guessed from.",
           choices=("raw", "qcow2"), ours=True),
    Option(_VM, "additionalDisks[].ro", Kind.BOOL, False,
           "Read-only. Several VMs may have a disk at the same time only if each of them has it read-only."),
    Option(_VM, "additionalDisks[].sparse", Kind.BOOL, True,
           "Pass discards on, so that freed blocks are freed on the host; only where ro is false."),
    Option(_VM, "additionalDisks[].block-size", Kind.INT, UNSET,
           "The block size that the guest sees, a power of two; unset: the hypervisor's own. Not with"
           " cloud-hypervisor, which has no such setting.", low=512, high=65536, unit="bytes"),
    Option(_VM, "additionalDisks[].id", Kind.TEXT, UNSET,
           "The serial number, by which the guest finds it as /dev/disk/by-id/virtio-<id>; unset: vmsilo-disk1 for"
           " the first one, and so on.", syntax=syntax.disk_id),
    Option(_VM, "additionalDisks[].direct", Kind.BOOL, False, "Go past the host's page cache (O_DIRECT)."),
    Option(_VM, "additionalDisks[].<name>", Kind.SCALAR, UNSET,
           "Any other key is handed to crosvm, as a key of --block; with another hypervisor it is refused.",
           syntax=syntax.tag),

    # Directories.
    Option(_VM, "sharedHome", Kind.BOOL_OR_PATH, True,
           "Share a directory of the host as /home/user: true is /shared/<vm>/home, a path is another directory;"
           " false is none, and what is in /home/user then goes the way of the root. A directory that is not there is"
           " made at the first start, as a copy of /var/lib/vmsilo/home-template, see vm-home(8); what a path of your"
           " own is in must be there. The tag is \"home\".",
           syntax=syntax.home),
    Option(_VM, "sharedDirectories", Kind.TABLES, UNSET,
           "Directories of the host that the guest sees; the key is the tag to mount them by. File locks hold among"
           " the programs of one guest and not beyond: against the host and other guests, make a lock file (O_EXCL).",
           syntax=syntax.tag),
    Option(_VM, "sharedDirectories.<name>.path", Kind.TEXT, REQUIRED,
           "The directory on the host. Where the guest may write, nothing may lie in it that a VM is given by its"
           " path, such as a disk or another shared directory: the guest could put a link to anywhere in its place.",
           syntax=syntax.path),
    Option(_VM, "sharedDirectories.<name>.mountPath", Kind.TEXT, UNSET,
           "Where the guest mounts it by itself.", syntax=syntax.path),
    Option(_VM, "sharedDirectories.<name>.readonly", Kind.BOOL, False, "The guest may not write."),
    Option(_VM, "sharedDirectories.<name>.threadPoolSize", Kind.INT, 0,
           "Threads of virtiofsd that serve requests; 0 is no pool.",
           low=0, high=1024, unit="threads"),
    Option(_VM, "sharedDirectories.<name>.xattr", Kind.BOOL, True, "Extended attributes."),
    Option(_VM, "sharedDirectories.<name>.posixAcl", Kind.BOOL, True,
           "POSIX access control lists; not together with translateUid or translateGid."),
    Option(_VM, "sharedDirectories.<name>.inodeFileHandles", Kind.CHOICE, "prefer",
           "Whether file handles stand for inodes, instead of open files.",
           choices=("never", "prefer", "mandatory")),
    Option(_VM, "sharedDirectories.<name>.cache", Kind.CHOICE, "auto",
           "What the guest may remember, and so for how long it misses a change on the host: \"never\" nothing;"
           " \"auto\" everything for a second, contents until a file is opened; \"metadata\" names, sizes and times"
           " for a day, contents not at all; \"always\" everything for a day. What it remembers it can"
           " also read when it was removed on the host. What is new in a directory it sees at once.",
           choices=("auto", "always", "never", "metadata")),
    Option(_VM, "sharedDirectories.<name>.allowMmap", Kind.BOOL, False,
           "Memory-mapped files even where the cache is off."),
    Option(_VM, "sharedDirectories.<name>.enableReaddirplus", Kind.BOOL, True,
           "Read attributes along with directories."),
    Option(_VM, "sharedDirectories.<name>.writeback", Kind.BOOL, False, "Let the guest delay writes."),
    Option(_VM, "sharedDirectories.<name>.allowDirectIo", Kind.BOOL, False,
           "Honour O_DIRECT of the guest's programs."),
    Option(_VM, "sharedDirectories.<name>.logLevel", Kind.CHOICE, "info",
           "How much virtiofsd logs.", choices=(*LOG_LEVELS, "off")),
    Option(_VM, "sharedDirectories.<name>.killprivV2", Kind.BOOL, True,
           "Let the guest drop set-user-id bits on writes (FUSE_HANDLE_KILLPRIV_V2)."),
    Option(_VM, "sharedDirectories.<name>.uidMap", Kind.TEXT, UNSET,
           "Map user ids by a user namespace: \":<guest>:<host>:<count>:\". Ids outside of the map are seen as 65534,"
           " and no file can be made theirs.", syntax=syntax.id_map),
    Option(_VM, "sharedDirectories.<name>.gidMap", Kind.TEXT, UNSET,
           "The same for group ids.", syntax=syntax.id_map),
    Option(_VM, "sharedDirectories.<name>.translateUid", Kind.TEXT, UNSET,
           "Translate user ids in virtiofsd: \"<type>:<source>:<target>:<count>\"; not together with posixAcl.",
           syntax=syntax.translation),
    Option(_VM, "sharedDirectories.<name>.translateGid", Kind.TEXT, UNSET,
           "The same for group ids.", syntax=syntax.translation),
    Option(_VM, "sharedDirectories.<name>.preserveNoatime", Kind.BOOL, False,
           "Keep O_NOATIME of the guest's programs."),
    Option(_VM, "sharedDirectories.<name>.foreignOwners", Kind.BOOL, False,
           "Let the guest make files of any owner, give files away, and open what your own user may not: then"
           " virtiofsd runs as root. Otherwise the guest can do no more with the directory than you.",
           ours=True),
    Option(_VM, "virtiofs.seccompPolicy", Kind.CHOICE, "enforcing",
           "What virtiofsd's filter does with a system call that isn't listed: block it, or only log it.",
           choices=POLICIES),
    Option(_VM, "virtiofs.disableSandbox", Kind.BOOL, False,
           "Run virtiofsd without its other walls, to look for a fault."),

    # Network.
    Option(_VM, "network.netvm", Kind.TEXT, UNSET,
           "The VM through which this one reaches the network, or \"host\". It is started with this one. The"
           " interface to it is called \"upstream\". See vmsilo-network(7).", syntax=syntax.netvm),
    Option(_VM, "network.isNetvm", Kind.BOOL, False,
           "Let other VMs reach the network through this one: whatever it reaches itself, but not each other. Its"
           " interface to a VM has that one's name."),
    Option(_VM, "network.netvmSubnet", Kind.TEXT, UNSET,
           "Pins the two addresses of the link to the netvm: of a network like \"10.200.5.2/31\" this VM has the"
           " first one and the netvm the second. Unset: derived from the names of both, within netvmRange.",
           syntax=syntax.ipv4_link),
    Option(_VM, "network.ipv6", Kind.BOOL, True,
           "Whether the VM has IPv6. With false, neither its link to its netvm has it, nor that of any VM that has"
           " this one for its netvm, directly or not; so for a VPN that carries IPv4 alone.", ours=True),
    Option(_VM, "network.nameservers", Kind.TEXTS, (),
           "Name servers that the VM asks. A netvm whose list is empty finds names by itself, from the root servers"
           " on; a VM whose netvm is a VM asks that one. Any other VM has no name servers but those it gets by DHCP.",
           syntax=syntax.nameserver),
    Option(_VM, "network.dns", Kind.CHOICE, "default",
           "With \"enforce\" the VM can ask no other name server than its netvm, which answers what goes to port 53"
           " elsewhere, and refuses port 853. Where the netvm is the host, that one asks those in nameservers.",
           choices=("default", "enforce"), ours=True),
    Option(_VM, "network.firewall", Kind.LIST, (),
           "What the VM may reach through its netvm, which is where the rules are kept. The first rule that speaks of"
           " a packet decides. A change is in force after a daemon-reload, and then cuts connections that are no"
           " longer allowed.", ours=True),
    Option(_VM, "network.firewall[].allow", Kind.TEXT, UNSET,
           "Where the rule lets the VM go: a name like \"example.org\", an address, a network, or \"*\". A name"
           " stands for the addresses that the VM's netvm has found for it at the VM's request, as long as they are"
           " good.",
           syntax=syntax.firewall_target, ours=True),
    Option(_VM, "network.firewall[].deny", Kind.TEXT, UNSET,
           "Where it does not let it go, instead of allow. A VM that knows a server's address otherwise gets around a"
           " name.", syntax=syntax.firewall_target, ours=True),
    Option(_VM, "network.firewall[].ports", Kind.TEXTS, UNSET,
           "What the rule is about: \"tcp/443\", \"udp/1000-2000\", \"tcp\", \"udp\" or \"icmp\". Unset: everything.",
           syntax=syntax.firewall_ports, ours=True),
    Option(_VM, "network.firewallPolicy", Kind.CHOICE, UNSET,
           "What becomes of what no rule speaks of; unset: \"deny\" where there are rules, else \"allow\".",
           choices=("allow", "deny"), ours=True),
    Option(_VM, "network.interfaces", Kind.TABLES, UNSET,
           "Network interfaces beyond that to the netvm; the key is the name that the guest sees. With those to its"
           " netvm and to VMs whose netvm it is, a VM has at most 15.",
           syntax=syntax.guest_interface),
    Option(_VM, "network.interfaces.<name>.type", Kind.CHOICE, "tap",
           "The kind of interface: a TAP of the host is its other end.", choices=("tap",)),
    Option(_VM, "network.interfaces.<name>.macAddress", Kind.TEXT, UNSET,
           "The MAC address; unset: derived from the names of VM and interface.", syntax=syntax.mac),
    Option(_VM, "network.interfaces.<name>.tap.name", Kind.TEXT, UNSET,
           "The name of the TAP interface on the host. Unset: <vm>-<number>, where the first interface in the file is"
           " number 0; a long name of a VM is cut, and gets a hash of all of it.", syntax=syntax.host_interface),
    Option(_VM, "network.interfaces.<name>.tap.hostAddress", Kind.TEXT, UNSET,
           "The host's address on it; not together with tap.bridge. With neither of the two the host has no part in"
           " the network, and whoever wants the TAP may use it.",
           syntax=syntax.ipv4_interface),
    Option(_VM, "network.interfaces.<name>.tap.bridge", Kind.TEXT, UNSET,
           "A bridge of the host that it joins, which is made where there is none; not together with"
           " tap.hostAddress.", syntax=syntax.host_interface),
    Option(_VM, "network.interfaces.<name>.dhcp", Kind.BOOL, False,
           "Ask a DHCP server, and with network.ipv6 routers as well."),
    Option(_VM, "network.interfaces.<name>.addresses", Kind.TEXTS, (),
           "IPv4 addresses with their prefixes.", syntax=syntax.ipv4_interface),
    Option(_VM, "network.interfaces.<name>.routes", Kind.TABLES, UNSET,
           "IPv4 routes; the key is the destination or \"default\".", syntax=syntax.ipv4_destination),
    Option(_VM, "network.interfaces.<name>.routes.<name>.via", Kind.TEXT, REQUIRED,
           "The gateway, in the network of one of the addresses.", syntax=syntax.ipv4_address),
    Option(_VM, "network.interfaces.<name>.v6Addresses", Kind.TEXTS, (),
           "IPv6 addresses with their prefixes.", syntax=syntax.ipv6_interface),
    Option(_VM, "network.interfaces.<name>.v6Routes", Kind.TABLES, UNSET,
           "IPv6 routes; the key is the destination or \"default\".", syntax=syntax.ipv6_destination),
    Option(_VM, "network.interfaces.<name>.v6Routes.<name>.via", Kind.TEXT, REQUIRED,
           "The gateway, in the network of one of the addresses, or link-local.", syntax=syntax.ipv6_address),
    Option(_VM, "network.interfaces.<name>.antiSpoofing", Kind.BOOL, True,
           "Drop on the host what the guest sends with another MAC address than this interface's, or another IP"
           " address than its own. What it may get by DHCP is not known before, so with dhcp, and where it has no"
           " addresses at all, only the MAC address counts. False is for a guest that is a router or a bridge by your"
           " own hand.",
           ours=True),
    Option(_VM, "vsock.cid", Kind.INT, UNSET,
           "Pins the VM's vsock context id; unset: derived from the VM's name.",
           low=CID_FIRST, high=CID_END - 1, ours=True),

    # Graphics, sound, desktop.
    Option(_VM, "gpu.wayland", Kind.BOOL, True,
           "Show the guest's Wayland windows on the host's desktop.", status=_PENDING, until=False),
    Option(_VM, "gpu.opengl", Kind.BOOL, False, "OpenGL on the host's GPU (virgl2).", status=_PENDING, until=False),
    Option(_VM, "gpu.vulkan", Kind.BOOL, False, "Vulkan on the host's GPU (venus).", status=_PENDING, until=False),
    Option(_VM, "gpu.backend", Kind.CHOICE, "vhost-device-gpu",
           "The program behind the virtual GPU.", choices=("vhost-device-gpu", "crosvm"), status=_PENDING),
    Option(_VM, "gpu.allowWX", Kind.BOOL, UNSET, "Overrides the global gpu.allowWX.", status=_PENDING, until=False),
    Option(_VM, "gpu.logLevel", Kind.CHOICE, "info",
           "How much the GPU backend logs.", choices=LOG_LEVELS, status=_PENDING),
    Option(_VM, "gpu.seccompPolicy", Kind.CHOICE, "enforcing",
           "What the GPU backend's filter does with a system call that isn't listed: block it, or only log it.",
           choices=POLICIES, status=_PENDING),
    Option(_VM, "gpu.disableSandbox", Kind.BOOL, False,
           "Run the GPU backend without its other walls, to look for a fault.", status=_PENDING, until=False),
    Option(_VM, "waylandProxy.logLevel", Kind.CHOICE, "info",
           "How much the guest's Wayland proxy logs.", choices=LOG_LEVELS, status=_PENDING),
    Option(_VM, "sound.playback", Kind.BOOL, True, "Let the guest play sound.", status=_PENDING, until=False),
    Option(_VM, "sound.capture", Kind.BOOL, False, "Let the guest hear the microphone.",
           status=_PENDING, until=False),
    Option(_VM, "sound.logLevel", Kind.TEXT, "info",
           "What the sound backend logs, as RUST_LOG takes it.", syntax=syntax.name, status=_PENDING),
    Option(_VM, "sound.seccompPolicy", Kind.CHOICE, "enforcing",
           "What the sound backend's filter does with a system call that isn't listed: block it, or only log it.",
           choices=POLICIES, status=_PENDING),
    Option(_VM, "tray.enable", Kind.BOOL, False,
           "Show the guest's tray items in the host's tray.", status=_PENDING, until=False),
    Option(_VM, "dbus.notifications", Kind.BOOL, True,
           "Show the guest's notifications on the host's desktop.", status=_PENDING, until=False),
    Option(_VM, "dbus.tray", Kind.BOOL, False,
           "Show the guest's tray items in the host's tray.", status=_PENDING, until=False),
    Option(_VM, "dbus.logLevel", Kind.CHOICE, "info",
           "How much the D-Bus proxy logs, on both sides.", choices=LOG_LEVELS, status=_PENDING),

    # Devices.
    Option(_VM, "pciDevices", Kind.LIST, (),
           "PCI devices of the host that the VM gets. Each must be in isolatedPciDevices, and in no other VM's file."
           " The other devices of its IOMMU group must be isolated, too. See vm-pci(8)."),
    Option(_VM, "pciDevices[].path", Kind.TEXT, REQUIRED,
           "The device's address, like \"01:00.0\" or \"0000:01:00.0\", or its path in /sys.", syntax=syntax.pci),
    Option(_VM, "pciDevices[].force", Kind.BOOL, False,
           "Take the device even though the host can't do without: it has a mounted file system, is the console's"
           " graphics card, or the only network card. Also lets the host isolate it.", ours=True),
    Option(_VM, "pciDevices[].<name>", Kind.SCALAR, UNSET,
           "Any other key is handed to the hypervisor along with the device. crosvm knows guest-address and iommu,"
           " among others; qemu all properties of its vfio-pci device; cloud-hypervisor iommu, id, pci_segment,"
           " pci_device_id and x_nv_gpudirect_clique.", syntax=syntax.tag),
    Option(_VM, "usbDevices", Kind.LIST, (),
           "USB devices that are attached whenever the VM runs.", status=_PENDING, until=()),
    Option(_VM, "usbDevices[].vendorId", Kind.TEXT, REQUIRED,
           "The vendor's number.", syntax=syntax.usb_id, status=_PENDING),
    Option(_VM, "usbDevices[].productId", Kind.TEXT, REQUIRED,
           "The product's number.", syntax=syntax.usb_id, status=_PENDING),
    Option(_VM, "usbDevices[].serial", Kind.TEXT, UNSET,
           "The serial number; unset: every device of that product.", syntax=syntax.name, status=_PENDING),
    Option(_VM, "vhostUser", Kind.LIST, (),
           "Devices whose backends you run yourself; each must listen when the VM starts, or five seconds later."),
    Option(_VM, "vhostUser[].type", Kind.TEXT, REQUIRED,
           "The kind of device. With qemu one of block, fs, gpio, gpu, i2c, input, net, rng, scmi, scsi and sound, as"
           " far as its version has them; with cloud-hypervisor the same, but console instead of gpu; with crosvm"
           " whatever its --vhost-user knows.", syntax=syntax.tag),
    Option(_VM, "vhostUser[].socket", Kind.TEXT, REQUIRED,
           "The backend's socket.", syntax=syntax.path),
    Option(_VM, "vhostUser[].<name>", Kind.SCALAR, UNSET,
           "Any other key is handed to the hypervisor along with the device: with qemu it is a property of the"
           " device, or for net the number of \"queues\"; with cloud-hypervisor a key of its configuration, for all"
           " types \"num_queues\" and \"queue_size\"; with crosvm a key of --vhost-user. The type fs has to have a"
           " \"tag\".",
           syntax=syntax.tag),

    # Hypervisors.
    Option(_VM, "cloud-hypervisor.logLevel", Kind.CHOICE, "info",
           "How much it logs: warnings at least, also with \"error\".", choices=LOG_LEVELS),
    Option(_VM, "cloud-hypervisor.hugepages", Kind.BOOL, False,
           "Take the VM's memory from huge pages of 2 MiB, which must have been reserved (vm.nr_hugepages): half as"
           " many as memory has MiB."),
    Option(_VM, "cloud-hypervisor.seccompPolicy", Kind.CHOICE, "enforcing",
           "What the filters, its own and its unit's, do with a system call that isn't listed: block it, or only log"
           " it.", choices=POLICIES),
    Option(_VM, "cloud-hypervisor.disableSandbox", Kind.BOOL, False,
           "Run it without Landlock and the other walls of its unit, to look for a fault. The filter stays."),
    Option(_VM, "cloud-hypervisor.extraArgs", Kind.TEXTS, (), "More arguments.", syntax=syntax.argument),
    Option(_VM, "cloud-hypervisor.extraConfig", Kind.FREE, UNSET,
           "Merged into the JSON that describes the VM to cloud-hypervisor: tables key by key, anything else replaces"
           " what was there."),
    Option(_VM, "crosvm.logLevel", Kind.CHOICE, "info", "How much it logs.", choices=LOG_LEVELS),
    Option(_VM, "crosvm.seccompPolicy", Kind.CHOICE, "enforcing",
           "What the filters, those of its devices and its unit's, do with a system call that isn't listed: block it,"
           " or only log it.", choices=POLICIES, ours=True),
    Option(_VM, "crosvm.extraArgs", Kind.TEXTS, (), "More arguments before \"run\".", syntax=syntax.argument),
    Option(_VM, "crosvm.extraRunArgs", Kind.TEXTS, (), "More arguments behind \"run\".", syntax=syntax.argument),
    Option(_VM, "qemu.machine", Kind.TEXT, "q35",
           "The machine (-machine): q35 or a version of it, like \"pc-q35-7.2\", and properties, like"
           " \"q35,accel=tcg\", which does without KVM even where it is.", syntax=syntax.machine, ours=True),
    Option(_VM, "qemu.logLevel", Kind.CHOICE, "info",
           "What it logs beyond its messages, which are always there: with \"debug\" what the guest does wrong, with"
           " \"trace\" more.", choices=LOG_LEVELS, ours=True),
    Option(_VM, "qemu.seccompPolicy", Kind.CHOICE, "enforcing",
           "What its unit's filter does with a system call that isn't listed: block it, or only log it. QEMU's own"
           " filter (-sandbox) can only block, and is off with \"log\".", choices=POLICIES, ours=True),
    Option(_VM, "qemu.disableSandbox", Kind.BOOL, False,
           "Run it without the other walls of its unit, to look for a fault. The filter stays.", ours=True),
    Option(_VM, "qemu.extraArgs", Kind.TEXTS, (), "More arguments.", syntax=syntax.argument, ours=True),

    # The guest, where Nix builds it.
    Option(_VM, "guestPrograms", Kind.FREE, (), "Packages for this VM's image.", status=_NIX),
    Option(_VM, "guestConfig", Kind.FREE, (), "NixOS configuration for this VM's image.", status=_NIX),
    Option(_VM, "copyChannel", Kind.BOOL, False, "Put the NixOS channel into this VM's image.", status=_NIX),
)
# fmt: on

HYPERVISOR_TABLES = ("cloud-hypervisor", "crosvm", "qemu")


class Node:
    """One level of the tables: an option, or a table of further nodes, or both."""

    __slots__ = ("each", "keys", "option", "required")

    def __init__(self) -> None:
        self.option: Option | None = None
        self.keys: dict[str, Node] = {}
        self.each: Node | None = None  # of <name> and []
        self.required: list[str] = []


def _tree(scope: Scope) -> Node:
    root = Node()
    for option in OPTIONS:
        if option.scope is not scope:
            continue
        node = root
        for part in option.path.replace("[]", ".<name>").split("."):
            above = node
            if part == "<name>":
                node = above.each = above.each or Node()
            else:
                node = above.keys.get(part) or above.keys.setdefault(part, Node())
        node.option = option
        if option.default is REQUIRED:
            above.required.append(part)
    return root


HOST_TREE = _tree(Scope.HOST)
VM_TREE = _tree(Scope.VM)

# Of the options that take part in building a configuration.
DEFAULTS: dict[str, Default] = {option.path: option.default for option in OPTIONS if option.scope is Scope.VM}
HOST_DEFAULTS: dict[str, Default] = {option.path: option.default for option in OPTIONS if option.scope is Scope.HOST}


def find(scope: Scope, path: str) -> Option:
    """The option of that path; KeyError where there is none."""
    for option in OPTIONS:
        if option.scope is scope and option.path == path:
            return option
    raise KeyError(path)
