"""Somebody has taken over a program of a VM: within the walls of its unit he gets nowhere."""

import json
from collections.abc import Iterator

import pytest

from lab import cache, config, hunt
from lab.attack.trial import FAULT, Row, Scene
from lab.host import Host
from lab.hunt import Hunter
from lab.networks import plan_of, planned
from lab.tree import STRANGER, USER
from vmsilo import names, paths, ports

PREY = "prey"
MINE = "/srv/hunter/mine"
ALL = "/srv/hunter/all"
MAPPED = "/srv/hunter/mapped"

HUNTERS = {
    "hunter-qemu": config.vm(
        "minimal",
        config.share("mine", MINE),
        config.share("all", ALL, foreignOwners=True),
        config.share("mapped", MAPPED, uidMap=":0:100000:65536:", gidMap=":0:100000:65536:"),
    ),
    "hunter-cloud": config.vm(hypervisor="cloud-hypervisor"),
    "hunter-crosvm": config.vm(hypervisor="crosvm"),
    "hunter-open": config.vm("minimal", "[qemu]\ndisableSandbox = true"),
}

UNITS = (
    Hunter("qemu", names.vm_unit("hunter-qemu")),
    Hunter("cloud", names.vm_unit("hunter-cloud")),
    Hunter("crosvm", names.vm_unit("hunter-crosvm")),
    Hunter("vsock", names.vsock_unit("hunter-qemu")),
    Hunter("connector", names.command_service_unit("hunter-qemu")),
    Hunter("console", names.console_service_unit("hunter-qemu")),
    Hunter("share", names.share_service_unit("hunter-qemu", "mine")),
    Hunter("mapped share", names.share_service_unit("hunter-qemu", "mapped")),
    Hunter("root's share", names.share_service_unit("hunter-qemu", "all")),
    Hunter("network", names.net_unit("hunter-net")),
)
OPEN = Hunter("open", names.vm_unit("hunter-open"))

_VSOCK = "the hypervisor's device and the guest's message that it is ready may be the kernel's"
_JAILS = "crosvm puts its devices into namespaces of their own; what they are good for, the other rows show"

_ANY_OWNER = ("become root", "become the other VM's user", "join root's group", "give a file away")
_BEFORE_THE_MAP = (
    "make a user namespace",
    "start a process in a new user namespace",
    "become root",
    "become the other VM's user",
    "join root's group",
    "run a set-user-ID program",
)
_PROC = dict.fromkeys(("read /proc/keys", "read /proc/cmdline"), "it reads in /proc how many files it may hold")

# What succeeds all the same, and why that is no way out.
EXPECTED: dict[str, dict[str, str]] = {
    "qemu": {
        "write code": "QEMU without KVM translates the guest's code",
        "make written memory executable": "as above",
        "make a socket: vsock": _VSOCK,
    },
    "cloud": {},
    "crosvm": {
        "make a socket: vsock": _VSOCK,
        "make a user namespace": _JAILS,
        "start a process in a new user namespace": _JAILS,
        "mount a file system": _JAILS,
        "read /proc/keys": "its own, which are none",
        "read /proc/cmdline": "it reads what its host has from /proc",
    },
    "vsock": {},
    "connector": {"make a socket: vsock": _VSOCK},
    "console": {},
    "share": _PROC,
    "mapped share": {
        **_PROC,
        **dict.fromkeys(_BEFORE_THE_MAP, "this is vm-launch still, which makes the map; virtiofsd is behind it"),
    },
    "root's share": {
        **_PROC,
        **dict.fromkeys(_ANY_OWNER, "it makes files of any owner"),
    },
    "network": {
        **dict.fromkeys(("read /proc/keys", "read /proc/cmdline"), "it writes the kernel's settings in /proc"),
        "open /dev/net/tun": "it makes the TAPs",
        **dict.fromkeys(("make a socket: netlink", "make a socket: netlink netfilter"), "interfaces and rules"),
        "make a socket: netlink audit": "a policy knows families only; one without rights to it gets no word of it",
        "connect to an abstract socket of the host": "it is in the host's network, and tells the service manager",
        "run a set-user-ID program": "it is root, and gains nothing",
    },
}

# There is no PrivatePIDs= then (vmsilo-security(7)).
ROOTS_BEFORE_257 = frozenset(
    {
        "see processes of others",
        "read the command line of PID 1",
        "open the memory of another VM's hypervisor",
        "read the environment of another VM's hypervisor",
        "read the command line of another VM's hypervisor",
        "go through the root of another VM's hypervisor",
    }
)
ROOTS = ("mapped share", "root's share", "network")

