"""The kernel's interfaces that are ours, told by their aliases: there is no other record of them."""

from typing import Any, NamedTuple

from vm_net import tool
from vmsilo import names

_TAP = "tun"  # what the kernel calls the kind, which TAPs share with TUNs
_BRIDGE = "bridge"


class Traffic(NamedTuple):
    """What went one way."""

    bytes: int
    packets: int
    errors: int
    dropped: int  # by the kernel, for want of room or because a rule of the netdev family said so


class Tap(NamedTuple):
    """A TAP, and what it is a port of."""

    vm: str
    interface: str  # its name in the guest
    tap: str
    state: str  # up | no carrier (nobody has it open) | down
    mtu: int
    addresses: tuple[str, ...]  # of the host's end, with their prefix lengths
    bridge: str  # "" = none
    peer: str  # the VM at the other end of the pair's bridge; "host" where the host has an address here; "" = neither
    serves: bool  # this end is the netvm's
    sent: Traffic  # by the guest
    received: Traffic


def taps() -> list[Tap]:
    """All of our TAPs, in the order in which they were made."""
    return of_json(tool.parsed("ip", "-json", "-statistics", "-details", "address", "show"))


def of_json(links: list[dict[str, Any]]) -> list[Tap]:
    """Of what ``ip -json`` printed."""
    pairs = {link["ifname"]: pair for link in links if _kind(link) == _BRIDGE and (pair := _names(link))}
    return [_tap(link, *ours, pairs) for link in links if _kind(link) == _TAP and (ours := _names(link))]


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _names(link: dict[str, Any]) -> tuple[str, str] | None:
    """Of a TAP, VM and interface; of a pair's bridge, netvm and client; None if it is not ours."""
    return names.names_of_alias(str(link.get("ifalias", "")))


def _tap(link: dict[str, Any], vm: str, interface: str, pairs: dict[str, tuple[str, str]]) -> Tap:
    addresses = tuple(f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"] if item["scope"] != "link")
    bridge = str(link.get("master", ""))
    netvm, client = pairs.get(bridge, ("", ""))
    other = {netvm: client, client: netvm}.get(vm, "")
    # The kernel's names are the host's: what the guest sends is what the TAP receives.
    statistics = link["stats64"]
    return Tap(
        vm=vm,
        interface=interface,
        tap=link["ifname"],
        state=_state(link["flags"]),
        mtu=link["mtu"],
        addresses=addresses,
        bridge=bridge,
        peer=other or ("host" if addresses else ""),
        serves=netvm == vm,
        sent=_traffic(statistics["rx"]),
        received=_traffic(statistics["tx"]),
    )


def _state(flags: list[str]) -> str:
    if "UP" not in flags:
        return "down"
    return "no carrier" if "NO-CARRIER" in flags else "up"


def _traffic(counted: dict[str, int]) -> Traffic:
    return Traffic(*(counted[field] for field in Traffic._fields))
