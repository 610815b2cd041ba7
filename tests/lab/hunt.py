"""The attackers of tests/lab/attack in the lab: what there is to reach, and how to run one in place of a program."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lab.attack.files import DEVICES
from lab.attack.trial import FAULT, Row, Scene
from lab.host import CONFIG, Host
from lab.tree import USER
from vmsilo import names, paths

PLACE = "/usr/local/lib/vmsilo-attack"
ATTACKER = f"{PLACE}/attacker"
SCENE = f"{PLACE}/scene"
REPORTS = "/var/lib/vmsilo-attack"

MARK = "vmsilo-attack"
LISTENERS = (f"/run/{MARK}.socket", f"/tmp/{MARK}.socket", f"/var/lib/{MARK}.socket")
ADDRESSES = ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1")
PORT = 47_000

_LAUNCHER = f"""#!/usr/bin/python3 -IS
import sys
sys.path.insert(0, "{PLACE}")
from lab.attack.main import main
sys.exit(main(sys.argv[1:]))
"""

# A host has programs that listen for everybody, and users with terminals.
_HOST = f"""
import os, pty, socket, signal
os.umask(0)
kept = []
for address in {[*LISTENERS, chr(0) + MARK]!r}:
    listener = socket.socket(socket.AF_UNIX)
    if not address.startswith(chr(0)) and os.path.exists(address):
        os.unlink(address)
    listener.bind(address)
    listener.listen(1000)
    kept.append(listener)
for address in {ADDRESSES!r}:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, {PORT}))
    listener.listen(1000)
    kept.append(listener)
leader, line = pty.openpty()
os.fchmod(line, 0o620)
print(os.ttyname(line), flush=True)
signal.pause()
"""

_PREPARE = f"""
mkdir -p {REPORTS} {paths.IMAGES}/other
cp /usr/bin/id {PLACE}/id
chmod 4755 {PLACE}/id
echo secret >/home/{USER}/secret
echo secret >/root/secret
echo secret >{paths.IMAGES}/other/rootfs
echo secret >/tmp/secret
truncate -s 1M /var/lib/prey.img
echo secret >/var/lib/prey.img
chmod 0666 /home/{USER}/secret /root/secret /tmp/secret /var/lib/prey.img
chmod 0711 /root /home/{USER}
ip address replace 192.0.2.1/32 dev lo
ip address replace 2001:db8::1/128 dev lo
while read -r name kind major minor; do
    [ -e /dev/$name ] && continue
    mkdir -p "$(dirname /dev/$name)"
    mknod -m 0666 /dev/$name $kind $major $minor
    echo /dev/$name >>{PLACE}/devices
done
"""

# Instead of what the unit runs; all else of it stays. (Before systemd 254 no oneshot may be restarted.)
_IN_PLACE = """\
[Service]
Type={service}
RemainAfterExit={remain}
ExecStart=
ExecStart={attacker} {scene} {verb}
ExecStartPost=
ExecStop=
ExecStopPost=
RestartForceExitStatus=
StandardOutput=truncate:{report}
StandardError=journal
"""


class Hunter(NamedTuple):
    """A unit whose program an attacker has taken over."""

    name: str  # a column of the table
    unit: str  # for a template, without an instance


def install(host: Host) -> None:
    """Put the attacker where programs are: in every unit's view."""
    source = Path(__file__).parent
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in (source / "__init__.py", *sorted((source / "attack").glob("*.py"))):
            archive.add(path, f"lab/{path.relative_to(source)}")
    host.run("mkdir", "-p", PLACE)
    host.run("tar", "-x", "--no-same-owner", "-C", PLACE, input=packed.getvalue())
    host.write(ATTACKER, _LAUNCHER, mode="0755")


@contextmanager
def scenery(host: Host, prey: str) -> Iterator[Scene]:
    """All that there is to reach, beside the running VM *prey*. Every bit of it is open to all users of the host."""
    install(host)
    nodes = "".join(f"{name} {' '.join(map(str, node))}\n" for name, node in DEVICES.items())
    host.run("sh", "-ec", _PREPARE, input=nodes)
    programs = host.start("python3", "-c", _HOST)
    try:
        terminal = programs.read_line().decode().strip()
        found = scene(host, prey, terminal)
        host.write(SCENE, json.dumps(found._asdict()))
        yield found
    finally:
        programs.stop()
        programs.wait()
        host.run("sh", "-c", f"xargs rm -f <{PLACE}/devices; rm -rf {PLACE} {REPORTS} /var/lib/prey.img /tmp/secret")