# What not even root without any walls gets to, in the lab or under some kernels: where it doesn't, nothing is proved.
UNABLE = frozenset(
    {
        "write to /proc/sysrq-trigger",
        "write to /proc/sys/kernel/core_pattern",
        "write to /proc/sys/kernel/modprobe",
        "write to /proc/sys/vm/drop_caches",
        "write to /sys/kernel/uevent_helper",
        "write to /sys/power/state",
        "write to /sys/module/kernel/parameters/panic",
        "write to /sys/devices/system/cpu/cpu1/online",
        "read /proc/kcore",
        "make a control group",
        "connect to /run/systemd/io.systemd.ManagedOOM",  # systemd 252 listens there for others
        "become the last one to be killed for memory",
        *("make a socket: " + kind for kind in ("Bluetooth", "CAN", "MPTCP", "SMC", "TIPC", "X.25", "XDP")),
        *("make a socket: " + kind for kind in ("crypto", "key", "vsock")),
        "connect to another guest by vsock",
        "load a module",
        "load a module from a file",
        "unload a module",
        "load another kernel",
        "use ports of the hardware",
        "use all ports of the hardware",
        "make i386 system calls",
        "raise a limit",
        "hide memory from the kernel",
        "use io_uring",
        "type into the terminal",
    }
)

# The least that one finds who has only the user, and the system calls.
FOUND_OUTSIDE = frozenset(
    {
        "read a user's file",
        "read another VM's unit",
        "see processes of others",
        "open /dev/fuse",
        "connect to an abstract socket of the host",
        "connect to the system bus",
        "write to the journal",
        "write code",
    }
)


@pytest.fixture(scope="module")
def scene(lab: Host) -> Iterator[Scene]:
    lab.run("install", "-d", f"--owner={USER}", "/srv/hunter", MINE, ALL, MAPPED)
    with lab.configured({PREY: config.vm(), **HUNTERS}), planned(lab, [plan_of("hunter-net")]):
        lab.vm_run(PREY, "true")
        with hunt.scenery(lab, PREY) as found:
            yield found


@pytest.fixture(scope="module")
def reports(lab: Host, scene: Scene, pytestconfig: pytest.Config) -> dict[str, list[Row]]:
    """What became of the attacker in each place, and of one without any walls."""
    hunters = (*UNITS, OPEN)
    with hunt.taken_over(lab, hunters), cache.step("attackers at work"):
        lab.systemctl("start", *[hunter.unit for hunter in hunters if "@" not in hunter.unit])
        for socket in (paths.command_socket("hunter-qemu"), paths.console_socket("hunter-qemu")):
            lab.run("socat", "-u", f"UNIX-CONNECT:{socket}", "-", user=USER)
        found = {hunter.name: hunt.collect(lab, hunter.name) for hunter in hunters}
        everything = lab.run(hunt.ATTACKER, hunt.SCENE, "attack", env={"STATE_DIRECTORY": hunt.REPORTS})
        found["root"] = hunt.rows(everything.out)
    if pytestconfig.get_verbosity() > 0:
        cache.say(hunt.table(found))
    return found


@pytest.mark.parametrize("place", [hunter.name for hunter in UNITS])
def test_no_way_out(lab: Host, reports: dict[str, list[Row]], place: str) -> None:
    print(hunt.table(reports))
    expected = {*EXPECTED[place], *(ROOTS_BEFORE_257 if place in ROOTS and lab.systemd_version() < 257 else ())}
    succeeded = [row.what for row in reports[place] if row.succeeded and row.what not in expected]
    assert not succeeded, "\n".join(succeeded)


def test_the_attacker_is_no_fool(reports: dict[str, list[Row]]) -> None:
    """What is refused above succeeds where nothing refuses it."""
    print(hunt.table(reports))
    root = {row.what: row for row in reports["root"]}
    assert not [row for rows in reports.values() for row in rows if row.detail.startswith(FAULT)]
    assert {what for what, row in root.items() if not row.succeeded} <= UNABLE
    assert {row.what for row in reports["open"] if row.succeeded} >= FOUND_OUTSIDE
    assert all([row.what for row in rows] == list(root) for rows in reports.values())


