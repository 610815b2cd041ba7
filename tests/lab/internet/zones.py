"""The tree of names: the root, example. and two zones in it, each on servers of its own, all signed (DNSSEC).

bogus.example. is signed as well, but example. has another key's digest for it: a resolver that checks must not
answer.
"""

from typing import NamedTuple

# The root servers, as resolvers know them without asking (https://www.iana.org/domains/root/files, named.root).
ROOT_SERVERS = {
    "a": ("198.41.0.4", "2001:503:ba3e::2:30"),
    "b": ("170.247.170.2", "2801:1b8:10::b"),
    "c": ("192.33.4.12", "2001:500:2::c"),
    "d": ("199.7.91.13", "2001:500:2d::d"),
    "e": ("192.203.230.10", "2001:500:a8::e"),
    "f": ("192.5.5.241", "2001:500:2f::f"),
    "g": ("192.112.36.4", "2001:500:12::d0d"),
    "h": ("198.97.190.53", "2001:500:1::53"),
    "i": ("192.36.148.17", "2001:7fe::53"),
    "j": ("192.58.128.30", "2001:503:c27::2:30"),
    "k": ("193.0.14.129", "2001:7fd::1"),
    "l": ("199.7.83.42", "2001:500:9f::42"),
    "m": ("202.12.27.33", "2001:dc3::35"),
}
TLD_SERVER = ("198.51.100.1", "2001:db8:100::1")
SHOP_SERVER = ("198.51.100.2", "2001:db8:100::2")

SECONDS = 2  # how long an answer of shop.example. is good


class Server(NamedTuple):
    """One process of knotd."""

    name: str
    addresses: tuple[str, ...]
    zones: tuple[str, ...]


SERVERS = (
    Server("root", tuple(address for pair in ROOT_SERVERS.values() for address in pair), (".",)),
    Server("tld", TLD_SERVER, ("example.",)),
    Server("shop", SHOP_SERVER, ("shop.example.", "bogus.example.")),
)


def config(server: Server, place: str) -> str:
    """knot.conf(5) of *server*, with its files below *place*."""
    listen = ", ".join(f"{address}@53" for address in server.addresses)
    zones = "".join(f"  - domain: {zone}\n    file: {file_of(zone)}\n" for zone in server.zones)
    return f"""\
server:
    rundir: {place}/{server.name}
    listen: [ {listen} ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: {place}/{server.name}
    journal-db-max-size: 8M
    kasp-db-max-size: 8M
    timer-db-max-size: 1M
policy:
  - id: signed
    manual: on
    algorithm: ecdsap256sha256
template:
  - id: default
    storage: {place}/{server.name}
    dnssec-signing: on
    dnssec-policy: signed
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    serial-policy: unixtime
zone:
{zones}"""


def file_of(zone: str) -> str:
    return f"{zone.strip('.') or 'root'}.zone"


def root(digests: str) -> str:
    """*digests*: the records DS of zones below."""
    servers = "".join(
        f". IN NS {letter}.root-servers.net.\n"
        f"{letter}.root-servers.net. IN A {four}\n{letter}.root-servers.net. IN AAAA {six}\n"
        for letter, (four, six) in ROOT_SERVERS.items()
    )
    return _start(".", "a.root-servers.net.") + servers + _delegation("example.", TLD_SERVER) + digests


def tld(digests: str) -> str:
    zones = _delegation("shop.example.", SHOP_SERVER) + _delegation("bogus.example.", SHOP_SERVER)
    own = _delegation("example.", TLD_SERVER)
    return _start("example.", "ns.example.") + own + zones + digests


def leaf(zone: str, records: dict[str, tuple[str, ...]]) -> str:
    """A zone with addresses, of either version, by the first part of the name."""
    hosts = "".join(
        f"{name}.{zone} {SECONDS} IN {'AAAA' if ':' in address else 'A'} {address}\n"
        for name, addresses in records.items()
        for address in addresses
    )
    return _start(zone, f"ns.{zone}") + _delegation(zone, SHOP_SERVER) + hosts


def _start(zone: str, server: str) -> str:
    return f"$TTL 300\n{zone} IN SOA {server} admin.example. 1 3600 600 86400 {SECONDS}\n"


def _delegation(zone: str, server: tuple[str, str]) -> str:
    four, six = server
    return f"{zone} IN NS ns.{zone}\nns.{zone} IN A {four}\nns.{zone} IN AAAA {six}\n"
