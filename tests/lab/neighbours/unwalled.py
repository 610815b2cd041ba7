"""The same neighbours without any wall: what arrives there shows that an attempt is one.

red and blue are network namespaces of the lab, connected by a wire without anything between them, and once more
by a router that forwards whatever it can.
"""

import json
from pathlib import Path

from lab.host import Host
from lab.neighbours import frames
from lab.neighbours.frames import Scene, Station

SCRIPT = (Path(__file__).parent / "frames.py").read_bytes()
ECHO = Path(__file__).parents[1] / "internet/server.py"
SECONDS = 5

_SERVER = ("198.51.100.80", "2001:db8:100::80")

# By topology: interface, MAC, addresses.
_WIRE = {
    "red": Station("52:54:00:00:01:01", "10.9.0.0", "fd00:9::", "fe80::1"),
    "blue": Station("52:54:00:00:01:02", "10.9.0.1", "fd00:9::1", "fe80::2"),
}
_ROUTED = {
    "red": Station("52:54:00:00:02:01", "10.8.0.0", "fd00:8::", "fe80::1"),
    "router-red": Station("52:54:00:00:02:02", "10.8.0.1", "fd00:8::1", "fe80::2"),
    "blue": Station("52:54:00:00:02:03", "10.8.0.2", "fd00:8::2", "fe80::1"),
    "router-blue": Station("52:54:00:00:02:04", "10.8.0.3", "fd00:8::3", "fe80::2"),
}


def _end(namespace: str, name: str, station: Station) -> str:
    at = f"ip -n {namespace}"
    return f"""
{at} link set dev {name} address {station.mac} addrgenmode none
{at} address add {station.four}/31 dev {name}
{at} address add {station.six}/127 dev {name} nodad
{at} address add {station.local}/64 dev {name} nodad
{at} link set dev {name} up
"""


def _script() -> str:
    lines = """
for name in red router blue; do
    ip netns add "un-$name"
    ip -n "un-$name" link set dev lo up
    ip netns exec "un-$name" sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
done
ip netns exec un-router sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n un-red link add wire type veth peer name wire netns un-blue
ip -n un-red link add routed type veth peer name red netns un-router
ip -n un-blue link add routed type veth peer name blue netns un-router
"""
    for name in ("red", "blue"):
        lines += _end(f"un-{name}", "wire", _WIRE[name])
        lines += _end(f"un-{name}", "routed", _ROUTED[name])
        lines += _end("un-router", name, _ROUTED[f"router-{name}"])
        lines += f"ip -n un-{name} route add default via {_ROUTED[f'router-{name}'].four}\n"
        lines += f"ip -n un-{name} route add default via {_ROUTED[f'router-{name}'].six}\n"
    return lines + "".join(f"ip -n un-router address add {address} dev lo\n" for address in _SERVER)


def arriving(lab: Host) -> tuple[set[int], set[int]]:
    """The numbers of the attempts that arrive: over a wire, and through a router."""
    lab.run("sh", "-eu", "-c", _script())
    lab.write("/run/unwalled-server.py", ECHO.read_bytes())
    place = "--property=NetworkNamespacePath=/run/netns/un-router"
    lab.run("systemd-run", "-q", "--unit=unwalled", place, "/usr/bin/python3", "-I", "/run/unwalled-server.py")
    wire = Scene(_WIRE["red"], _WIRE["blue"], _WIRE["blue"], _SERVER)
    routed = Scene(_ROUTED["red"], _ROUTED["router-red"], _ROUTED["blue"], _SERVER)
    try:
        return _try(lab, "wire", wire), _try(lab, "routed", routed)
    finally:
        lab.systemctl("stop", "unwalled")
        for name in ("red", "router", "blue"):
            lab.run("ip", "netns", "delete", f"un-{name}")


def _try(lab: Host, interface: str, scene: Scene) -> set[int]:
    listener = lab.start(*_program("un-blue", "listen", interface, str(SECONDS)))
    assert listener.popen.stdin
    listener.popen.stdin.write(SCRIPT)
    listener.popen.stdin.close()
    listener.popen.stdin = None
    assert listener.read_line() == b"listening\n"
    said = lab.run(*_program("un-red", "send", interface, json.dumps(scene)), input=SCRIPT).out
    assert len(json.loads(said)) == len(frames.ATTEMPTS)
    return set(json.loads(listener.wait().out))


def _program(namespace: str, *arguments: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace, "python3", "-IS", "-", *arguments)