def test_nowhere_to_meet(lab: Host, scene: Scene) -> None:
    """Attackers of two VMs leave each other marks. Users of the host, who may, meet in the places where one can."""
    leaver, seekers = UNITS[0], UNITS[1:3]
    with (
        hunt.taken_over(lab, [leaver], "leave", "exec"),
        hunt.taken_over(lab, seekers, "seek"),
    ):
        lab.systemctl("start", leaver.unit)
        lab.wait_for(lambda: lab.run("test", "-s", f"{hunt.REPORTS}/{leaver.name}", check=False).code == 0)
        lab.systemctl("start", *[seeker.unit for seeker in seekers])
        left = {row.what for row in hunt.collect(lab, leaver.name)}
        found = {seeker.name: hunt.collect(lab, seeker.name) for seeker in seekers}
    users = lab.start(hunt.ATTACKER, hunt.SCENE, "leave", user=USER)
    try:
        left_by_users = {row.what for row in hunt.rows(users.read_line().decode())}
        found["users"] = hunt.rows(lab.run(hunt.ATTACKER, hunt.SCENE, "seek", user=STRANGER).out)
    finally:
        users.stop()
        users.wait()
    print(f"left: {sorted(left)}\nleft by users: {sorted(left_by_users)}\n{hunt.table(found)}")
    assert left >= {"a file in /tmp", "a socket in /tmp", "an abstract socket"}
    assert {row.what for row in found.pop("users") if row.succeeded} >= {
        *(left - {"vsock"}),  # which has no loopback in the lab
        "a file in /dev/shm",
        "IPv4",
    }
    assert [(seeker, row.what) for seeker, rows in found.items() for row in rows if row.succeeded] == []


def test_lies_to_the_service_manager(lab: Host, scene: Scene) -> None:
    """A hypervisor may say how it is. It can't name another process, leave files, or write to terminals."""
    hunter = UNITS[0]
    with hunt.taken_over(lab, [hunter], "notify", "notify"):
        lab.systemctl("start", hunter.unit)
        told = lab.show(hunter.unit, "MainPID", "NFileDescriptorStore", "StatusText")
        assert "attacker" in lab.read(f"/proc/{told['MainPID']}/cmdline")
        assert told["NFileDescriptorStore"] == "0"
        shown = lab.run("vm-list", user=USER).raw + lab.run("vm-list", "--json", user=USER).raw
    print(told, shown)
    assert "forged" in told["StatusText"]
    assert b"\x1b" not in shown
    assert lab.state(hunter.unit) == "inactive"


# To what of these a guest's vsock connects; nobody answers for a guest that isn't there.
_CONNECT = """
import errno, json, select, socket, sys, time
connections, outcomes, end = {}, {}, time.monotonic() + 5
poll = select.poll()
for number, (cid, port) in enumerate(json.loads(sys.argv[1])):
    connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connection.setblocking(False)
    outcomes[number] = errno.errorcode.get(connection.connect_ex((cid, port)), "connected")
    if outcomes[number] == "EINPROGRESS":
        poll.register(connection, select.POLLOUT)
        connections[connection.fileno()] = number, connection
while connections and time.monotonic() < end:
    for descriptor, _ in poll.poll(1000):
        number, connection = connections.pop(descriptor)
        poll.unregister(descriptor)
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        outcomes[number] = errno.errorcode[error] if error else "connected"
print(json.dumps(list(outcomes.values())))
"""

_LISTEN = """
import os, socket, signal, sys
os.umask(0)
kept = []
for path in sys.argv[1:]:
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].bind(path)
    kept[-1].listen(100)
print("listening", flush=True)
signal.pause()
"""


def test_vsock_leads_nowhere(lab: Host, scene: Scene) -> None:
    """A guest reaches the ports of the host that a program of its own VM listens on: no others, no other guest."""
    guest, prey = "hunter-guest", lab.cid(PREY)
    with lab.configured({guest: config.vm()}):
        own = lab.cid(guest)
        lab.vm_run(guest, "true")
        open_port, other_port = 4711, 4712
        sockets = [f"{paths.vsock_dir(vm)}/guest.socket_{port}" for vm, port in ((guest, 4711), (PREY, 4712))]
        listener = lab.start("python3", "-c", _LISTEN, *sockets)
        try:
            assert listener.read_line() == b"listening\n"
            targets = [
                (ports.HOST_CID, open_port),
                (ports.HOST_CID, other_port),
                *((ports.HOST_CID, port) for port in (1, 22, 1023, 5000, 5001, 5002, 5003, prey, own, 0xFFFF_FFFE)),
                *((prey, port) for port in (22, ports.COMMAND, ports.USB, other_port)),
                *((cid, ports.COMMAND) for cid in (0, own + 1, 0xFFFF_FFFE)),
            ]
            said = lab.vm_run("--user", "root", guest, "python3", "-c", _CONNECT, json.dumps(targets))
            outcomes = dict(zip(targets, json.loads(said.out), strict=True))
        finally:
            listener.stop()
            listener.wait()
            lab.run("rm", "-f", *sockets)
    print(outcomes)
    assert outcomes.pop((ports.HOST_CID, open_port)) == "connected"
    assert {target for target, outcome in outcomes.items() if outcome == "connected"} == set()
