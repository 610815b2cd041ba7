"""Names: VMs, their units, slices and users. Every unit name of the project is made here and nowhere else.

The name of a VM is the stem of its file. It is short because the dynamic user ``vmsilo-<vm>`` has to fit in
the 31 characters that systemd allows a user name.
"""

PREFIX = "vmsilo-"
VM_NAME_MAX = 24
VM_NAME_RULE = f"a lower-case letter, then lower-case letters, digits and dashes, at most {VM_NAME_MAX} characters"

# "host" is the file of the global options and the netvm that is the host itself; the other two are directories
# that stand where a VM of that name would keep its files (/var/lib/vmsilo/<vm>).
RESERVED_VM_NAMES = ("host", "images", "home-template")

HOST_STEM = "host"
HOST_NETVM = "host"  # as a VM's netvm, the host itself

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_TAIL = _LOWER | frozenset("0123456789-")


def is_vm_name(name: str) -> bool:
    """Whether *name* follows VM_NAME_RULE and is not reserved."""
    return (
        0 < len(name) <= VM_NAME_MAX
        and name[0] in _LOWER
        and all(character in _TAIL for character in name)
        and name not in RESERVED_VM_NAMES
    )


def user(vm: str) -> str:
    """The dynamic user that the VM's hypervisor and its backends run as."""
    return PREFIX + vm


def slice_unit(vm: str) -> str:
    """The VM's slice. A dash nests slices (systemd.slice(5)), so dashes of the name are escaped."""
    return PREFIX + vm.replace("-", "\\x2d") + ".slice"


ALL_SLICE = "vmsilo.slice"


def command_socket_unit(vm: str) -> str:
    """The socket that ``vm-run`` connects to; connecting starts the VM."""
    return f"{PREFIX}{vm}.socket"


def command_service_unit(vm: str) -> str:
    """The template that the command socket starts once per connection."""
    return f"{PREFIX}{vm}@.service"


def vm_unit(vm: str) -> str:
    """The hypervisor: active exactly while the guest is usable."""
    return f"{PREFIX}{vm}-vm.service"


def vsock_unit(vm: str) -> str:
    """The user-space vsock device, where the kernel has none."""
    return f"{PREFIX}{vm}-vsock.service"


def console_socket_unit(vm: str) -> str:
    """The socket that ``vm-shell`` connects to."""
    return f"{PREFIX}{vm}-console.socket"


def console_service_unit(vm: str) -> str:
    """The template that the console socket starts once per viewer."""
    return f"{PREFIX}{vm}-console@.service"


def share_socket_unit(vm: str, tag: str) -> str:
    """The socket between the hypervisor and the virtiofsd of a shared directory."""
    return f"{PREFIX}{vm}-virtiofs-{tag}.socket"


def share_service_unit(vm: str, tag: str) -> str:
    """The virtiofsd of a shared directory."""
    return f"{PREFIX}{vm}-virtiofs-{tag}.service"


SHARE_SERVICE_GLOB = PREFIX + "*-virtiofs-*.service"


def share_description(vm: str, tag: str, note: str = "") -> str:
    """Description= of the units of a shared directory; *note* as in vm_description()."""
    return f"Shared directory {tag} of VM {vm}" + (f": {note}" if note else "")


def share_of_description(description: str) -> tuple[str, str] | None:
    """The VM and the tag in a description made by share_description(), or None for any other text.

    The name of a unit would not tell: both names in it may hold what is between them.
    """
    head, separator, rest = description.partition(" of VM ")
    vm = rest.partition(":")[0]
    tag = head.removeprefix("Shared directory ")
    return (vm, tag) if separator and tag and tag != head and is_vm_name(vm) else None


def home_unit(vm: str) -> str:
    """Makes the directory that is the VM's home, once."""
    return f"{PREFIX}{vm}-home.service"


# The tag of the shared directory that is the guest's /home/user.
HOME_TAG = "home"

# Makes the directory that homes are in, and their template.
SHARED_UNIT = PREFIX + "shared.service"


def net_unit(vm: str) -> str:
    """What makes the host's end of the VM's network: TAPs, bridges, addresses and rules."""
    return f"{PREFIX}{vm}-net.service"


# The interface of a VM that leads to its netvm.
UPSTREAM = "upstream"

# What the host's kernel has beside an interface that we made (ifalias): ours are known by that, and by nothing else.
ALIAS_PREFIX = "vmsilo "
BRIDGE_ALIAS = ALIAS_PREFIX + "bridge"  # of a bridge that the user named


def tap_alias(vm: str, nic: str) -> str:
    """Of the TAP that is the host's end of the VM's interface *nic*."""
    return f"{ALIAS_PREFIX}{vm} {nic}"


def link_alias(netvm: str, client: str) -> str:
    """Of the bridge that connects the TAPs of two VMs."""
    return f"{ALIAS_PREFIX}{netvm} {client}"


def names_of_alias(alias: str) -> tuple[str, str] | None:
    """The two names in an alias made by tap_alias() or link_alias(), or None for any other text."""
    words = alias.split(" ")
    return (words[1], words[2]) if len(words) == 3 and words[0] == "vmsilo" and is_vm_name(words[1]) else None


def pci_unit(vm: str) -> str:
    """What hands the host's PCI devices to the VM."""
    return f"{PREFIX}{vm}-pci.service"


# Takes PCI devices from the host's drivers, early in the boot.
PCI_ISOLATION_UNIT = PREFIX + "pci-isolation.service"

VM_UNIT_GLOB = PREFIX + "*-vm.service"


def vm_of_vm_unit(unit: str) -> str | None:
    """The VM whose hypervisor *unit* is, or None for any other unit."""
    name = unit.removeprefix(PREFIX).removesuffix("-vm.service")
    return name if is_vm_name(name) and vm_unit(name) == unit else None


def vm_description(vm: str, hypervisor: str, note: str = "") -> str:
    """Description= of the VM's unit; *note* is one line of what the user should know about it."""
    return f"VM {vm} ({hypervisor})" + (f": {note}" if note else "")


def hypervisor_of_description(description: str) -> str | None:
    """The hypervisor that a description made by vm_description() names, or None for any other text."""
    head, separator, rest = description.partition(" (")
    hypervisor, closed, _ = rest.partition(")")
    known = head.startswith("VM ") and is_vm_name(head.removeprefix("VM "))
    return hypervisor if known and separator and closed and hypervisor else None


def broken_description(vm: str, message: str) -> str:
    """Description= of the socket that stands for a VM whose file can't be used; *message* is one line."""
    return f"VM {vm} is broken: {message}"


def message_of_description(description: str) -> str | None:
    """The message in a description made by broken_description(), or None for any other text."""
    head, separator, message = description.partition(" is broken: ")
    return message if separator and head.startswith("VM ") and is_vm_name(head.removeprefix("VM ")) else None


def plan_file(vm: str) -> str:
    """The file with the VM's plan, beside its units."""
    return f"{PREFIX}{vm}.plan"


def guest_network_file(vm: str) -> str:
    """The file with what a running guest is told of its network, beside the VM's plan."""
    return f"{PREFIX}{vm}.network"


HOST_PLAN_FILE = "vmsilo-host.plan"
