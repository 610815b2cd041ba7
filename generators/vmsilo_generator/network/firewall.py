"""The firewall in a VM's file: how its rules are written, what can't be together, and what they are."""

from typing import Any

from vmsilo.names import HOST_NETVM
from vmsilo_generator import syntax
from vmsilo_generator.network.facts import Firewall, FirewallRule, Ports
from vmsilo_generator.options import UNSET
from vmsilo_generator.reader import Reader, Values
from vmsilo_generator.rules.firewall import is_name, names

ALL = "*"
PORT_MAX = 65535
DNS_NAME_MAX = 253  # characters, RFC 1035 section 2.3.4 without the root's dot
DNS_LABEL_MAX = 63

_PROTOCOLS = ("tcp", "udp", "icmp")
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_DIGITS = frozenset("0123456789")

_TARGET = 'a name like "example.org", an address, a network, or "*"'
_PORTS = '"tcp/443", "udp/1000-2000", "tcp", "udp" or "icmp"'


def target_fault(value: str) -> str:
    """What was expected instead of *value* as the target of a rule; "" if it is one."""
    if value == ALL or syntax.is_ipv4(value) or syntax.is_ipv6(value):
        return ""
    if "/" in value:
        return (syntax.ipv6_network if ":" in value else syntax.ipv4_network)(value)
    if _is_name(value.lower()):
        return ""
    if value.endswith(".") and _is_name(value[:-1].lower()):
        return f'a name without the dot at its end: "{value[:-1]}"'
    if value.startswith("*.") and _is_name(value[2:].lower()):
        return f'one name, like "{value[2:]}": a rule for each that is needed'
    if not value.isascii():
        try:
            name = value.encode("idna").decode()
        except ValueError:
            return _TARGET
        return f'a name as it is in DNS: "{name}"' if _is_name(name.lower()) else _TARGET
    return _TARGET


def _is_name(value: str) -> bool:
    """A DNS name. One whose last part is a number would be an address, if a wrong one."""
    labels = value.split(".")
    return (
        len(value) <= DNS_NAME_MAX
        and not _DIGITS.issuperset(labels[-1])
        and all(0 < len(label) <= DNS_LABEL_MAX and _LABEL.issuperset(label) for label in labels)
        and not any(label.startswith("-") or label.endswith("-") for label in labels)
    )


def ports_fault(value: str) -> str:
    """What was expected instead of *value* as an item of a rule's ports; "" if it is one."""
    protocol, slash, numbers = value.partition("/")
    if protocol in _PROTOCOLS and not slash:
        return ""
    if not slash and all(map(_DIGITS.issuperset, value.split("-", 1))) and value:
        return f'a protocol before the port: "tcp/{value}" or "udp/{value}"'
    if protocol.lower() in _PROTOCOLS and protocol != protocol.lower():
        return f'the protocol in lower case: "{value.lower()}"'
    if protocol == "icmp":
        return '"icmp" alone: it has no ports'
    if protocol not in _PROTOCOLS:
        return _PORTS
    first, dash, last = numbers.partition("-")
    if not (_is_port(first) and (not dash or _is_port(last))):
        return f"a port from 1 to {PORT_MAX}, or two with a dash between them, behind {protocol}/"
    if dash and int(first) > int(last):
        return f'the lower port first: "{protocol}/{last}-{first}"'
    return ""


def _is_port(value: str) -> bool:
    return 0 < len(value) <= 5 and _DIGITS.issuperset(value) and 0 < int(value) <= PORT_MAX


def ports(value: str) -> Ports:
    """The ports of an item without a fault."""
    protocol, _slash, numbers = value.partition("/")
    first, _dash, last = numbers.partition("-")
    return Ports(protocol, int(first or 0), int(last or first or 0))


def asks_netvm(firewall: Firewall) -> bool:
    """Whether the VM is to ask its netvm for names: it may ask nobody else, or a rule waits for the answer."""
    return firewall.enforce_dns or bool(names(firewall))


def build(values: Values) -> Firewall:
    """The firewall of a file without faults, every option in it with its value or default."""
    rules = tuple([_rule(rule) for rule in values["network.firewall"]])
    policy = values["network.firewallPolicy"]
    return Firewall(
        rules=rules,
        allow=not rules if policy is UNSET else policy == "allow",
        enforce_dns=values["network.dns"] == "enforce",
    )


