"""vm-net: what it makes of interfaces and rules, which are real ones in a network namespace of their own."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launch.hosts import minimal_plan
from project import ROOT

from tools.conftest import Systemd, vm
from vmsilo.plan import Network, Nic, dumps

pytestmark = [
    pytest.mark.skipif(shutil.which("ip") is None, reason="ip is not installed"),
    pytest.mark.skipif(shutil.which("nft", path="/usr/sbin:/usr/bin") is None, reason="nft is not installed"),
]

# Runs vm-net as it is, but with plans elsewhere.
LAUNCHER = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
from vmsilo import paths
paths.GENERATOR_DIR = sys.argv.pop(1)
from vm_net.main import main
sys.exit(main())
"""

# A client with a netvm, which has the host as its own; a user's bridge; and interfaces of others.
LINKS = """
ip link set lo up
tap() { # name, VM, interface
    ip tuntap add dev "$1" mode tap
    ip link set dev "$1" alias "vmsilo $2 $3"
}
tap banking_up banking upstream
tap vpn.banking vpn banking
ip link add br_vpn.banking type bridge
ip link set dev br_vpn.banking alias "vmsilo vpn banking"
ip link set dev banking_up master br_vpn.banking
ip link set dev vpn.banking master br_vpn.banking
tap vpn_up vpn upstream
ip address add 10.200.5.3/31 dev vpn_up
ip address add fd00::3/127 dev vpn_up nodad
ip link set dev vpn_up up
ip link add lan type bridge
ip link set dev lan alias "vmsilo bridge"
tap dev-0 dev 'lan"0'
ip link set dev dev-0 master lan
ip tuntap add dev tap0 mode tap
ip tuntap add dev tun0 mode tun
ip link set dev tun0 alias "office uplink"
ip link add docker0 type bridge
"""

RULES = """
table netdev vmsilo-vpn {
    counter spoofed { packets 3 bytes 300 }
    chain guest {
        type filter hook ingress device vpn_up priority 0; policy accept;
        ether saddr != 52:54:00:00:00:01 counter name spoofed drop comment "foreign MAC"
        ip saddr 10.0.0.1 counter packets 2 bytes 200 drop comment "foreign address"
        ip saddr 10.0.0.2 counter packets 9 bytes 900 accept
        ip saddr 10.0.0.3 drop
    }
}
table inet vmsilo-vpn {
    set names { type ipv4_addr; flags timeout; elements = { 192.0.2.7 timeout 1h } }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip daddr @names accept
        iifname "vpn_up" counter packets 1 bytes 100 reject
    }
}
table inet firewalld {
    chain forward {
        type filter hook forward priority 0; policy accept;
        counter packets 1000 bytes 1000 drop
    }
}
"""

NOTHING = {"bytes": 0, "packets": 0, "errors": 0, "dropped": 0}


