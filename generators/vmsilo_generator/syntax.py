"""What the text of an option may look like.

Each check takes the text and returns "" when it is right, else what was expected, as the end of a sentence that
begins "expected ". Hand-written where the standard library would cost more than the rest of the start-up.
"""

from vmsilo.names import HOST_NETVM, RESERVED_VM_NAMES, VM_NAME_RULE, is_vm_name

PATH_MAX = 4095  # bytes, linux/limits.h without the NUL
NAME_MAX = 255
INTERFACE_NAME_MAX = 15  # bytes, linux/if.h without the NUL
DISK_ID_MAX = 20  # bytes of a virtio disk's serial number
TAG_MAX = 36  # bytes of a virtio-fs tag
KERNEL_COMMAND_LINE_MAX = 2047  # bytes, COMMAND_LINE_SIZE of x86 without the NUL
ARGUMENT_MAX = 131071  # bytes, MAX_ARG_STRLEN without the NUL

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_WORD = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ") | _DIGITS | frozenset("_")

# truncate(1): one letter or with "iB" counts in 1024, with "B" in 1000.
_UNITS = "KMGTPE"
_SIZE_LIMIT = 1 << 63


def has_control(text: str) -> bool:
    """Whether a character of *text* can stand in no line of a unit file: newline, NUL, escape and their like."""
    return not text.isprintable() and any(character < " " or character == "\x7f" for character in text)


def text(value: str) -> str:
    """One line."""
    return "text without control characters" if has_control(value) else ""


def name(value: str) -> str:
    """A word that can't be empty."""
    return "text that is not empty" if not value else text(value)


def argument(value: str) -> str:
    """A command line argument carries every byte but NUL."""
    if "\0" in value:
        return "text without NUL: a command line can't carry it"
    if len(value.encode()) > ARGUMENT_MAX:
        return f"at most {ARGUMENT_MAX} bytes, the most that Linux takes in one argument"
    return ""


def path(value: str) -> str:
    """An absolute path as systemd takes it."""
    if not value.startswith("/"):
        return "an absolute path, one that begins with /"
    if has_control(value):
        return "a path without control characters"
    parts = value.split("/")
    if ".." in parts or "." in parts:
        return 'a path without "." and ".."'
    if "//" in value:
        return 'a path without "//"'
    if len(value.encode()) > PATH_MAX or any(len(part.encode()) > NAME_MAX for part in parts):
        return f"a path of at most {PATH_MAX} bytes, each part of at most {NAME_MAX}"
    return ""


def home(value: str) -> str:
    """A path that a directory can be made at."""
    return path(value) or ("" if value.strip("/") else "a directory that can be made, like /srv/homes/work")


def image(value: str) -> str:
    """The name of a bundle in /var/lib/vmsilo/images, or the absolute path of one."""
    if value.startswith("/"):
        return path(value)
    if value and value[0] not in "._-" and _WORD.issuperset(value.replace("-", "").replace(".", "")):
        return "" if len(value) <= NAME_MAX else f"a name of at most {NAME_MAX} characters"
    return 'the name of an image, like "debian", or the absolute path of one'


def user(value: str) -> str:
    """A user name in the strict form of systemd (user-names(7))."""
    if value and value[0] in _LOWER | {"_"} and len(value) <= 31 and _WORD.issuperset(value.replace("-", "")):
        return ""
    return 'the name of a user, like "david"'


def vm(value: str) -> str:
    """The name of a VM."""
    return "" if is_vm_name(value) else f"the name of a VM: {VM_NAME_RULE}"


def netvm(value: str) -> str:
    """The name of a VM, or "host"."""
    return "" if value == HOST_NETVM or is_vm_name(value) else 'the name of a VM, or "host"'


def file_stem(value: str) -> str:
    """The stem of a VM's file."""
    if value in RESERVED_VM_NAMES:
        return "another name: this one is reserved"
    return "" if is_vm_name(value) else VM_NAME_RULE


def machine(value: str) -> str:
    """QEMU's -machine: the type and its properties, in whose values a comma is doubled.

    No other type has all that a guest of ours needs: PCI, ACPI for the power button, SMBIOS for its credentials.
    """
    kind, *properties = value.replace(",,", "").split(",")
    version = kind.removeprefix("pc-q35-").replace("-", "").replace(".", "")
    is_q35 = kind == "q35" or (kind.startswith("pc-q35-") and version and _WORD.issuperset(version))
    if is_q35 and all(item.find("=") > 0 for item in properties) and not has_control(value):
        return argument(value)
    return 'a machine of type q35: "q35" or a version of it, like "pc-q35-7.2", and properties, like "q35,accel=tcg"'