def _rule(rule: Values) -> FirewallRule:
    allow = "allow" in rule
    target: str = rule["allow"] if allow else rule["deny"]
    return FirewallRule(allow, target.lower(), tuple(map(ports, rule.get("ports", ()))))


# What can't be together.

_OF_NETVM = ("network.firewall", "network.firewallPolicy")


def judge(values: Values, reader: Reader) -> None:
    """Note what is wrong between the rules of a VM, and between them and its other options of the network."""
    netvm = values.get("network.netvm")
    if netvm is None and not reader.faulty("network", "netvm"):
        _judge_without_netvm(values, reader)
    rules: tuple[Any, ...] = values.get("network.firewall", ())
    for index, rule in enumerate(rules):
        if rule is not UNSET:
            _judge_rule(rule, index, reader)
    _judge_order(rules, reader)
    if netvm is not None:
        _judge_resolver(netvm, values, reader)
    if not values.get("network.ipv6", True):
        for index, rule in enumerate(rules):
            if rule is not UNSET and ":" in _target(rule):
                key = ("network", "firewall", index, "allow" if "allow" in rule else "deny")
                reader.fault(key, "has no effect with network.ipv6 = false: remove it")


def _judge_without_netvm(values: Values, reader: Reader) -> None:
    for path in _OF_NETVM:
        if values.get(path):
            message = "has no effect without network.netvm, which keeps the rules: set that, or remove this"
            reader.fault(tuple(path.split(".")), message, of_key=True)
    if values.get("network.dns") == "enforce":
        reader.fault(("network", "dns"), "needs a netvm to enforce it: set network.netvm, or remove this")


def _judge_rule(rule: Values, index: int, reader: Reader) -> None:
    key = ("network", "firewall", index)
    if "allow" in rule and "deny" in rule:
        reader.fault((*key, "deny"), "not together with allow: make it a rule of its own", of_key=True)
    elif not rule.keys() & {"allow", "deny"}:
        reader.fault(key, f"expected allow or deny, with {_TARGET}")
    if rule.get("ports") == ():
        reader.fault((*key, "ports"), f"expected at least one of {_PORTS}; a rule without ports is for everything")


def _target(rule: Values) -> str:
    target: str = rule["allow"] if "allow" in rule else rule.get("deny", "")
    return target.lower()


def _judge_order(rules: tuple[Any, ...], reader: Reader) -> None:
    """Note rules that another one leaves nothing to do."""
    seen: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, rule in enumerate(rules):
        if rule is UNSET or not _target(rule):
            continue
        what = _target(rule), tuple(sorted(rule.get("ports", ())))
        first = seen.get((ALL, ()), seen.setdefault(what, index))
        if first != index:
            message = f"has no effect behind rule {first + 1}, which decides all of this before: remove one"
            reader.fault(("network", "firewall", index, "allow" if "allow" in rule else "deny"), message)


def _judge_resolver(netvm: str, values: Values, reader: Reader) -> None:
    """Note DNS that would have to go through the netvm, but can't."""
    reasons = ['network.dns = "enforce"'] if values.get("network.dns") == "enforce" else []
    rules = values.get("network.firewall", ())
    reasons += [f'a rule for "{_target(rule)}"' for rule in rules if rule is not UNSET and _names(rule)]
    if not reasons or reader.faulty("network", "nameservers"):
        return
    nameservers = ("network", "nameservers")
    if netvm == HOST_NETVM and not values.get("network.nameservers"):
        message = (
            f'{reasons[0]} with the host as netvm needs network.nameservers, which the host asks: like ["9.9.9.9"]'
        )
        key = ("network", "dns") if values.get("network.dns") == "enforce" else ("network", "firewall")
        reader.fault(key, message, of_key=True)
    elif netvm != HOST_NETVM and values.get("network.nameservers"):
        message = f"not together with {reasons[0]}: the VM asks its netvm then; remove one of the two"
        reader.fault(nameservers, message, of_key=True)


def _names(rule: Values) -> bool:
    return bool(_target(rule)) and is_name(_target(rule))
