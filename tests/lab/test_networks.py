"""Networks as users have them: clients of a netvm that reaches the internet through the host, all real guests.

red and blue are clients of the VM netvm, whose netvm is the host. The internet is a namespace of the lab.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import boot, config, images
from lab.host import CONFIG, Failed, Host, Result
from lab.internet.world import FAR, FAR_MTU, HOST, OTHER_WEB, WAN, WEB, Internet
from lab.neighbours import frames
from lab.neighbours.frames import Scene, Station
from lab.tree import USER
from vmsilo import names
from vmsilo_generator.rules.frames import link_local

_HERE = Path(__file__).parent
PROBE = (_HERE / "internet/probe.py").read_bytes()
FRAMES = (_HERE / "neighbours/frames.py").read_bytes()

CLIENTS = ("red", "blue")
FILES = {
    "netvm": config.vm("debian", '[network]\nisNetvm = true\nnetvm = "host"\n', memory=448),
    **{name: config.vm("debian", '[network]\nnetvm = "netvm"\n', memory=384) for name in CLIENTS},
}

MEBIBYTE = 1 << 20
RECOVERY = 5.0  # seconds after the netvm is ready
HOST_PORT = 8000  # where the host has a service of its own


@pytest.fixture(scope="module")
def lab() -> Iterator[Host]:
    files = {f"{CONFIG}/{stem}.toml": text for stem, text in {"host": config.HOST, **FILES}.items()}
    host = boot.boot({"debian": images.debian()}, files)
    try:
        host.run("vm-start", *FILES, user=USER, timeout=500)
        yield host
    finally:
        host.close()


@pytest.fixture(scope="module")
def internet(lab: Host) -> Internet:
    """With the root's key in the netvm, whose own is that of the real one."""
    made = Internet(lab)
    trust_root(lab, made)
    listen = f"import socket; s = socket.create_server(('::', {HOST_PORT}), family=10, dualstack_ipv6=True)"
    script = f"{listen}\nwhile True: s.accept()[0].close()"
    lab.run("systemd-run", "-q", "--unit=host-service", "/usr/bin/python3", "-c", script)
    lab.wait_for(lambda: f":{HOST_PORT} " in lab.run("ss", "-ltn").out)
    return made


def trust_root(lab: Host, made: Internet) -> None:
    drop_in = f'server:\n    trust-anchor: "{made.anchor.strip()}"\n'
    anchors = "/etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf"
    script = f"install -m 644 /dev/stdin {anchors} && systemctl restart vmsilo-unbound.service"
    lab.vm_run(
        "--user", "root", "netvm", f"{script} || (journalctl -b -o cat -u vmsilo-unbound >&2; exit 1)", input=drop_in
    )


def probe(lab: Host, vm: str, *arguments: str, check: bool = True, timeout: float = 60) -> Result:
    """What the guest finds out, see internet/probe.py. As root, who may ping by hand."""
    command = ("--user", "root", vm, "python3", "-IS", "-", *arguments)
    return lab.vm_run(*command, input=PROBE, check=check, timeout=timeout)


def found(lab: Host, vm: str, *arguments: str) -> str:
    return probe(lab, vm, *arguments).out.strip()


def station(lab: Host, vm: str) -> tuple[Station, Station]:
    """The client at its interface to the netvm, and the netvm as it sees it."""
    probe(lab, vm, "ping", WEB[0])
    probe(lab, vm, "ping", WEB[1])
    said = lab.vm_run("--user", "root", vm, "python3", "-IS", "-", "facts", names.UPSTREAM, input=FRAMES).out
    own, gateway = (Station(*told) for told in json.loads(said))
    return own, gateway._replace(local=link_local(gateway.mac))


# What should be.


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_the_host_is_a_netvm(lab: Host, internet: Internet, version: int) -> None:
    assert found(lab, "netvm", "get", WEB[version]) == HOST[version]


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_a_client_is_masqueraded_twice(lab: Host, internet: Internet, version: int) -> None:
    """The server sees the host; the host sees the netvm, and nobody else, on the netvm's way up."""
    sniffer = lab.start("timeout", "20", "python3", "-IS", "-c", SOURCES, "netvm_up", "4")
    assert sniffer.read_line() == b"listening\n"
    assert found(lab, "red", "get", WEB[version]) == HOST[version]
    assert found(lab, "blue", "echo", WEB[version]) == HOST[version]
    assert found(lab, "red", "ping", WEB[version]) == "answered"
    seen = set(json.loads(sniffer.wait().out))
    own = station(lab, "netvm")[0]
    assert own[1 + version] in seen
    assert seen <= {own.four, own.six, own.local}


