"""pyroute2's way of putting netlink messages together and apart, without the rest of pyroute2.

``import pyroute2`` loads its data base, its DHCP and its nftables, at five times the cost of its coding of messages,
which is one module of it and needs none of them. So the package stands here as an empty one, whose modules are found
where they are installed. What a message consists of is declared here: pyroute2's own declarations of an
interface cover every kind there is, and cost as much again.
"""

import sys
from importlib.machinery import PathFinder
from types import ModuleType

from vmsilo.failure import EX_UNAVAILABLE, Failure

# Where distributions have Python's packages; the interpreter starts without them (-S), which takes it half the time.
PACKAGES = (
    f"{sys.base_prefix}/lib/python3/dist-packages",
    f"{sys.base_prefix}/lib/python3.{sys.version_info[1]}/site-packages",
)


def _find() -> None:
    """Let modules of pyroute2 be imported. Raises Failure."""
    if "pyroute2" in sys.modules:
        return
    spec = PathFinder.find_spec("pyroute2", [*sys.path, *PACKAGES])
    if spec is None or spec.submodule_search_locations is None:
        raise Failure("there is no pyroute2 for Python", "install python3-pyroute2", EX_UNAVAILABLE)
    package = ModuleType("pyroute2")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["pyroute2"] = package


_find()

from pyroute2.netlink import nla, nlmsg  # noqa: E402 (found only now)

_LINK_FIELDS = (
    ("family", "B"),
    ("__align", "x"),
    ("ifi_type", "H"),
    ("index", "i"),
    ("flags", "I"),
    ("change", "I"),
)
_LINK_ATTRIBUTES = (
    (1, "IFLA_ADDRESS", "l2addr"),
    (3, "IFLA_IFNAME", "asciiz"),
    (10, "IFLA_MASTER", "uint32"),
    (18, "IFLA_LINKINFO", "info"),
    (20, "IFLA_IFALIAS", "asciiz"),
    (27, "IFLA_GROUP", "uint32"),
    (29, "IFLA_EXT_MASK", "uint32"),
)


class LinkMessage(nlmsg):  # type: ignore[misc]
    """struct ifinfomsg (rtnetlink(7)) and those attributes of an interface that we read or write."""

    fields = _LINK_FIELDS
    nla_map = _LINK_ATTRIBUTES

    class info(nla):  # type: ignore[misc]  # noqa: N801 (the attribute's type, by name)
        nla_map = ((1, "IFLA_INFO_KIND", "asciiz"), (2, "IFLA_INFO_DATA", "tun"))

        class tun(nla):  # type: ignore[misc]  # noqa: N801
            nla_map = (
                (1, "IFLA_TUN_OWNER", "uint32"),
                (3, "IFLA_TUN_TYPE", "uint8"),
                (6, "IFLA_TUN_PERSIST", "uint8"),
                (7, "IFLA_TUN_MULTI_QUEUE", "uint8"),
            )


class BridgeMessage(nlmsg):  # type: ignore[misc]
    """The same for a bridge that is to be made. It is no heir: one would inherit what pyroute2 makes of the map."""

    fields = _LINK_FIELDS
    nla_map = _LINK_ATTRIBUTES

    class info(nla):  # type: ignore[misc]  # noqa: N801
        nla_map = ((1, "IFLA_INFO_KIND", "asciiz"), (2, "IFLA_INFO_DATA", "bridge"))

        class bridge(nla):  # type: ignore[misc]  # noqa: N801
            nla_map = ((5, "IFLA_BR_STP_STATE", "uint32"), (23, "IFLA_BR_MCAST_SNOOPING", "uint8"))


class AddressMessage(nlmsg):  # type: ignore[misc]
    """struct ifaddrmsg and its attributes."""

    fields = (("family", "B"), ("prefixlen", "B"), ("flags", "B"), ("scope", "B"), ("index", "I"))
    nla_map = (
        (1, "IFA_ADDRESS", "ipaddr"),
        (2, "IFA_LOCAL", "ipaddr"),
        (8, "IFA_FLAGS", "uint32"),
    )
