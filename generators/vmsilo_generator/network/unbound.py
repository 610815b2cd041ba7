"""The configuration of a netvm's unbound, see unbound.conf(5). Pure."""

from collections.abc import Iterator
from typing import NamedTuple

# What an image or its user adds, and what Debian's package has there: the trust anchor of DNSSEC.
DROP_INS = "/etc/unbound/unbound.conf.d/*.conf"

# Addresses that no public name has. An answer that holds one comes from somebody who wants a client's browser to talk
# to its neighbours on his behalf (DNS rebinding). The first ones are nobody's name at all.
NEVER = ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "::ffff:0:0/96")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")


class Asker(NamedTuple):
    """One end of a link to a client of the netvm, in one version of IP."""

    address: str  # the netvm's own
    client: str  # the client's


def unbound_conf(askers: tuple[Asker, ...], *, ipv6: bool, ours: tuple[str, ...], forwarders: tuple[str, ...]) -> str:
    """What the netvm's unbound is given.

    *askers*: the links at whose own ends it answers the client, and nobody else. *ipv6*: whether the netvm reaches
    name servers by IPv6. *ours*: networks that links between VMs are in. *forwarders*: addresses of resolvers to ask
    instead of the servers of the names themselves.
    """
    return "".join(f"{line}\n" for line in lines(askers, ipv6=ipv6, ours=ours, forwarders=forwarders))


def lines(
    askers: tuple[Asker, ...], *, ipv6: bool, ours: tuple[str, ...], forwarders: tuple[str, ...]
) -> Iterator[str]:
    yield "server:"
    yield from service()
    for address in ("127.0.0.1", *(["::1"] if ipv6 else []), *(asker.address for asker in askers)):
        yield f"  interface: {address}"
    for network in ("127.0.0.0/8", *(["::1/128"] if ipv6 else [])):
        yield f"  access-control: {network} allow"
    for asker in askers:
        yield f"  access-control: {asker.client} allow"
    yield f"  do-ip6: {'yes' if ipv6 else 'no'}"
    yield from hardening()
    # Who names his resolvers himself may well have private names in them.
    for network in (*NEVER, *ours, *(() if forwarders else PRIVATE)):
        yield f"  private-address: {network}"
    if forwarders:
        yield "forward-zone:"
        yield '  name: "."'
        for address in forwarders:
            yield f"  forward-addr: {address}"
    yield f'include-toplevel: "{DROP_INS}"'


def service() -> Iterator[str]:
    """How it runs: systemd has given it its user and the one capability it needs, and reads its log."""
    yield '  username: ""'
    yield '  chroot: ""'
    yield '  pidfile: ""'
    yield '  directory: "/var/lib/unbound"'
    yield "  use-syslog: no"
    yield '  logfile: ""'
    yield "  num-threads: 1"
    yield "  so-sndbuf: 0"  # as the system has it; more is not for it to ask for
    # Links come and go with their clients, and may come later than this.
    yield "  ip-freebind: yes"
    # More than one client's worth of connections.
    yield "  incoming-num-tcp: 64"
    # A netvm may start before its own netvm, or outlive it: servers that could not be reached a moment ago are asked
    # again, and not left alone for a quarter of an hour.
    yield "  infra-keep-probing: yes"
    yield "  infra-host-ttl: 60"
    yield "  prefetch: yes"


def hardening() -> Iterator[str]:
    """What is not so by default, or what all of this relies on."""
    yield "  qname-minimisation: yes"
    yield "  harden-glue: yes"
    yield "  harden-dnssec-stripped: yes"
    yield "  harden-below-nxdomain: yes"
    yield "  harden-short-bufsize: yes"
    yield "  aggressive-nsec: yes"
    yield "  minimal-responses: yes"
    yield "  deny-any: yes"
    yield "  hide-identity: yes"
    yield "  hide-version: yes"
    yield "  unwanted-reply-threshold: 1000000"
