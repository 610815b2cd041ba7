"""Makes the internet in a lab, and changes it."""

from pathlib import Path

from lab.host import Host
from lab.internet import zones

HOST = ("203.0.113.2", "2001:db8:113::2")  # the lab's own
NEXT_HOP = ("203.0.113.1", "2001:db8:113::1")
WEB = ("198.51.100.80", "2001:db8:100::80")
OTHER_WEB = ("198.51.100.81", "2001:db8:100::81")
FAR = ("192.0.2.80", "2001:db8:2::80")
_FAR_LINK = ("192.0.2.1", "2001:db8:2::1")
FAR_MTU = 1400
WAN = "wan0"  # the host's interface

_PLACE = "/run/internet"
_HERE = Path(__file__).parent

_LINKS = f"""
ip netns add internet
ip netns add far
ip link add {WAN} type veth peer name host netns internet
ip -n internet link add far type veth peer name internet netns far
ip address add {HOST[0]}/24 dev {WAN}
ip address add {HOST[1]}/64 dev {WAN} nodad
ip link set dev {WAN} up
ip route add default via {NEXT_HOP[0]}
ip -6 route add default via {NEXT_HOP[1]}

ip -n internet link set dev lo up
ip -n internet address add {NEXT_HOP[0]}/24 dev host
ip -n internet address add {NEXT_HOP[1]}/64 dev host nodad
ip -n internet address add {_FAR_LINK[0]}/24 dev far
ip -n internet address add {_FAR_LINK[1]}/64 dev far nodad
ip -n internet link set dev host up
ip -n internet link set dev far mtu {FAR_MTU} up
ip netns exec internet sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1

# What far says of the sizes it takes is not what the way to it takes.
ip -n far link set dev lo up
ip -n far address add {FAR[0]}/24 dev internet
ip -n far address add {FAR[1]}/64 dev internet nodad
ip -n far link set dev internet mtu {FAR_MTU} up
ip -n far route add default via {_FAR_LINK[0]} advmss 1460
ip -n far -6 route add default via {_FAR_LINK[1]} advmss 1440
"""


class Internet:
    """The internet of one lab, which it goes with."""

    def __init__(self, lab: Host) -> None:
        self.lab = lab
        self.records = {
            "www": WEB,
            "other": OTHER_WEB,
            "moving": WEB,
            "far": FAR,
            "four": WEB[:1],
        }
        lab.run("sh", "-eu", "-c", _LINKS)
        own = [*WEB, *OTHER_WEB, *(address for server in zones.SERVERS for address in server.addresses)]
        commands = [f"address add {address}/{128 if ':' in address else 32} dev lo" for address in own]
        lab.run("ip", "-n", "internet", "-batch", "-", input="\n".join(commands) + "\n")
        self.anchor = self._sign()
        for server in zones.SERVERS:
            self._start("internet", f"names-{server.name}", "knotd", "-c", self._config(server))
        lab.write(f"{_PLACE}/server.py", (_HERE / "server.py").read_bytes())
        for place in ("internet", "far"):
            self._start(place, f"web-{place}", "/usr/bin/python3", "-I", f"{_PLACE}/server.py")
        lab.wait_for(self._serves, timeout=30)

    def move(self, name: str, *addresses: str) -> None:
        """Give *name*.shop.example. these addresses."""
        self.records[name] = addresses
        shop = zones.SERVERS[2]
        self.lab.write(self._zone(shop, "shop.example."), zones.leaf("shop.example.", self.records))
        self.lab.run("knotc", "-c", self._config(shop), "-b", "zone-reload", "shop.example.")

    def _sign(self) -> str:
        """Write the zones, from the leaves up, each with the digests of what is below it; the root's own."""
        root, tld, shop = zones.SERVERS
        for server in zones.SERVERS:
            self.lab.write(self._config(server), zones.config(server, _PLACE))
        self.lab.write(self._zone(shop, "shop.example."), zones.leaf("shop.example.", self.records))
        self.lab.write(self._zone(shop, "bogus.example."), zones.leaf("bogus.example.", {"www": WEB}))
        right, other = self._digest(shop, "shop.example."), self._digest(shop, "bogus.example.")
        wrong = " ".join([*other.split()[:-1], "0" * len(other.split()[-1])]) + "\n"
        self.lab.write(self._zone(tld, "example."), zones.tld(right + wrong))
        self.lab.write(self._zone(root, "."), zones.root(self._digest(tld, "example.")))
        return self._digest(root, ".")

    def _digest(self, server: zones.Server, zone: str) -> str:
        """Make a key for *zone*; its record DS, by SHA-256."""
        tool = ("keymgr", "-c", self._config(server), zone)
        self.lab.run(*tool, "generate", "ksk=yes", "zsk=yes")
        digests = self.lab.run(*tool, "ds").out.splitlines()
        return next(line for line in digests if line.split()[-2] == "2") + "\n"

    @staticmethod
    def _config(server: zones.Server) -> str:
        return f"{_PLACE}/{server.name}/knot.conf"

    @staticmethod
    def _zone(server: zones.Server, zone: str) -> str:
        return f"{_PLACE}/{server.name}/{zones.file_of(zone)}"

    def _start(self, namespace: str, unit: str, *command: str) -> None:
        """As a service whose network is *namespace*."""
        place = f"--property=NetworkNamespacePath=/run/netns/{namespace}"
        self.lab.run("systemd-run", "-q", f"--unit=internet-{unit}", place, "--service-type=exec", "--", *command)

    def _serves(self) -> bool:
        ask = "import socket; [socket.create_connection((address, port), 2) for address, port in {}]"
        wanted = [(WEB[0], 80), (WEB[1], 80), (FAR[0], 80), (FAR[1], 80)]
        wanted += [(server.addresses[-1], 53) for server in zones.SERVERS]
        return self.lab.run("python3", "-IS", "-c", ask.format(wanted), check=False).code == 0