# Of packets that the guest sends, which the host's TAP receives.
SOURCES = """
import json, socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 3))
print("listening", flush=True)
seen, end = set(), time.monotonic() + float(sys.argv[2])
while (left := end - time.monotonic()) > 0:
    s.settimeout(left)
    try:
        frame, sender = s.recvfrom(65536)
    except TimeoutError:
        break
    if sender[2] == 4:
        continue
    if frame[12:14] == b"\\x08\\x00":
        seen.add(socket.inet_ntop(socket.AF_INET, frame[26:30]))
    elif frame[12:14] == b"\\x86\\xdd":
        seen.add(socket.inet_ntop(socket.AF_INET6, frame[22:38]))
print(json.dumps(sorted(seen)))
"""


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_large_transfers(lab: Host, internet: Internet, version: int) -> None:
    sent, arrived = found(lab, "red", "put", WEB[version], str(16 * MEBIBYTE)).split()
    assert sent == arrived
    assert found(lab, "red", "get", WEB[version], f"/zeros/{16 * MEBIBYTE}") == f"{16 * MEBIBYTE} bytes"


@pytest.mark.parametrize("version", [0, 1], ids=["IPv4", "IPv6"])
def test_a_narrow_link_far_away(lab: Host, internet: Internet, version: int) -> None:
    """Routers on the way say so, and their message gets to the client through both masquerades."""
    sent, arrived = found(lab, "red", "put", FAR[version], str(MEBIBYTE)).split()
    assert sent == arrived
    found(lab, "red", "echo", FAR[version], "1200")
    probe(lab, "red", "echo", FAR[version], "1450", check=False)
    known = lab.vm_run("red", f"ip route get {FAR[version]}").out
    assert f"mtu {FAR_MTU}" in known


def test_names_are_found_by_the_netvm(lab: Host, internet: Internet) -> None:
    """From the root down, with DNSSEC; a name whose signature is wrong is none."""
    netvm = station(lab, "red")[1]
    assert found(lab, "red", "dns", netvm.four, "www.shop.example") == WEB[0]
    assert found(lab, "red", "dns", netvm.four, "www.shop.example", "AAAA") == WEB[1]
    assert found(lab, "red", "dns", netvm.four, "www.bogus.example") == "SERVFAIL"
    said = lab.vm_run("blue", "getent ahostsv4 other.shop.example").out
    assert said.split()[0] == OTHER_WEB[0]
    assert found(lab, "netvm", "dns", "127.0.0.1", "www.shop.example") == WEB[0]


def test_nobody_asks_but_the_netvm(lab: Host, internet: Internet) -> None:
    """No fallback: the client's resolver knows the netvm and no other."""
    netvm = station(lab, "red")[1]
    said = lab.vm_run("red", "resolvectl dns; resolvectl status | grep -i fallback", check=False).out
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("Link")] == [netvm.four]
    assert "allback" not in said


def test_interfaces_have_the_names_they_should(lab: Host, internet: Internet) -> None:
    for vm, wanted in {"netvm": {"red", "blue", "upstream"}, "red": {"upstream"}}.items():
        links = json.loads(lab.vm_run(vm, "ip -j link").out)
        assert {link["ifname"] for link in links} == {"lo", *wanted}


def test_vm_net_tells(lab: Host, internet: Internet) -> None:
    told = lab.run("vm-net", user=USER).out
    for name in FILES:
        assert name in told
    assert "upstream" in lab.run("vm-net", "red").out


# What should not.


def test_neighbours_are_alone(lab: Host, internet: Internet, capsys: pytest.CaptureFixture[str]) -> None:
    """Each attempt is shown elsewhere to arrive where there is no wall."""
    scenes = {vm: station(lab, vm) for vm in CLIENTS}
    (red, gateway), (blue, _) = scenes["red"], scenes["blue"]
    scene = Scene(red, gateway, blue, WEB)
    arrived, received = attempts(lab, "red", "blue", scene)
    table = [f"{'ARRIVED' if n in arrived else 'nothing':8} {one.what}" for n, one in enumerate(frames.ATTEMPTS)]
    with capsys.disabled():
        print("", "from red to blue, by way of their netvm:", *table, sep="\n")
    assert [frames.ATTEMPTS[number].what for number in sorted(arrived) if number != frames.LAST] == []
    assert received  # the listener heard what it may hear


