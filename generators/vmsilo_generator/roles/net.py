"""The host's end of a VM's network: TAPs, bridges, addresses and rules.

The one service of a VM in the host's network namespace. It is root, as whom alone /dev/net/tun can be opened on
every host, without root's powers over files, and has nothing to do with a guest: it reads the plan, speaks to the
kernel, and is gone before there is one.
"""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.sandbox import Assignments
from vmsilo_generator.unitfile import Link, Unit

PROGRAM = paths.LIBEXEC + "/net"
SETTINGS = "/proc/sys/net"

# Beside the plan: by what the addresses of interfaces differ from those on other hosts, and where libraries are.
OF_ETC = ("/etc/machine-id", "/etc/ld.so.cache")

TIMEOUT = 60  # seconds

# The module may not be loaded, and the unit itself can't ask for that.
MODULE_UNIT = "modprobe@tun.service"

FIREWALL_UNIT = "nftables.service"

POLICY = sandbox.Policy(("base", "unix", "net"))


def units(machine: Machine) -> Iterator[Unit | Link]:
    vm = machine.plan.vm
    plan = f"{paths.GENERATOR_DIR}/{names.plan_file(vm)}"
    up = unitfile.command(PROGRAM, "up", plan)
    yield Unit(
        names.net_unit(vm),
        (
            unitfile.about(
                f"Network of VM {vm}",
                machine.file,
                ("Documentation", "man:vmsilo-net(8)"),
                ("Wants", MODULE_UNIT),
                # A firewall that begins with removing all tables does so before ours come, and they come again after.
                ("After", f"{MODULE_UNIT} systemd-sysctl.service {FIREWALL_UNIT}"),
                ("ReloadPropagatedFrom", FIREWALL_UNIT),
                ("StopWhenUnneeded", "yes"),
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Service",
                (
                    ("Type", "oneshot"),
                    ("RemainAfterExit", "yes"),
                    # Says what is wrong in the status line, where vm-start looks.
                    ("NotifyAccess", "exec"),
                    ("ExecStart", up),
                    ("ExecReload", up),
                    ("ExecStopPost", unitfile.command(PROGRAM, "down", vm)),
                    ("TimeoutStartSec", str(TIMEOUT)),
                    ("Slice", names.slice_unit(vm)),
                    ("CapabilityBoundingSet", "CAP_NET_ADMIN"),
                    *ROOM,
                    # Root may do as it likes with processes whose user namespaces it made, and with all of root's.
                    *([("PrivatePIDs", "yes")] if machine.facts.private_pids else []),
                    *POLICY.lines(machine.facts),
                    *sandbox.view(sandbox.NOTIFY_SOCKET, plan, *OF_ETC, writable=(paths.TUN,)),
                ),
            ),
        ),
    )


# With all of /proc, where the kernel's settings are; of those, the network's are open.
ROOM: Assignments = (
    ("PrivateIPC", "yes"),
    ("IPAddressDeny", "any"),
    *((key, value) for key, value in sandbox.HELPER if key != "ProcSubset"),
    ("DeviceAllow", f"{paths.TUN} rw"),
    # Of root's secrets none.
    ("TemporaryFileSystem", "/etc:ro"),
    # Terminals of users, which root may open: PrivateDevices= leaves them there.
    ("InaccessiblePaths", "/dev/pts"),
    ("LimitCORE", "0"),
    ("NoNewPrivileges", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectSystem", "strict"),
    ("ReadWritePaths", SETTINGS),
    ("RestrictSUIDSGID", "yes"),
    ("UMask", "0077"),
)
