"""A VM's firewall: the rules as the user ordered them, such that a thousand of them cost little.

Rules that follow one another and come to the same verdict may be asked in any order. So each such run becomes a few
look-ups in sets: of pairs of address and port, of addresses for the same ports, of ports for the same addresses.

Packets are judged by their other end, which is not the client: its address, and its port. That is where the client's
packets go, and where the answers to them come from.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from vmsilo.nft import name_set
from vmsilo_generator.network.facts import Firewall, FirewallRule, Ports
from vmsilo_generator.rules.text import one_of

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_NUMBERS = {"tcp": "6", "udp": "17", "icmp": "{ 1, 58 }"}  # the latter in IPv6
_Atom = tuple[str, Ports | None]  # a target, and what of it: None is any protocol


def names(firewall: Firewall) -> tuple[str, ...]:
    """The DNS names in the rules, in order, each once."""
    return tuple(dict.fromkeys([rule.target for rule in firewall.rules if is_name(rule.target)]))


def is_name(target: str) -> bool:
    """Whether the *target* of a rule is a DNS name: no top-level domain is a number (RFC 3696, section 2)."""
    return target != "*" and ":" not in target and "/" not in target and not target.rpartition(".")[2].isdigit()


def verdicts(firewall: Firewall, client: str, allow: str, deny: str, *, ipv6: bool, answers: bool) -> list[str]:
    """Rules that go to *allow* or *deny* with a packet of a flow that *client* began, or of the *answers* to it."""
    far = _FarEnd("s" if answers else "d", ipv6=ipv6)
    found = []
    for run in _runs(firewall.rules):
        goto = f" goto {allow if run[0].allow else deny}"
        found += [match + goto for match in _matches(run, client, far)]
        if any(rule.target == "*" and not rule.ports for rule in run):
            return [*found, goto.lstrip()]
    return [*found, f"goto {allow if firewall.allow else deny}"]


class _FarEnd:
    """How nft(8) calls address and port of the end that is not the client."""

    __slots__ = ("address", "address6", "ipv6", "port")

    def __init__(self, letter: str, *, ipv6: bool) -> None:
        self.address = f"ip {letter}addr"
        self.address6 = f"ip6 {letter}addr"
        self.port = f"{letter}port"
        self.ipv6 = ipv6


def _runs(rules: Iterable[FirewallRule]) -> list[list[FirewallRule]]:
    """The *rules*, those of the same verdict that follow one another together."""
    runs: list[list[FirewallRule]] = []
    for rule in rules:
        if runs and runs[-1][0].allow == rule.allow:
            runs[-1].append(rule)
        else:
            runs.append([rule])
    return runs


def _matches(run: Sequence[FirewallRule], client: str, far: _FarEnd) -> list[str]:
    """What is true of a packet that one of the rules of *run* speaks of; all packets are not among it."""
    atoms: list[_Atom] = [(rule.target, ports) for rule in run for ports in rule.ports or (None,)]
    everywhere = [ports for target, ports in atoms if target == "*" and ports is not None]
    places = [atom for atom in atoms if atom[0] != "*"]
    four = [atom for atom in places if not is_name(atom[0]) and ":" not in atom[0]]
    six = [atom for atom in places if ":" in atom[0]]
    named = [atom for atom in places if is_name(atom[0])]
    found = _of_ports(everywhere, far)
    found += _of_addresses(four, far.address, far)
    if far.ipv6:
        found += _of_addresses(six, far.address6, far)
    return found + _of_names(named, client, far)


def _of_addresses(atoms: Sequence[_Atom], address: str, far: _FarEnd) -> list[str]:
    """Matches of addresses and networks of one version of IP."""
    pairs = [atom for atom in atoms if _is_pair(atom)]
    rest = [atom for atom in atoms if not _is_pair(atom)]
    if _shared_ports(pairs):
        pairs, rest = [], list(atoms)
    found = []
    if pairs:
        elements = [f"{target} . {_NUMBERS[ports.protocol]} . {ports.first}" for target, ports in pairs if ports]
        found.append(f"{address} . meta l4proto . th {far.port} {_set(elements)}")
    by_ports = _grouped([(ports, target) for target, ports in rest])
    by_target = _grouped(rest)
    if len(by_ports) <= len(by_target):
        for ports, addresses in by_ports.items():
            found += [f"{address} {_set(addresses)}{tail}" for tail in _tails([ports], far)]
    else:
        for target, several in by_target.items():
            found += [f"{address} {target}{tail}" for tail in _tails(several, far)]
    return found


def _is_pair(atom: _Atom) -> bool:
    """Whether it is one address and one port, so that a hash finds it."""
    target, ports = atom
    return "/" not in target and ports is not None and 0 < ports.first == ports.last


def _shared_ports(pairs: Sequence[_Atom]) -> bool:
    """Whether all *pairs* are of the same port: then the set of the addresses alone is smaller and as fast."""
    return len({ports for _target, ports in pairs}) == 1


def _of_names(atoms: Sequence[_Atom], client: str, far: _FarEnd) -> list[str]:
    found = []
    for name, several in _grouped(atoms).items():
        for tail in _tails(several, far):
            found.append(f"{far.address} @{name_set(client, name, 4)}{tail}")
            if far.ipv6:
                found.append(f"{far.address6} @{name_set(client, name, 6)}{tail}")
    return found


def _of_ports(ports: Sequence[Ports], far: _FarEnd) -> list[str]:
    return [tail.lstrip() for tail in _tails(ports, far)]


def _tails(several: Sequence[Ports | None], far: _FarEnd) -> list[str]:
    """Ends of matches, one per protocol, that together mean any of *several*."""
    if None in several:
        return [""]
    found = []
    for protocol in ("tcp", "udp"):
        wanted = [ports for ports in several if ports and ports.protocol == protocol]
        if any(not ports.first for ports in wanted):
            found.append(f" meta l4proto {_NUMBERS[protocol]}")
        elif wanted:
            found.append(f" {protocol} {far.port} {_set([_range(ports) for ports in wanted])}")
    if any(ports and ports.protocol == "icmp" for ports in several):
        found.append(f" meta l4proto {_NUMBERS['icmp']}")
    return found


def _range(ports: Ports) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _set(elements: Iterable[str]) -> str:
    """The right side for any of *elements*. nft(8) itself joins those that overlap."""
    return one_of(list(dict.fromkeys(elements)))


def _grouped(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, list[_Value]]:
    """The second ones of *pairs* by the first, in order."""
    groups: dict[_Key, list[_Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
