"""A host that is a network namespace, and plans of VMs on it."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from cases import NAMED, PASSWD
from project import ROOT
from rules.spaces import Space

from net_host import main as program
from vmsilo import names, plan
from vmsilo.nft import host_table
from vmsilo.plan import Network, Nic, Plan
from vmsilo_generator import run
from vmsilo_generator.source import ConfigFile

NET = ROOT / "helpers" / "net" / "net"
MAC = "52:00:00:00:00:01"

_FILES = [ConfigFile("host", "/host.toml", 'user = "david"\n', ""), ConfigFile("vm", "/vm.toml", "", "")]
_PLAN = run.make(_FILES, PASSWD, NAMED).machines[0].plan


def plan_of(vm: str, *nics: Nic, rules: str = "", forward: tuple[int, ...] = ()) -> Plan:
    return _PLAN._replace(vm=vm, network=Network(nics, rules, (), forward))


def upstream(client: str, netvm: str) -> Nic:
    """The client's end of a link."""
    return Nic(names.UPSTREAM, MAC, f"{client}_up", bridge_of(netvm, client), (), netvm)


def downstream(netvm: str, client: str) -> Nic:
    """The netvm's end of a link."""
    return Nic(client, MAC, f"{netvm}.{client}", bridge_of(netvm, client), (), client)


def to_host(client: str, *addresses: str) -> Nic:
    return Nic(names.UPSTREAM, MAC, f"{client}_up", "", addresses, names.HOST_STEM)


def own(name: str, tap: str, bridge: str = "", *addresses: str) -> Nic:
    """An interface that the user described."""
    return Nic(name, MAC, tap, bridge, addresses, "")


def bridge_of(netvm: str, client: str) -> str:
    return f"br_{netvm}.{client}"


def guarding(vm: str, *devices: str) -> str:
    """Rules that are there for each of *devices*, in the form of those that a plan has."""
    table = host_table(vm)
    chains = "".join(
        f'\tchain in{number} {{\n\t\ttype filter hook ingress device "{device}" priority 0; policy drop;\n\t}}\n'
        for number, device in enumerate(devices)
    )
    return f"table netdev {table}\ndelete table netdev {table}\ntable netdev {table} {{\n{chains}}}\n"


class Seen(NamedTuple):
    """An interface as ip(8) tells of it."""

    name: str
    kind: str
    alias: str
    port_of: str
    up: bool
    group: str
    mac: str
    addresses: tuple[str, ...]


class World:
    """A host."""

    def __init__(self, space: Space, directory: Path) -> None:
        self.space = space
        self.directory = directory

    def file(self, wanted: Plan) -> str:
        path = self.directory / names.plan_file(wanted.vm)
        path.write_text(plan.dumps(wanted))
        return str(path)

    def up(self, wanted: Plan) -> int:
        """As the unit does it, but in this process."""
        with self.space.entered():
            return program.main(["up", self.file(wanted)])

    def down(self, vm: str) -> int:
        with self.space.entered():
            return program.main(["down", vm])

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """The program itself, beside others."""
        with self.space.entered():
            return subprocess.Popen([str(NET), *arguments], stderr=subprocess.PIPE, encoding="utf-8")

    def seen(self) -> dict[str, Seen]:
        """All interfaces but the loopback."""
        found: list[dict[str, Any]] = json.loads(self.space.run("ip", "-json", "-details", "address", "show"))
        return {
            item["ifname"]: Seen(
                name=item["ifname"],
                kind=item.get("linkinfo", {}).get("info_kind", ""),
                alias=item.get("ifalias", ""),
                port_of=item.get("master", ""),
                up="UP" in item["flags"],
                group=item["group"],
                mac=item["address"],
                addresses=tuple(
                    f"{each['local']}/{each['prefixlen']}" for each in item["addr_info"] if each["scope"] == "global"
                ),
            )
            for item in found
            if item["ifname"] != "lo"
        }

    def details(self, name: str) -> dict[str, Any]:
        """What ip(8) tells of one interface."""
        (found,) = json.loads(self.space.run("ip", "-json", "-details", "link", "show", name))
        assert isinstance(found, dict)
        return found

    def tables(self) -> list[str]:
        return self.space.run("nft", "list", "tables").split("\n")[:-1]

    def setting(self, key: str) -> str:
        with self.space.entered():
            return Path(f"/proc/sys/net/{key}").read_text().strip()

    def state(self) -> str:
        """All that there is, but counters and indexes, as text."""
        rules = [self.space.run("nft", "--stateless", "list", *table.split()) for table in sorted(self.tables())]
        return "\n".join([*[repr(each) for _, each in sorted(self.seen().items())], *rules])