def scene(host: Host, prey: str, terminal: str) -> Scene:
    vm_dir = paths.vm_dir(prey)
    return Scene(
        victim=prey,
        victim_uid=int(host.run("id", "-u", names.user(prey)).out),
        victim_pid=host.main_pid(names.vm_unit(prey)),
        files={
            "the host's password hashes": "/etc/shadow",
            "a user's file": f"/home/{USER}/secret",
            "root's file": "/root/secret",
            "a file in the host's /tmp": "/tmp/secret",
            "another VM's disk": "/var/lib/prey.img",
            "another VM's configuration": f"{CONFIG}/{prey}.toml",
            "another VM's unit": f"{paths.GENERATOR_DIR}/{names.vm_unit(prey)}",
            "another VM's plan": f"{paths.GENERATOR_DIR}/{names.plan_file(prey)}",
            "another VM's running plan": f"{vm_dir}/{paths.RUNNING_PLAN}",
            "another VM's console": f"{vm_dir}/{paths.CONSOLE_LOG}",
            "another VM's image": f"{paths.IMAGES}/other/rootfs",
        },
        writable={
            "to the user database": "/etc/passwd",
            "to another VM's disk": "/var/lib/prey.img",
            "to another VM's console": f"{vm_dir}/{paths.CONSOLE_INPUT}",
            "to a file in the host's /tmp": "/tmp/secret",
            "to a program": "/usr/bin/true",
        },
        directories={
            "/home": USER,
            "/root": "secret",
            "/tmp": "secret",
            "/run/vmsilo": prey,
            "/var/lib/vmsilo": prey,
            "/var/lib/private/vmsilo": prey,
            CONFIG: f"{prey}.toml",
            paths.GENERATOR_DIR: names.vm_unit(prey),
            paths.IMAGES: "other",
            "/var/log": "",
        },
        sockets=[
            paths.command_socket(prey),
            paths.console_socket(prey),
            f"{vm_dir}/control.socket",
            paths.hybrid_vsock(prey, by_hypervisor=False),
            *LISTENERS,
        ],
        abstract=MARK,
        addresses=[(address, PORT) for address in ADDRESSES],
        cid=host.cid(prey),
        own="",
        setuid=f"{PLACE}/id",
        terminal=terminal,
        mark=f"{MARK}-meeting",
    )


@contextmanager
def taken_over(
    host: Host, hunters: Sequence[Hunter], verb: str = "attack", service: str = "oneshot"
) -> Iterator[None]:
    """For a while, the units run the attacker, whose report is collect()'s."""
    try:
        for hunter in hunters:
            text = _IN_PLACE.format(
                service=service,
                attacker=ATTACKER,
                scene=SCENE,
                verb=verb,
                report=f"{REPORTS}/{hunter.name}",
                # For those whose unit asks for this one.
                remain="no" if "@" in hunter.unit else "yes",
            )
            host.write(f"/run/systemd/system/{hunter.unit}.d/attack.conf", text)
        host.run("rm", "-f", *[f"{REPORTS}/{hunter.name}" for hunter in hunters])
        host.reload()
        yield
    finally:
        host.systemctl("stop", *[hunter.unit for hunter in hunters if "@" not in hunter.unit], check=False)
        host.run("rm", "-rf", *[f"/run/systemd/system/{hunter.unit}.d" for hunter in hunters])
        host.reload()


def rows(text: str) -> list[Row]:
    return [Row(*row) for row in json.loads(text)]


def collect(host: Host, name: str) -> list[Row]:
    return rows(host.read(f"{REPORTS}/{name}"))


def table(reports: dict[str, list[Row]]) -> str:
    """How each attempt ended in each place; what succeeded stands out."""
    outcomes = {place: {row.what: row for row in found} for place, found in reports.items()}
    widths = {place: max(len(place), 12) for place in reports}
    lines = [" " * 48 + "  ".join(place.ljust(widths[place]) for place in reports)]
    group = ""
    for row in next(iter(reports.values())):
        if row.group != group:
            group = row.group
            lines.append(f"{group}:")
        cells = [shown(outcomes[place].get(row.what)).ljust(widths[place])[: widths[place]] for place in reports]
        lines.append(f"  {row.what[:44]:<46}" + "  ".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def shown(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.detail.startswith(FAULT):
        return FAULT
    return "OPEN" if row.succeeded else row.detail