def kernel_parameter(value: str) -> str:
    """One parameter of the kernel's command line, which splits at spaces outside of double quotes."""
    if not value:
        return "a parameter that is not empty"
    if has_control(value):
        return "a parameter without control characters"
    if value.lstrip('"').startswith("vmsilo."):
        return "another parameter: those of vmsilo are made from other options, such as rootOverlay.type"
    outside = value.split('"')
    if len(outside) % 2 == 0:
        return "double quotes in pairs: the kernel has no way to escape one"
    if any(" " in part for part in outside[::2]):
        return "one parameter, or a value with spaces in double quotes, like 'dyndbg=\"file a.c +p\"'"
    return ""


def disk_id(value: str) -> str:
    """The serial number by which the guest finds a disk."""
    if value.startswith("vmsilo-"):
        return 'another id: those that begin with "vmsilo-" are given to disks by vmsilo'
    if 0 < len(value) <= DISK_ID_MAX and _WORD.issuperset(value.replace("-", "").replace(".", "")):
        return ""
    return f"at most {DISK_ID_MAX} letters, digits, dashes, dots and underscores"


def tag(value: str) -> str:
    """The tag of a shared directory; it becomes part of a unit's name."""
    if (
        0 < len(value) <= TAG_MAX
        and value[0] not in "-."
        and _WORD.issuperset(value.replace("-", "").replace(".", ""))
    ):
        return ""
    return f"a tag of at most {TAG_MAX} letters, digits, dashes, dots and underscores"


def interface_name(value: str) -> str:
    """The name of a network interface, in a form that every tool takes."""
    if (
        0 < len(value) <= INTERFACE_NAME_MAX
        and value[0] not in "-."
        and not _DIGITS.issuperset(value)
        and value not in ("all", "default", "lo")
        and _WORD.issuperset(value.replace("-", "").replace(".", ""))
    ):
        return ""
    return f"an interface name of at most {INTERFACE_NAME_MAX} letters, digits, dashes, dots and underscores"


def guest_interface(value: str) -> str:
    """An interface that gets its name in the guest, where no other may have it at that moment."""
    if value.startswith("eth") and _DIGITS.issuperset(value[3:]):
        return 'a name like "wan": the kernel gives interfaces such names itself, in no certain order'
    return interface_name(value)


def host_interface(value: str) -> str:
    """An interface on the host."""
    if value.startswith("vmsilo"):
        return 'another name: those that begin with "vmsilo" are of interfaces that are just being made'
    return interface_name(value)


def mac(value: str) -> str:
    """The address of one network card."""
    octets = value.split(":")
    if len(octets) != 6 or any(len(octet) != 2 or not _HEX.issuperset(octet) for octet in octets):
        return 'a MAC address, like "52:54:00:12:34:56"'
    if int(octets[0], 16) & 1:
        return "a MAC address of one card: the first byte is even"
    if set(value) <= {"0", ":"}:
        return "a MAC address that is not all zero"
    return ""


def pci(value: str) -> str:
    """A PCI device as lspci(8), sysfs or udev names it."""
    from vmsilo import pci as addresses  # only where a device is configured

    return "" if addresses.full_address(value) else addresses.EXPECTED


def usb_id(value: str) -> str:
    """A vendor or product number as lsusb(8) prints it."""
    return "" if len(value) == 4 and _HEX.issuperset(value) else 'four hexadecimal digits, like "17ef"'


def id_map(value: str) -> str:
    """virtiofsd's --uid-map: the first character separates; ours is the documented colon."""
    parts = value.split(":")
    if len(parts) == 5 and not parts[0] and not parts[4] and all(map(_is_id, parts[1:4])) and int(parts[3]) > 0:
        inside, outside, count = map(int, parts[1:4])
        if outside == 0:
            return "a map without the host's root: where the guest is to act as that, set foreignOwners = true"
        return "" if max(inside, outside) + count < _ID_END else "a map of ids below 4294967295"
    return 'a map like ":1000:1000:1:", that is ":<id in the guest>:<id on the host>:<count>:"'


