"""The virtiofsd of each shared directory, and the socket at which the hypervisor meets it.

systemd listens, so the hypervisor may connect before virtiofsd runs. It is started with the VM all the same, side
by side with the others. It serves one connection and ends with it, and the next VM starts the next one.

Who can connect: the socket is open to all, but its directory to nobody but root. The VM's unit alone has it in its
view. (SocketUser= can't name the VM's user, which does not exist before its unit runs.)
"""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import ROOT, Machine, Server
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.refusal import CALLS
from vmsilo_generator.roles.sandbox import Assignments, Policy
from vmsilo_generator.unitfile import Link, Unit, command, text, words

# As many files as a guest may have open or cached; virtiofsd holds one for each.
FILES_MAX = "1048576"

# virtiofsd ends when it is told to. One that hangs in a dead file system must not keep the next start waiting.
STOP_SECONDS = "5"

# One that dies at once is not started for ever: then the socket fails, and whoever waits at it hears of it.
STARTS_MAX = "3"
STARTS_SECONDS = "5"

# Where programs and their libraries are: all of the host, beside its directory, that virtiofsd sees.
PROGRAMS = ("/usr", "/lib", "/lib64", "/nix/store", "/run/current-system")

# For files of any owner; and CAP_SETPCAP, with which it takes every other one from itself, this one included. Neither
# CAP_MKNOD nor CAP_SETFCAP: a device or a privileged program in a shared directory would be one of the host's.
ROOT_CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_SETGID CAP_SETPCAP CAP_SETUID"
)

# To write the maps of a user namespace. Who is in there has none outside.
MAP_CAPABILITIES = "CAP_SETGID CAP_SETUID"

LAUNCH = paths.LIBEXEC + "/vm-launch"

WITHOUT_HOMES = [line for line in sandbox.KERNEL if line not in sandbox.HOMES]


def units(machine: Machine) -> Iterator[Unit | Link]:
    for server in machine.servers:
        policy = policy_of(server)
        yield socket(machine, server)
        yield service(machine, server, policy)


def policy_of(server: Server) -> Policy:
    more = []
    if server.uid_map:
        more = ["virtiofsd-mapped"]
    elif server.user == ROOT:
        more = ["virtiofsd-root"]
    return Policy(("base", "unix", "threads", "virtiofsd", *more), log=server.seccomp_log)


def description(machine: Machine, server: Server) -> str:
    note = sandbox.note(off=not server.sandbox, log=server.seccomp_log)
    return names.share_description(machine.plan.vm, server.tag, note)


def socket(machine: Machine, server: Server) -> Unit:
    vm = machine.plan.vm
    command_socket = names.command_socket_unit(vm)
    return Unit(
        names.share_socket_unit(vm, server.tag),
        (
            unitfile.about(
                description(machine, server),
                machine.file,
                # Which makes the directories above, and makes them such that others can pass.
                ("Wants", command_socket),
                ("After", command_socket),
                *(after_directory(machine, server) if server.user == ROOT else ()),
                ("StopWhenUnneeded", "yes"),
                # As for the VM: no start is one too many.
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Socket",
                (
                    ("ListenStream", text(paths.share_socket(vm, server.tag))),
                    ("SocketMode", "0666"),
                    ("DirectoryMode", "0700"),
                    ("RemoveOnStop", "yes"),
                    ("TriggerLimitIntervalSec", STARTS_SECONDS),
                    ("TriggerLimitBurst", STARTS_MAX),
                    *finding(vm, server),
                ),
            ),
        ),
    )


def service(machine: Machine, server: Server, policy: Policy) -> Unit:
    vm = machine.plan.vm
    socket_unit = names.share_socket_unit(vm, server.tag)
    return Unit(
        names.share_service_unit(vm, server.tag),
        (
            unitfile.about(
                description(machine, server),
                machine.file,
                # The socket can't be started while this one runs, so it must not be left behind.
                ("BindsTo", socket_unit),
                ("After", socket_unit),
                *made_by(machine, server),
                ("RequiresMountsFor", words(server.path)),
                ("JoinsNamespaceOf", names.vm_unit(vm)),
                ("StopWhenUnneeded", "yes"),
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Service",
                (
                    # The hypervisor's unit need not wait for what it finds out itself.
                    ("Type", "simple"),
                    ("ExecSearchPath", ":".join(paths.VIRTIOFSD_DIRECTORIES)),
                    ("ExecStart", start(vm, server, policy)),
                    ("SyslogIdentifier", paths.VIRTIOFSD),
                    ("TimeoutStopSec", STOP_SECONDS),
                    ("Slice", names.slice_unit(vm)),
                    # Named, even root would be left without CAP_SETUID.
                    *([] if server.user == ROOT else [("User", server.user)]),
                    ("UMask", "0077"),
                    ("NoNewPrivileges", "yes"),
                    # Nor does a guest get to leave a program that makes of any user of the host the share's, or root.
                    ("RestrictSUIDSGID", "yes"),
                    ("LimitNOFILE", FILES_MAX),
                    # It maps the guest's memory.
                    ("LimitCORE", "0"),
                    *capabilities(server),
                    *policy.lines(machine.facts),
                    *(hardening(machine, server) if server.sandbox else ()),
                ),
            ),
        ),
    )


