"""A VM's home on the host: what makes it at the first start, and what makes the directory that homes are in.

Neither runs again once it has done its work: their conditions skip them, which costs nothing.
"""

from collections.abc import Iterator

from vmsilo import names, paths
from vmsilo_generator import unitfile
from vmsilo_generator.machine import Machine
from vmsilo_generator.model import Facts, Home, Host
from vmsilo_generator.roles import sandbox
from vmsilo_generator.roles.sandbox import Assignments
from vmsilo_generator.unitfile import Link, Unit, command, text, words

VM_HOME = paths.LIBEXEC + "/vm-home"

# Of the second command alone, and only where the template or the place is not the user's: to give files away, to get
# past permissions, and to change what belongs to others by then.
CAPABILITIES = (("CapabilityBoundingSet", "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER"),)

# The helper copies as deep as this allows, with two descriptors a level. What it copies to a file system in memory
# counts as its own memory.
FILES_MAX = "1024"

WITHOUT_HOMES = [line for line in sandbox.HELPER if line not in sandbox.HOMES]

VIEW = (sandbox.NOTIFY_SOCKET, paths.HOME_TEMPLATE)


POLICY = sandbox.Policy(("base", "unix", "vm-home"))


def units(machine: Machine, home: Home) -> Iterator[Unit | Link]:
    """What makes the home of a VM that has one."""
    vm = machine.plan.vm
    steps = home.path.split("/")
    # A link on the way is judged by the helper, at every start.
    on_the_way = ["/".join(steps[:count]) for count in range(2, len(steps) + 1)]
    arguments = [*(["--parent"] if home.ours else []), paths.HOME_TEMPLATE, home.path]
    yield Unit(
        names.home_unit(vm),
        (
            unitfile.about(
                f"Home of VM {vm}",
                machine.file,
                ("Wants", names.SHARED_UNIT),
                ("After", names.SHARED_UNIT),
                ("ConditionPathExists", text("|!" + home.path)),
                *[("ConditionPathIsSymbolicLink", text("|" + path)) for path in on_the_way],
                ("RequiresMountsFor", words(home.path, paths.HOME_TEMPLATE)),
                ("StartLimitIntervalSec", "0"),
            ),
            (
                "Service",
                (
                    ("Type", "oneshot"),
                    ("NotifyAccess", "main"),  # for the reason of a failure
                    ("ExecStart", command(VM_HOME, *arguments)),
                    # As root, with the capabilities below. Who may do all that is to be done leaves nothing to this.
                    ("ExecStart", "!" + command(VM_HOME, "--foreign", *arguments)),
                    ("Slice", names.slice_unit(vm)),
                    ("User", text(machine.owner)),
                    ("UMask", "0077"),
                    ("NoNewPrivileges", "yes"),
                    *CAPABILITIES,
                    *sandbox.NO_NETWORK,
                    *[line for line in WITHOUT_HOMES if line[0] not in ("LimitNOFILE", "MemoryMax")],
                    *POLICY.lines(machine.facts),
                    ("LimitNOFILE", FILES_MAX),
                    ("ProtectSystem", "strict"),
                    *places(home),
                ),
            ),
        ),
    )


def places(home: Home) -> Assignments:
    """The one directory that is written in; and /home and /run are empty, unless it is in there."""
    parent = paths.SHARED if home.ours else home.path.rpartition("/")[0] or "/"
    # Where it would be empty.
    inside = (parent,) if parent.startswith(("/var/", "/media/", "/mnt/", "/srv/")) else ()
    return (
        ("ProtectHome", "read-only" if parent.startswith(("/home", "/root", "/run")) else "yes"),
        *([] if parent.startswith("/run") else sandbox.view(*VIEW, writable=inside)),
        ("ReadWritePaths", words("-" + parent)),
    )


def shared(host: Host, facts: Facts) -> Iterator[Unit | Link]:
    """What makes the directory of homes and the template, both the user's, whom no static file can know."""
    owner = f":{host.user} :{host.gid}"
    yield Unit(
        names.SHARED_UNIT,
        (
            unitfile.about(
                "Directory and template of VMs' homes",
                host.file,
                ("ConditionPathExists", "|!" + paths.SHARED),
                ("ConditionPathExists", "|!" + paths.HOME_TEMPLATE),
                ("RequiresMountsFor", words(paths.SHARED, paths.HOME_TEMPLATE)),
            ),
            (
                "Service",
                (
                    ("Type", "oneshot"),
                    ("StandardInputText", text(f"d {paths.SHARED} :0755 {owner} - -")),
                    (
                        "StandardInputText",
                        text(f"C {paths.HOME_TEMPLATE} - {owner} - {paths.INSTALLED_HOME_TEMPLATE}"),
                    ),
                    ("ExecStart", command("systemd-tmpfiles", "--create", "-")),
                    ("NoNewPrivileges", "yes"),
                    *CAPABILITIES,
                    *sandbox.NO_NETWORK,
                    *WITHOUT_HOMES,
                    *POLICY.lines(facts),
                    # Not strict: it makes a directory in /.
                    ("ProtectSystem", "full"),
                    ("ProtectHome", "yes"),
                    ("PrivateTmp", "yes"),
                    ("TemporaryFileSystem", "/run:ro"),
                ),
            ),
        ),
    )