_ID_END = 0xFFFF_FFFF  # the last number is no id

_TRANSLATIONS = ("guest", "host", "squash-guest", "squash-host", "forbid-guest", "map")


def translation(value: str) -> str:
    """virtiofsd's --translate-uid."""
    parts = value.split(":")
    if parts[0] not in _TRANSLATIONS:
        return "a translation that begins with " + ", ".join(_TRANSLATIONS[:-1]) + " or " + _TRANSLATIONS[-1]
    length = 3 if parts[0] == "forbid-guest" else 4
    if len(parts) == length and all(map(_is_id, parts[1:])):
        return ""
    return f'"{parts[0]}" with ' + ("<source>:<count>" if length == 3 else "<source>:<target>:<count>") + " behind it"


def _is_id(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 10 and int(value) < _ID_END


def is_ipv4(value: str) -> bool:
    """Dotted decimal, without leading zeros (some read those as octal)."""
    parts = value.split(".")
    return len(parts) == 4 and all(map(_is_octet, parts))


def _is_octet(value: str) -> bool:
    return 0 < len(value) <= 3 and _DIGITS.issuperset(value) and int(value) < 256 and str(int(value)) == value


def is_ipv6(value: str) -> bool:
    """RFC 4291, section 2.2, without a zone."""
    if value.count("::") > 1 or ":::" in value:
        return False
    left, gap, right = value.partition("::")
    groups = (left.split(":") if left else []) + (right.split(":") if right else [])
    room = 8
    if groups and "." in groups[-1]:
        if not is_ipv4(groups.pop()) or (gap and not right):
            return False
        room = 6
    if not all(0 < len(group) <= 4 and _HEX.issuperset(group) for group in groups):
        return False
    return len(groups) < room if gap else len(groups) == room


def _split_prefix(value: str, most: int) -> tuple[str, int]:
    """The address and the length of ``address/length``; ("", 0) where it isn't one."""
    address, _slash, length = value.partition("/")
    if 0 < len(length) <= 3 and _DIGITS.issuperset(length) and str(int(length)) == length and int(length) <= most:
        return address, int(length)
    return "", 0


def ipv4_number(value: str) -> int:
    """An IPv4 address as a number."""
    first, second, third, fourth = map(int, value.split("."))
    return first << 24 | second << 16 | third << 8 | fourth


def ipv4_text(number: int) -> str:
    """The number as an IPv4 address."""
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def ipv4_network(value: str) -> str:
    """A network: nothing may be set behind the prefix."""
    address, length = _split_prefix(value, 32)
    if not is_ipv4(address):
        return 'an IPv4 network, like "10.200.0.0/16"'
    start = ipv4_number(address) >> (32 - length) << (32 - length)
    return "" if start == ipv4_number(address) else f'the first address of the network: "{ipv4_text(start)}/{length}"'


def ipv4_pool(value: str) -> str:
    """A network that /31 networks can be taken from."""
    fault = ipv4_network(value) or _of_hosts(value)
    if fault:
        return fault
    return "" if int(value.rpartition("/")[2]) <= 30 else "a network with room for two links: a prefix of at most /30"


def ipv4_link(value: str) -> str:
    """A /31: the even address and its neighbour."""
    address, length = _split_prefix(value, 32)
    if not is_ipv4(address) or length != 31:
        return 'an IPv4 network of two addresses, like "10.200.5.2/31"'
    return ipv4_network(value) or _of_hosts(value)


def _of_hosts(value: str) -> str:
    return ipv4_address(value.partition("/")[0]) and "a network of hosts, like those in 10.0.0.0/8"


def ipv6_pool(value: str) -> str:
    """A network that leaves room for an IPv4 address, or nothing."""
    fault = ipv6_network(value) if value else ""
    if fault or not value:
        return fault
    if int(value.rpartition("/")[2]) > 96:
        return "a network with room for an IPv4 address: a prefix of at most /96"
    from ipaddress import IPv6Network  # only where one is configured

    network = IPv6Network(value)
    hosts = any(network.subnet_of(IPv6Network(unicast)) for unicast in ("fc00::/7", "2000::/3"))
    return "" if hosts else "a network of hosts, one in fc00::/7 or 2000::/3"


def ipv6_network(value: str) -> str:
    """A network: nothing may be set behind the prefix."""
    address, length = _split_prefix(value, 128)
    if not is_ipv6(address):
        return 'an IPv6 network, like "fd00::/64"'
    from ipaddress import IPv6Address, IPv6Network  # only where one is configured

    start = IPv6Network(value, strict=False).network_address
    return "" if start == IPv6Address(address) else f'the first address of the network: "{start}/{length}"'


def ipv4_interface(value: str) -> str:
    """An address of a host, with the length of its network."""
    address, length = _split_prefix(value, 32)
    if not is_ipv4(address):
        return 'an IPv4 address with its prefix, like "10.0.0.254/24"'
    if fault := ipv4_address(address):
        return fault
    rest = (1 << (32 - length)) - 1
    if length < 31 and ipv4_number(address) & rest in (0, rest):
        return "an address of a host: the first and the last one of a network are not"
    return ""


def ipv6_interface(value: str) -> str:
    """The same for IPv6, where the last one of a network is like any other."""
    address, length = _split_prefix(value, 128)
    if not is_ipv6(address):
        return 'an IPv6 address with its prefix, like "fd00::2/64"'
    if fault := ipv6_address(address):
        return fault
    if length < 127 and not ipv6_network(value):
        return "an address of a host: the first one of a network is not"
    return ""


def ipv4_address(value: str) -> str:
    """The address of a host, alone."""
    if not is_ipv4(value):
        return 'an IPv4 address, like "10.0.0.1"'
    first = int(value.partition(".")[0])
    return "the address of one host" if first in (0, 127) or first >= 224 else ""


def ipv6_address(value: str) -> str:
    """The address of a host, alone."""
    if not is_ipv6(value):
        return 'an IPv6 address, like "fd00::1"'
    from ipaddress import IPv6Address  # only where one is configured

    address = IPv6Address(value)
    one = not (address.is_multicast or address.is_unspecified or address.is_loopback or address.ipv4_mapped)
    return "" if one else "the address of one host"


def nameserver(value: str) -> str:
    """An address of either kind; it may well be one of the VM itself."""
    if value == "::1" or (is_ipv4(value) and value.startswith("127.")):
        return ""
    if is_ipv4(value):
        return ipv4_address(value)
    return ipv6_address(value) if is_ipv6(value) else 'an IP address, like "9.9.9.9"'


def ipv4_destination(value: str) -> str:
    """Where a route leads."""
    return "" if value == "default" else ipv4_network(value)


def ipv6_destination(value: str) -> str:
    """Where a route leads."""
    return "" if value == "default" else ipv6_network(value)


def firewall_target(value: str) -> str:
    """Where a rule of a firewall leads to."""
    from vmsilo_generator.network import firewall  # only where one is configured

    return firewall.target_fault(value)


def firewall_ports(value: str) -> str:
    """What of a protocol a rule of a firewall is about."""
    from vmsilo_generator.network import firewall  # only where one is configured

    return firewall.ports_fault(value)


def size_bytes(value: str) -> int | None:
    """The number of bytes that truncate(1) would understand, or None."""
    digits = value.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = value[len(digits) :]
    if not digits or len(digits) > 19 or not _DIGITS.issuperset(digits):
        return None
    number = int(digits)
    if unit:
        power = _UNITS.find(unit[0].upper()) + 1
        if power == 0 or unit[1:] not in ("", "B", "iB"):
            return None
        number *= (1000 if unit[1:] == "B" else 1024) ** power
    return number if number < _SIZE_LIMIT else None


def size(value: str) -> str:
    """An amount of bytes."""
    return "" if size_bytes(value) is not None else 'a size, like "10G", "512M" or "1500MB"'


_DURATION_UNITS = ("ms", "s", "m", "h")


def duration(value: str) -> str:
    """A time span."""
    digits = value.rstrip("msh")
    known = value[len(digits) :] in _DURATION_UNITS
    if known and 0 < len(digits) <= 6 and _DIGITS.issuperset(digits) and int(digits) > 0:
        return ""
    return 'a time, like "250ms" or "2s"'


def colour(value: str) -> str:
    """A colour as the window decoration takes it."""
    from vmsilo_generator import colours  # only where a colour is set

    return "" if colours.parse(value) is not None else 'a colour: a CSS name, "#rrggbb" or "rgb(r,g,b)"'