def attempts(lab: Host, attacker: str, victim: str, scene: Scene) -> tuple[set[int], bool]:
    """Which attempts arrived; and whether the victim, that hears the internet, was listening to the end."""
    as_root = ("vm-run", "--user", "root")
    listener = lab.start(*as_root, victim, "python3", "-IS", "-", "listen", names.UPSTREAM, "15", user=USER)
    assert listener.popen.stdin
    listener.popen.stdin.write(FRAMES)
    listener.popen.stdin.close()
    listener.popen.stdin = None
    assert listener.read_line() == b"listening\n"
    command = ("--user", "root", attacker, "python3", "-IS", "-", "send", names.UPSTREAM, json.dumps(scene))
    said = lab.vm_run(*command, input=FRAMES).out
    assert len(json.loads(said)) == len(frames.ATTEMPTS)
    heard = probe(lab, victim, "echo", WEB[0]).code == 0
    running = listener.popen.poll() is None
    return set(json.loads(listener.wait(60).out)), heard and running


@pytest.mark.parametrize("vm", ["netvm", "red"])
def test_services_of_the_host_are_out_of_reach(lab: Host, internet: Internet, vm: str) -> None:
    """By none of the host's addresses: that of the link, those in the internet, and those of other VMs' links."""
    links = json.loads(lab.run("ip", "-j", "address").out)
    own = [one["local"] for link in links if link["ifname"] in (WAN, "netvm_up") for one in link["addr_info"]]
    assert {*HOST} < set(own)
    assert lab.run("python3", "-IS", "-", "tcp", HOST[0], str(HOST_PORT), input=PROBE).out == "connected\n"
    for address in own:
        if not address.startswith("fe80"):
            assert probe(lab, vm, "tcp", address, str(HOST_PORT), check=False).code == 1, address


def test_nobody_gets_in_unasked(lab: Host, internet: Internet) -> None:
    """From the internet, whose next hop knows the way to the clients' addresses, and from the host itself."""
    red = station(lab, "red")[0]
    for address in (red.four, red.six):
        version = "-6" if ":" in address else "-4"
        via = HOST[version == "-6"]
        lab.run("ip", "-n", "internet", version, "route", "replace", address, "via", via)
        asked = ("ip", "netns", "exec", "internet", "python3", "-IS", "-", "ping", address)
        assert lab.run(*asked, input=PROBE, check=False).code == 1
        assert lab.run("python3", "-IS", "-", "ping", address, input=PROBE, check=False).code == 1
        lab.run("ip", "-n", "internet", version, "route", "delete", address)


def test_without_its_netvm_a_client_has_nothing(lab: Host, internet: Internet) -> None:
    """Killed, and nothing falls back to the host; back again, all is well within moments of its being ready."""
    unit = names.vm_unit("netvm")
    lab.systemctl("kill", "--signal=KILL", unit)
    lab.wait_state(unit, "failed")
    for what in (("get", WEB[0]), ("get", WEB[1]), ("ping", WEB[0]), ("tcp", HOST[0], str(HOST_PORT))):
        assert probe(lab, "red", *what, check=False).code == 1, what
    assert "10.200" not in lab.run("ip", "-4", "-br", "address", "show", "up").out
    lab.systemctl("reset-failed", unit)
    lab.run("vm-start", "netvm", user=USER, timeout=300)
    ready = time.monotonic()
    while probe(lab, "red", "echo", WEB[0], check=False).code:
        if time.monotonic() - ready > RECOVERY:
            raise Failed(f"no network {RECOVERY} s after the netvm was ready")
    trust_root(lab, internet)
    assert found(lab, "blue", "get", WEB[1]) == HOST[1]


def test_stopping_leaves_nothing(lab: Host, internet: Internet) -> None:
    lab.run("vm-stop", *FILES, user=USER, timeout=300)
    lab.wait_for(lambda: "vmsilo" not in lab.run("nft", "list", "tables").out)
    left = [line for line in lab.run("ip", "-o", "link").out.splitlines() if f" {WAN}" not in line]
    assert len(left) == 1
    assert " lo:" in left[0]