class Kernel:
    """A network namespace, in which its maker may do what root may."""

    def __init__(self, systemd: Systemd, plans: Path) -> None:
        self.systemd = systemd
        self.plans = plans
        plans.mkdir()
        self._holder = subprocess.Popen(
            ["unshare", "--map-root-user", "--net", "sh", "-c", "echo made; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != b"made\n":
            pytest.skip("no network namespaces here")

    def close(self) -> None:
        self._holder.communicate(b"", timeout=10)

    def enter(self) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--user", "--net", "--preserve-credentials", "--"]

    def make(self, script: str, rules: str = "") -> None:
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        subprocess.run([*self.enter(), "sh", "-eu", "-c", script], env={"PATH": path}, check=True)
        if rules:
            subprocess.run([*self.enter(), "nft", "-f", "-"], env={"PATH": path}, input=rules.encode(), check=True)

    def plan(self, name: str, *nics: Nic, tables: tuple[str, ...] = ()) -> None:
        plan = minimal_plan(vm=name, network=Network(nics, "", tables, ()))
        (self.plans / f"vmsilo-{name}.plan").write_text(dumps(plan))

    def run(self, *arguments: str, enter: list[str] | None = None) -> "subprocess.CompletedProcess[str]":
        modules = f"{ROOT}:{ROOT}/helpers/vm-net"
        return subprocess.run(
            [*(enter or self.enter()), sys.executable, "-IS", "-c", LAUNCHER, modules, str(self.plans), *arguments],
            env=self.systemd.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    def json(self, *names: str) -> dict[str, dict[str, Any]]:
        result = self.run("--json", *names)
        assert (result.returncode, result.stderr) == (0, "")
        return {one["name"]: one for one in json.loads(result.stdout)}


def network(name: str, state: str = "active", **properties: Any) -> dict[str, dict[str, Any]]:
    return {f"vmsilo-{name}-net.service": {"ActiveState": state, **properties}}


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    units = {
        **vm("banking", "active"),
        **network("banking"),
        **vm("vpn", "active"),
        **network("vpn"),
        **vm("dev"),
        **network("dev", "failed", StatusText="TAP dev-0: Operation not permitted", Result="exit-code"),
        **vm("offline"),
    }
    made = Kernel(Systemd(tmp_path / "units.json", units), tmp_path / "plans")
    yield made
    made.close()


@pytest.fixture
def connected(kernel: Kernel) -> Kernel:
    kernel.make(LINKS, RULES)
    return kernel


def test_table(connected: Kernel) -> None:
    result = connected.run()
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len({line.rindex("0B") for line in lines[1:] if "0B" in line}) == 1
    assert [re.split(" {2,}", line) for line in lines] == [
        ["VM", "STATE", "INTERFACE", "TAP", "CONNECTED TO", "HOST'S ADDRESS", "SENT", "RECEIVED", "DROPPED"],
        ["banking", "running", "upstream", "banking_up (down)", "vpn", "-", "0B", "0B", "0"],
        [
            *("dev", "stopped", 'lan"0', "dev-0 (down)", "bridge lan", "-", "0B", "0B", "0"),
            "TAP dev-0: Operation not permitted",
        ],
        ["offline", "stopped", "-", "-", "-", "-", "-", "-", "0", "no network"],
        ["vpn", "running", "banking", "vpn.banking (down)", "banking", "-", "0B", "0B", "6"],
        ["", "upstream", "vpn_up (no carrier)", "host", "10.200.5.3/31", "0B", "0B"],
    ]


def test_json(connected: Kernel) -> None:
    found = connected.json()
    assert list(found) == ["banking", "dev", "offline", "vpn"]
    vpn = found["vpn"]
    assert [table.pop("rules").splitlines()[0] for table in vpn["tables"]] == [
        "table inet vmsilo-vpn {",
        "table netdev vmsilo-vpn {",
    ]
    handle = vpn["tables"][0]["drops"][0].pop("what")
    assert handle.startswith("rule ")
    assert vpn == {
        "name": "vpn",
        "state": "running",
        "network": "up",
        "interfaces": [
            {
                "name": "banking",
                "tap": "vpn.banking",
                "state": "down",
                "mtu": 1500,
                "peer": "banking",
                "bridge": "br_vpn.banking",
                "addresses": [],
                "sent": NOTHING,
                "received": NOTHING,
            },
            {
                "name": "upstream",
                "tap": "vpn_up",
                "state": "no carrier",
                "mtu": 1500,
                "peer": "host",
                "bridge": None,
                "addresses": ["10.200.5.3/31", "fd00::3/127"],
                "sent": NOTHING,
                "received": NOTHING,
            },
        ],
        "tables": [
            {"name": "inet vmsilo-vpn", "drops": [{"chain": "forward", "packets": 1, "bytes": 100}]},
            {
                "name": "netdev vmsilo-vpn",
                "drops": [
                    {"chain": "guest", "what": "foreign MAC", "packets": 3, "bytes": 300},
                    {"chain": "guest", "what": "foreign address", "packets": 2, "bytes": 200},
                ],
            },
        ],
        "message": "",
    }
    assert found["offline"]["network"] == "none"
    assert found["banking"]["interfaces"][0]["peer"] == "vpn"
    assert (found["dev"]["network"], found["dev"]["message"]) == ("failed", "TAP dev-0: Operation not permitted")
    assert (found["dev"]["interfaces"][0]["peer"], found["dev"]["interfaces"][0]["bridge"]) == (None, "lan")


def test_counters_are_the_guest_s(connected: Kernel) -> None:
    """What it sends, the TAP receives; what it is sent, the TAP sends."""
    script = """if True:
        import fcntl, os, struct
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH", b"vpn_up", 0x1002))
        os.write(tap, bytes.fromhex("ffffffffffff525400000001") + b"\\x88\\xb5" + bytes(46))
        os.write(tap, bytes.fromhex("ffffffffffff525400000001") + b"\\x88\\xb5" + bytes(86))
    """
    before = connected.json("vpn")["vpn"]["interfaces"][1]
    connected.make(f"{sys.executable} -c '{script}'")
    upstream = connected.json("vpn")["vpn"]["interfaces"][1]
    assert (upstream["sent"]["packets"], upstream["sent"]["bytes"]) == (2, 160)
    assert upstream["received"]["bytes"] - before["received"]["bytes"] < 160


def test_one_vm_in_full(connected: Kernel) -> None:
    result = connected.run("vpn")
    assert (result.returncode, result.stderr) == (0, "")
    # The kernel may have sent something of its own towards a TAP that nobody reads.
    lines = re.sub(r"\d+ dropped", "0 dropped", result.stdout).splitlines()
    assert lines[:12] == [
        "vpn: running, network up",
        "  banking: banking",
        "    TAP vpn.banking: down, MTU 1500",
        "    port of bridge br_vpn.banking",
        "    sent 0B in 0 packets, 0 errors, 0 dropped",
        "    received 0B in 0 packets, 0 errors, 0 dropped",
        "  upstream: host",
        "    TAP vpn_up: no carrier, MTU 1500",
        "    the host is 10.200.5.3/31, fd00::3/127",
        "    sent 0B in 0 packets, 0 errors, 0 dropped",
        "    received 0B in 0 packets, 0 errors, 0 dropped",
        lines[11],
    ]
    assert "  3 packets, 300B: foreign MAC (netdev vmsilo-vpn)" in lines
    assert "table netdev vmsilo-vpn {" in lines
    assert "192.0.2.7" in result.stdout  # a name's address
    assert "firewalld" not in result.stdout
    assert "banking_up" not in result.stdout


def test_dot(connected: Kernel) -> None:
    result = connected.run("--dot")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "digraph vmsilo {",
        "\tnode [shape=box];",
        '\t"banking" [style=solid];',
        '\t"dev" [style=dashed];',
        '\t"offline" [style=dashed];',
        '\t"vpn" [style=solid];',
        '\t"host" [shape=doubleoctagon];',
        '\t"bridge lan" [shape=ellipse];',
        '\t"banking" -> "vpn" [label="banking_up", style=dashed];',
        '\t"dev" -> "bridge lan" [label="dev-0", style=dashed];',
        '\t"vpn" -> "host" [label="vpn_up\\n10.200.5.3/31\\nfd00::3/127", style=dashed];',
        "}",
    ]


def test_dot_of_one_end(connected: Kernel) -> None:
    """A netvm that waits for its client is drawn as the client's netvm all the same."""
    connected.make("ip link delete banking_up")
    assert '\t"banking" -> "vpn" [label="vpn.banking", style=dashed];' in connected.run("--dot").stdout.splitlines()


def test_an_ordinary_user_sees_all_but_rules(connected: Kernel, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    for directory in (tmp_path, *tmp_path.parents[:2], connected.plans):
        directory.chmod(0o755)
    connected.plan("vpn")
    (connected.plans / "vmsilo-vpn.plan").chmod(0o600)
    for path in (connected.systemd.path, Path(f"{connected.systemd.path}.calls")):
        path.touch()
        path.chmod(0o666)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    outside = [argument for argument in connected.enter() if argument not in ("--user", "--preserve-credentials")]
    enter = [*outside, *nobody]
    result = connected.run(enter=enter)
    assert result.returncode == 0
    assert result.stderr == "vm-net: only root sees rules, what they dropped, and what is configured but not there\n"
    assert result.stdout.splitlines()[-1].split()[:4] == ["upstream", "vpn_up", "(no", "carrier)"]
    as_json = connected.run("--json", enter=enter)
    assert as_json.stderr == ""
    assert [one["tables"] for one in json.loads(as_json.stdout)] == [None] * 4


def nic(name: str, tap: str, **fields: Any) -> Nic:
    return Nic(
        **{"name": name, "mac": "52:54:00:00:00:01", "tap": tap, "bridge": "", "addresses": (), "peer": "", **fields}
    )


def test_what_is_missing(kernel: Kernel) -> None:
    """A network whose unit is up, but somebody took away what it had made."""
    kernel.plan(
        "vpn", nic("upstream", "vpn_up", peer="host", addresses=("10.200.5.3/31",)), tables=("inet vmsilo-vpn",)
    )
    found = kernel.json()["vpn"]
    assert found["message"] == "interface upstream is missing; table inet vmsilo-vpn is missing"
    assert found["interfaces"][0]["state"] == "absent"
    assert (found["interfaces"][0]["peer"], found["interfaces"][0]["mtu"]) == ("host", None)
    assert "vpn      running  upstream   vpn_up  host" in kernel.run().stdout


def test_what_would_be(kernel: Kernel) -> None:
    """A VM that does not run is connected to nobody yet: nothing is wrong with that."""
    kernel.systemd.change("vmsilo-vpn-net.service", ActiveState="inactive")
    kernel.plan("vpn", nic("banking", "vpn.banking", peer="banking", bridge="br_vpn.banking"))
    kernel.plan("banking", nic("upstream", "banking_up", peer="vpn", bridge="br_vpn.banking"))
    kernel.systemd.change("vmsilo-banking-net.service", ActiveState="inactive")
    found = kernel.json()
    assert (found["vpn"]["network"], found["vpn"]["message"]) == ("down", "")
    assert [edge for edge in kernel.run("--dot").stdout.splitlines() if "->" in edge] == [
        '\t"banking" -> "vpn" [label="banking_up", style=dashed];'
    ]


def test_what_was_left_behind(kernel: Kernel) -> None:
    kernel.make(
        "ip tuntap add dev old-0 mode tap; ip link set old-0 alias 'vmsilo old lan'", "table inet vmsilo-old {}"
    )
    old = kernel.json()["old"]
    assert (old["state"], old["network"]) == ("gone", "none")
    assert old["message"] == "left behind: no such VM is configured, and none runs"
    assert [table["name"] for table in old["tables"]] == ["inet vmsilo-old"]


def test_a_plan_of_another_version(connected: Kernel) -> None:
    """Of one VM; that is no reason to be silent about the others."""
    (connected.plans / "vmsilo-banking.plan").write_text('{"version": 0}')
    found = connected.json()
    assert found["banking"]["message"].endswith("run systemctl daemon-reload")
    assert found["vpn"]["message"] == ""


def test_what_is_not_configured_any_more(connected: Kernel) -> None:
    connected.plan("banking")
    assert connected.json()["banking"]["message"] == "interface upstream is not configured"


def test_usage(kernel: Kernel) -> None:
    assert kernel.run("--json", "--dot").returncode == 64
    assert kernel.run("--jason").returncode == 64
    missing = kernel.run("bankin")
    assert (missing.returncode, missing.stderr) == (
        66,
        "vm-net: no VM is called 'bankin' (did you mean 'banking'?)\n",
    )


def test_no_vm(kernel: Kernel) -> None:
    kernel.systemd.path.write_text("{}")
    result = kernel.run()
    assert (result.returncode, result.stdout) == (0, "")
    assert "no VM is configured" in result.stderr
    assert json.loads(kernel.run("--json").stdout) == []
