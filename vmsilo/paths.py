"""Paths that two parts of vmsilo share. A path that only one module uses stands in that module."""

# Launchers of the helpers that units start; `make install` writes another libexecdir here.
LIBEXEC = "/usr/libexec/vmsilo"

# What is installed for users to copy; `make install` writes another datadir here.
SHARE = "/usr/share/vmsilo"

# Which system calls the units' programs may make, see vmsilo-security(7); `make install` writes another pkgdir here.
POLICIES = "/usr/lib/vmsilo/seccomp"

# The configuration: the first directory foremost. The variable names other directories, separated by colons.
CONFIG_DIRECTORIES = ("/etc/vmsilo.d", "/run/vmsilo.d", "/usr/lib/vmsilo.d")
CONFIG_DIRECTORIES_VARIABLE = "VMSILO_CONFIG_DIRS"
CONFIG_SUFFIX = ".toml"

GENERATOR_DIR = "/run/systemd/generator"

RUN = "/run/vmsilo"
STATE = "/var/lib/vmsilo"
IMAGES = STATE + "/images"

# What a VM's home is made from at its first start, and where it then is. Both belong to the configured user.
HOME_TEMPLATE = STATE + "/home-template"
SHARED = "/shared"
INSTALLED_HOME_TEMPLATE = SHARE + "/home-template"
GUEST_HOME = "/home/user"  # in the guest


def home(vm: str) -> str:
    """The directory of the host that is the VM's /home/user, unless the configuration names another."""
    return f"{SHARED}/{vm}/home"


def command_socket(vm: str) -> str:
    return f"{RUN}/{vm}/command.socket"


def console_socket(vm: str) -> str:
    return f"{RUN}/{vm}/console.socket"


def machine_dir(vm: str) -> str:
    """What the hypervisor's unit sees of /run/vmsilo: its own directory, and that of the vsock device.

    It is nobody's runtime directory, so it is there with the first of the two and stays when the other one goes.
    """
    return f"{RUN}/{vm}/machine"


def vm_dir(vm: str) -> str:
    """Runtime directory of the hypervisor's unit."""
    return machine_dir(vm) + "/vm"


def vsock_dir(vm: str) -> str:
    """Runtime directory of the user-space vsock device's unit."""
    return machine_dir(vm) + "/vsock"


def device_vsock(vm: str) -> str:
    """The vhost-user socket between the user-space vsock device and the hypervisor."""
    return vsock_dir(vm) + "/device.socket"


def hybrid_vsock(vm: str, *, by_hypervisor: bool) -> str:
    """The Unix socket behind which the guest's vsock ports are.

    Connect, say ``CONNECT <port>\\n``, read ``OK <n>\\n``; a guest that connects to port P of the host arrives at
    the listening socket ``<path>_P``. cloud-hypervisor serves it itself (*by_hypervisor*), QEMU through
    vhost-device-vsock.
    """
    return (vm_dir(vm) if by_hypervisor else vsock_dir(vm)) + "/guest.socket"


def share_dir(vm: str, tag: str) -> str:
    """Directory of a shared directory's socket. Nobody but root can get into it."""
    return f"{RUN}/{vm}/virtiofs-{tag}"


def share_socket(vm: str, tag: str) -> str:
    """The vhost-user socket between a virtiofsd and the hypervisor."""
    return share_dir(vm, tag) + "/device.socket"


def share_note(vm: str, tag: str) -> str:
    """Which directory was found, for a virtiofsd that is root."""
    return share_dir(vm, tag) + "/directory"


def share_inside(path: str) -> str:
    """Where a virtiofsd has the directory *path*, in the room that its unit makes for it.

    Out of the way of the programs, and such that a message of there being no such directory names it.
    """
    return "/share" + path


VIRTIOFSD = "virtiofsd"
# It is no command, so each distribution has it in a place of its own. NixOS has what is set-user-id in a third.
VIRTIOFSD_DIRECTORIES = (
    "/usr/libexec",
    "/usr/lib",
    "/usr/bin",
    "/run/wrappers/bin",
    "/run/current-system/sw/bin",
)

PCI_DEVICES = "/sys/bus/pci/devices"
VFIO = "/dev/vfio"  # where hypervisors look for the nodes of VFIO
# For root alone, with a directory for each VM of what it may open of VFIO.
PCI_GRANTS = "/dev/vmsilo"


def pci_grant(vm: str) -> str:
    """The directory that the VM's hypervisor sees as VFIO: the nodes of its own devices and no others.

    A node is named by its IOMMU group, as hypervisors expect it, and once more by each device's address, which is
    known before the group is; cloud-hypervisor's rules for Landlock take the one for the other, and want it there.
    The directory is in /dev because nodes elsewhere don't work (nodev), and no unit could name them.
    """
    return f"{PCI_GRANTS}/{vm}"


# In an image bundle, see vmsilo-image(5):
BUNDLE_FORMAT = 1  # of the manifest
BUNDLE_MANIFEST = "image.toml"
BUNDLE_KERNEL = "vmlinux"
BUNDLE_INITRAMFS = "initramfs"
BUNDLE_ROOT = "rootfs.erofs"

KERNEL_VSOCK = "/dev/vhost-vsock"
TUN = "/dev/net/tun"  # where TAPs are made and opened

# In the hypervisor's runtime directory:
RUNNING_PLAN = "plan"  # the plan this VM was started from: a reload may have replaced the one beside the units
CONSOLE_INPUT = "console.in"  # FIFO: every viewer may write
CONSOLE_LOG = "console.out"  # everything the console printed since the start; QEMU derives both names from "console"