def after_directory(machine: Machine, server: Server) -> Assignments:
    """What a socket waits for that looks for the directory. By default others wait for sockets, and it for none."""
    return (
        ("DefaultDependencies", "no"),
        ("Requires", "sysinit.target"),
        ("After", "sysinit.target"),
        ("Conflicts", "shutdown.target"),
        ("Before", "shutdown.target"),
        ("RequiresMountsFor", words(server.path)),
        *made_by(machine, server),
    )


def finding(vm: str, server: Server) -> Assignments:
    """What finds the directory for a virtiofsd that is root: systemd would follow any user's links to it."""
    if server.user != ROOT:
        return ()
    return (
        ("ExecStartPost", command(LAUNCH, "find", server.path, paths.share_note(vm, server.tag))),
        # To pass directories of users.
        ("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH"),
        *[line for line in sandbox.HELPER if line not in sandbox.HOMES],
        *CALLS,
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ReadWritePaths", words(paths.RUN)),
        ("UMask", "0077"),
    )


def start(vm: str, server: Server, policy: Policy) -> str:
    line = [paths.VIRTIOFSD, *server.arguments]
    if server.uid_map:
        # Its own option for that wants to be started by a user, and a set-user-id program that makes the map for him.
        line = [LAUNCH, "map", server.uid_map, server.gid_map, *line]
    if server.user == ROOT:
        inside = paths.share_inside(server.path) if server.sandbox else server.path
        line = [LAUNCH, "serve", inside, paths.share_note(vm, server.tag), *line]
    return policy.command(*line)


def made_by(machine: Machine, server: Server) -> Assignments:
    """What makes the directory, if that is a home."""
    if machine.home is None or server.tag != names.HOME_TAG:
        return ()
    unit = names.home_unit(machine.plan.vm)
    return (("Requires", unit), ("After", unit))


def capabilities(server: Server) -> Assignments:
    if server.uid_map:
        return (("CapabilityBoundingSet", MAP_CAPABILITIES),)
    # No PrivateUsers= in either case: the guest would see files of all other users as nobody's, and could name none
    # of them in an access control list.
    return (("CapabilityBoundingSet", ROOT_CAPABILITIES if server.user == ROOT else ""),)


def hardening(machine: Machine, server: Server) -> Assignments:
    note = paths.share_note(machine.plan.vm, server.tag)
    bound = f"{words(server.path)}:{words(paths.share_inside(server.path))}"
    return (
        *sandbox.NO_NETWORK,
        *WITHOUT_HOMES,
        # What it serves of homes stands elsewhere in its root.
        ("ProtectHome", "yes"),
        # No more: with "strict" it would see the root of the host, and with "full" an /etc would have to be there.
        ("ProtectSystem", "yes"),
        # Root may do as it likes with processes whose user namespaces it made, and with all others of root's.
        *([("PrivatePIDs", "yes")] if server.user == ROOT and machine.facts.private_pids else []),
        # With all of /proc: it reads there how many files it may hold, whatever it has been told. There is no /tmp in
        # this root, private or not.
        ("TemporaryFileSystem", "/:ro"),
        # Terminals of users, which root may open, and shared memory: PrivateDevices= leaves both there.
        ("InaccessiblePaths", "/dev/pts /dev/shm"),
        ("BindReadOnlyPaths", words(*["-" + path for path in PROGRAMS])),
        *([("BindReadOnlyPaths", words(note))] if server.user == ROOT else []),
        ("BindReadOnlyPaths" if server.readonly else "BindPaths", bound),
    )
