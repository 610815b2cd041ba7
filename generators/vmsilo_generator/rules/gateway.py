"""What a netvm does with its clients' packets: passes them on in its own name, to nobody but the outside.

The same on the host, where a client's table is its own (netvm = "host"), and in a guest, where one table is for all
its clients. A client is known by the interface that it is behind, and packets from there have no source but the
client's address.

A flow that a client began is judged once, by its firewall, and marked with the generation of the firewall, a number
that comes from the rules' text. What has the mark of the present one passes, in both directions; what has not is
judged anew. So a change of the rules ends flows that they no longer allow, and an address that leaves the set of a
name ends none.
"""

from collections.abc import Sequence
from typing import NamedTuple

from vmsilo.names import HOST_NETVM
from vmsilo.nft import GENERATION_MASK, GUEST_TABLE, INTERFACE_GROUP, host_table, name_set
from vmsilo_generator.network.facts import Link
from vmsilo_generator.rules import firewall
from vmsilo_generator.rules.text import chain, dropped, one_of, quoted, table, verdicts

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12
except ImportError:
    from _sha256 import sha256  # type: ignore[import-not-found]

# Of addresses per name and version of IP. A name server that gives more would fill the kernel's memory.
_NAME_SET_SIZE = 4096

_DNS = "meta l4proto { 6, 17 } th dport 53"
_DNS_PORTS_OF_TLS = "meta l4proto {{ 6, 17 }} th {}port 853"  # and of QUIC (RFC 9250)

# A path may have a smaller MTU than the link, and who is at its other end may never hear of it.
_CLAMP = "tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu"

_UNTRACKED = dropped("ct state { invalid, untracked }", "not of a flow")


class Names(NamedTuple):
    """A DNS name of a client's firewall, and the sets that its addresses belong in."""

    name: str
    set4: str
    set6: str  # "" = the link has no IPv6


def on_host(link: Link) -> str:
    """The script that makes the client's table on the host, whose client it is."""
    return _script(host_table(link.client), (link,), on_host=True)


def in_guest(links: Sequence[Link]) -> str:
    """The script that makes the table in a netvm of the clients in *links*."""
    return _script(GUEST_TABLE, links, on_host=False)


def answers_names(link: Link) -> bool:
    """Whether the netvm itself answers the client's questions to name servers, at its end of the link."""
    return link.netvm != HOST_NETVM or link.firewall.enforce_dns or bool(firewall.names(link.firewall))


def names(link: Link) -> tuple[Names, ...]:
    """The names in the client's firewall."""
    ipv6 = bool(link.client_address6)
    return tuple(
        [
            Names(name, name_set(link.client, name, 4), name_set(link.client, name, 6) if ipv6 else "")
            for name in firewall.names(link.firewall)
        ]
    )


def _script(name: str, links: Sequence[Link], *, on_host: bool) -> str:
    # Flushed, not deleted: the sets of names keep what is in them.
    head = f"table inet {name}\nflush table inet {name}\n"
    parts = [_set(one) for link in links for one in names(link)]
    parts += [_of_client(link, links, on_host=on_host) for link in links]
    return head + table("inet", name, [*parts, *_bases(links, on_host=on_host)])


def _set(one: Names) -> str:
    lines = [(one.set4, "ipv4_addr"), (one.set6, "ipv6_addr")]
    return "".join(
        [
            f"  set {name} {{\n    type {kind}\n    size {_NAME_SET_SIZE}\n    flags timeout\n  }}\n"
            for name, kind in lines
            if name
        ]
    )


# One client


def _of_client(link: Link, links: Sequence[Link], *, on_host: bool) -> str:
    ipv6 = bool(link.client_address6)
    client = link.client
    allow, deny = client + "-allow", client + "-deny"
    asked, answered = [
        [
            *(
                [_DNS_PORTS_OF_TLS.format("s" if answers else "d") + f" goto {deny}"]
                if link.firewall.enforce_dns
                else []
            ),
            *firewall.verdicts(link.firewall, client, allow, deny, ipv6=ipv6, answers=answers),
        ]
        for answers in (False, True)
    ]
    generation = _generation(asked)
    passed = f"ct mark & {GENERATION_MASK:#x} == {generation:#x} accept"
    inside = f"oifgroup {INTERFACE_GROUP}" if on_host else f"oifname {_interfaces(links)}"
    return "".join(
        [
            chain(allow, [f"ct mark set ct mark & {~GENERATION_MASK & 0xFFFFFFFF:#x} | {generation:#x}", "accept"]),
            chain(
                deny,
                [
                    'meta l4proto 6 counter reject with tcp reset comment "firewall"',
                    'counter reject with icmpx admin-prohibited comment "firewall"',
                ],
            ),
            chain(client + "-asked", asked),
            chain(client + "-answered", answered),
            chain(client + "-source", _sources(link)),
            chain(
                client + "-from",
                [
                    _UNTRACKED,
                    f'{inside} counter reject with icmpx admin-prohibited comment "to another VM"',
                    dropped("ct direction reply", "answer to what did not ask"),
                    _CLAMP,
                    passed,
                    f"goto {client}-asked",
                ],
            ),
            chain(
                client + "-to",
                [
                    _UNTRACKED,
                    dropped("ct direction original", "unasked"),
                    _CLAMP,
                    passed,
                    f"goto {client}-answered",
                ],
            ),
            chain(client + "-input", _input(link, on_host=on_host)),
        ]
    )


