"""The network in a VM's file: what can't be together, and what it is."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any

from vmsilo.names import UPSTREAM
from vmsilo_generator.network import firewall
from vmsilo_generator.network.facts import Interface, Network, Route
from vmsilo_generator.network.links import NICS_MAX
from vmsilo_generator.options import DEFAULTS, UNSET
from vmsilo_generator.reader import Key, Reader, Values, shown

_DESTINATIONS = {"routes": "0.0.0.0/0", "v6Routes": "::/0"}  # of "default"


def build(values: Values) -> Network:
    """The network of a file without faults, every option in it with its value or default."""

    def text(path: str) -> str:
        return "" if values[path] is UNSET else values[path]

    tables = values["network.interfaces"]
    return Network(
        netvm=text("network.netvm"),
        is_netvm=values["network.isNetvm"],
        subnet=text("network.netvmSubnet"),
        ipv6=values["network.ipv6"],
        nameservers=values["network.nameservers"],
        interfaces=() if tables is UNSET else tuple([_interface(name, table) for name, table in tables.items()]),
        firewall=firewall.build(values),
    )


def _interface(name: str, values: Values) -> Interface:
    def value(key: str) -> Any:
        default = DEFAULTS[f"network.interfaces.<name>.{key}"]
        return values.get(key, "" if default is UNSET else default)

    return Interface(
        name=name,
        mac=value("macAddress"),
        tap=value("tap.name"),
        host_address=value("tap.hostAddress"),
        bridge=value("tap.bridge"),
        dhcp=value("dhcp"),
        addresses=value("addresses"),
        routes=_routes(values, "routes"),
        addresses6=value("v6Addresses"),
        routes6=_routes(values, "v6Routes"),
        anti_spoofing=value("antiSpoofing"),
    )


def _routes(values: Values, key: str) -> tuple[Route, ...]:
    return tuple([Route(_destination(key, name), route["via"]) for name, route in values.get(key, {}).items()])


def _destination(key: str, name: str) -> str:
    return _DESTINATIONS[key] if name == "default" else name


# What can't be together.


def judge(values: Values, reader: Reader) -> None:
    """Note what is wrong between a VM's options of the network."""
    _judge_link(values, reader)
    firewall.judge(values, reader)
    interfaces = values.get("network.interfaces", {})
    for name, interface in interfaces.items():
        if interface is not UNSET:
            _judge_interface(interface, ("network", "interfaces", name), reader)
    _judge_addresses(interfaces, reader)
    _judge_twice(interfaces, reader)
    if not values.get("network.ipv6", True):
        _judge_ipv6(values, reader)
    for name in list(interfaces)[NICS_MAX:]:
        reader.fault(
            ("network", "interfaces", name), f"expected at most {NICS_MAX} interfaces: remove one", of_key=True
        )


def _judge_link(values: Values, reader: Reader) -> None:
    netvm = "network.netvm" in values or reader.faulty("network", "netvm")
    if not netvm and "network.netvmSubnet" in values:
        message = "has no effect without network.netvm: set that, or remove this"
        reader.fault(("network", "netvmSubnet"), message, of_key=True)
    if "network.netvm" in values and UPSTREAM in values.get("network.interfaces", {}):
        message = "network.netvm makes an interface of this name: choose another name, or remove network.netvm"
        reader.fault(("network", "interfaces", UPSTREAM), message, of_key=True)


def _judge_interface(interface: Values, key: Key, reader: Reader) -> None:
    if "tap.hostAddress" in interface and "tap.bridge" in interface:
        message = "not together with tap.hostAddress: a TAP in a bridge has no address of its own; remove one"
        reader.fault((*key, "tap", "bridge"), message, of_key=True)
    for addresses, routes in (("addresses", "routes"), ("v6Addresses", "v6Routes")):
        own = [ip_interface(text) for text in interface.get(addresses, ())]
        seen = set()
        for name, route in interface.get(routes, {}).items():
            destination = _destination(routes, name)
            if destination in seen:
                reader.fault(
                    (*key, routes, name), f"there is a route to {destination} already: remove one", of_key=True
                )
            seen.add(destination)
            if fault := _gateway_fault(route["via"], own, interface):
                reader.fault((*key, routes, name, "via"), fault)


def _gateway_fault(via: str, own: list[IPv4Interface | IPv6Interface], interface: Values) -> str:
    """What is wrong with a gateway for one who has these addresses; "" if nothing is."""
    gateway = ip_address(via)
    if any(gateway == address.ip for address in own):
        return "this is the interface's own address: expected that of a gateway"
    learns = interface.get("dhcp", False) or (isinstance(gateway, IPv6Address) and gateway.is_link_local)
    if learns or any(gateway in address.network for address in own):
        return ""
    if not own:
        kind = "an IPv6" if isinstance(gateway, IPv6Address) else "an IPv4"
        return f"the interface has no address to reach it from: expected {kind} one in the same network"
    return f"no address of the interface reaches it: expected a gateway in {own[0].network}"


def _judge_addresses(interfaces: Values, reader: Reader) -> None:
    """Note addresses that are there twice."""
    seen: dict[IPv4Address | IPv6Address, Key] = {}
    for text, key in _addresses(interfaces):
        address = ip_interface(text).ip
        first = seen.setdefault(address, key)
        if first is not key:
            whose = f"the host on interface {first[2]}" if first[3] == "tap" else f"interface {first[2]}"
            reader.fault(key, f"{address} is the address of {whose} already: expected another one")


def _addresses(interfaces: Values) -> Iterator[tuple[str, Key]]:
    for name, interface in interfaces.items():
        if interface is UNSET:
            continue
        key: Key = ("network", "interfaces", name)
        for option in ("addresses", "v6Addresses"):
            for index, text in enumerate(interface.get(option, ())):
                yield text, (*key, option, index)
        if "tap.hostAddress" in interface:
            yield interface["tap.hostAddress"], (*key, "tap", "hostAddress")


def _judge_twice(interfaces: Values, reader: Reader) -> None:
    """Note what only one interface can have."""
    for option in ("macAddress", "tap.name"):
        seen: dict[str, str] = {}
        for name, interface in interfaces.items():
            if interface is UNSET or option not in interface:
                continue
            first = seen.setdefault(interface[option].lower() if option == "macAddress" else interface[option], name)
            if first != name:
                message = f"interface {first} has {shown(interface[option])} already: expected another one"
                reader.fault(("network", "interfaces", name, *option.split(".")), message)


def _judge_ipv6(values: Values, reader: Reader) -> None:
    message = "not together with network.ipv6 = false: remove one of the two"
    for name, interface in values.get("network.interfaces", {}).items():
        for option in ("v6Addresses", "v6Routes"):
            if interface is not UNSET and interface.get(option):
                reader.fault(("network", "interfaces", name, option), message, of_key=True)
    for index, address in enumerate(values.get("network.nameservers", ())):
        if ":" in address:
            reader.fault(("network", "nameservers", index), message)