def _generation(rules: list[str]) -> int:
    """Of a firewall with these *rules*: a mark in the upper half, never 0, which is what all flows begin with."""
    found = int.from_bytes(sha256("\n".join(rules).encode()).digest()[:2], "big")
    return (found or 1) << 16


def _sources(link: Link) -> list[str]:
    """What comes from the client has its address, or is a neighbour's talk."""
    rules = [f"ip saddr {link.client_address} return"]
    if link.client_address6:
        rules.append(f"ip6 saddr {{ {link.client_address6}, fe80::/10, :: }} return")
    return [*rules, dropped("", "foreign source address")]


def _input(link: Link, *, on_host: bool) -> list[str]:
    """What the client may say to its netvm itself: answers, and what was asked of it."""
    rules = ["ct direction reply ct state { established, related } accept"]
    ends = [("ip", link.netvm_address, "icmp")]
    if link.netvm_address6:
        ends.append(("ip6", link.netvm_address6, "icmpv6"))
        rules.append("icmpv6 type { 135, 136 } ip6 hoplimit 255 accept")
    for family, address, icmp in ends:
        if answers_names(link):
            rules.append(f"{family} daddr {address} {_DNS} accept")
        if not on_host:
            rules.append(f"{family} daddr {address} {icmp} type echo-request accept")
    return [*rules, dropped("", "to the host" if on_host else "to the netvm")]


def _redirect(link: Link) -> list[str]:
    """Questions to other name servers are answered by the netvm."""
    if not link.firewall.enforce_dns:
        return []
    iifname = f"iifname {quoted(link.netvm_interface)}"
    rules = [f"{iifname} ip daddr != {link.netvm_address} {_DNS} dnat ip to {link.netvm_address}"]
    if link.netvm_address6:
        rules.append(f"{iifname} ip6 daddr != {link.netvm_address6} {_DNS} dnat ip6 to {link.netvm_address6}")
    return rules


# All of them: base chains, which lead to a client's own by interface


def _bases(links: Sequence[Link], *, on_host: bool) -> list[str]:
    families = [("ip", [link.client_address for link in links])]
    if any(link.client_address6 for link in links):
        families.append(("ip6", [link.client_address6 for link in links if link.client_address6]))
    sources = [_by_interface("iifname", links, "source")]
    masquerade = []
    for family, addresses in families:
        sources.append(dropped(f"{family} saddr {one_of(addresses)}", "a client's address from elsewhere"))
        masquerade.append(f'{family} saddr {one_of(addresses)} oifname != "lo" masquerade')
    forward = [_by_interface("iifname", links, "from"), _by_interface("oifname", links, "to")]
    if not on_host:
        forward.append(dropped("", "not a client's"))
    policy = "accept" if on_host else "drop"
    redirect = [rule for link in links for rule in _redirect(link)]
    return [
        chain("sources", sources, "type filter hook prerouting priority raw; policy accept;"),
        chain("own", _own(links), "type filter hook prerouting priority mangle; policy accept;") if on_host else "",
        chain("questions", redirect, "type nat hook prerouting priority dstnat; policy accept;"),
        chain("forward", forward, f"type filter hook forward priority filter; policy {policy};"),
        chain(
            "input",
            [_by_interface("iifname", links, "input")],
            "type filter hook input priority filter; policy accept;",
        ),
        chain("outwards", masquerade, "type nat hook postrouting priority srcnat; policy accept;"),
    ]


def _own(links: Sequence[Link]) -> list[str]:
    """What goes to the host's own addresses is judged as its input before NAT.

    Else Docker and its like, which give ports of the host to containers, would have made it something to forward.
    """
    rules = []
    for link in links:
        head = f"iifname {quoted(link.netvm_interface)} ct state new"
        if link.firewall.enforce_dns:
            rules.append(f"{head} {_DNS} return")  # to be redirected
        rules.append(f"{head} fib daddr type local goto {link.client}-input")
    return rules


def _by_interface(which: str, links: Sequence[Link], chain_of_client: str) -> str:
    pairs = [(quoted(link.netvm_interface), f"{link.client}-{chain_of_client}") for link in links]
    return f"{which} vmap {verdicts(pairs)}"


def _interfaces(links: Sequence[Link]) -> str:
    return one_of([quoted(link.netvm_interface) for link in links])
