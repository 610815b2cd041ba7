"""What systemd makes of the units: not our idea of its parser, but the parser."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import config
from lab.host import CONFIG, Host
from vmsilo import names, paths
from vmsilo_generator import unitfile

GENERATOR = "/usr/lib/systemd/system-generators/vmsilo-generator"

# systemd-analyze verify looks for programs where the manager would, were it not for ExecSearchPath=, which it passes
# over: so it does not find virtiofsd.
NO_HOME = "sharedHome = false\n"

# One of each kind; none of them is started.
FILES = {
    "plain": config.vm(),
    "cloud": NO_HOME + 'image = "minimal"\nhypervisor = "cloud-hypervisor"\nmemory = 1024\n',
    "chrome": NO_HOME + 'image = "minimal"\nhypervisor = "crosvm"\nrootDisk = "/var/lib/disk.img"\n',
    "a-b": config.vm(dependsOn=["plain"], autoStart=True, kernelParams=["a=%n", 'b="c d"', "e=$f"]),
    "a": config.vm("minimal", '[qemu]\nextraArgs = ["-name", "x;y%z $HOME \\\\ \\"q\\""]'),
    "files": config.vm("minimal", config.share("all", "/srv", foreignOwners=True)),
    "needs-wrong": config.vm(dependsOn=["wrong"]),
    "wrong": 'memory = "lots"\nhypervisor = "%i $x \\\\"\n',
}


@pytest.fixture(scope="module", autouse=True)
def vms(lab: Host) -> Iterator[None]:
    with lab.configured(FILES):
        yield


def generated(lab: Host) -> list[str]:
    """Paths of the unit files."""
    found = lab.run("find", paths.GENERATOR_DIR, "-name", "vmsilo*", "-type", "f").out.split()
    return sorted(path for path in found if not path.endswith(".plan"))


def test_verify_has_nothing_to_say(lab: Host) -> None:
    units = generated(lab)
    assert {f"{paths.GENERATOR_DIR}/{names.vm_unit(vm)}" for vm in FILES if "wrong" not in vm} <= set(units)
    done = lab.run("systemd-analyze", "verify", "--man=yes", "--recursive-errors=yes", *units, check=False)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_systemd_has_no_complaint_at_reload(lab: Host) -> None:
    before = lab.now()
    lab.reload()
    complaints = lab.journal("-p", "warning", since=before).splitlines()
    # The generator itself complains of the one bad file; it has no other fault to find.
    assert [line for line in complaints if "vmsilo-generator" not in line] == []


def test_no_wall_is_left_out_that_systemd_has(lab: Host) -> None:
    server = lab.read(f"{paths.GENERATOR_DIR}/{names.share_service_unit('files', 'all')}")
    assert ("PrivatePIDs=yes\n" in server) is (lab.systemd_version() >= 257)


def test_same_input_same_bytes(lab: Host) -> None:
    """Whatever the order in which the directory lists its files, and wherever the output goes."""
    script = f"""
    for order in "" -r; do
        rm -rf /run/conf /run/out$order; mkdir /run/conf /run/out$order
        for file in $(ls $order {CONFIG}); do cp {CONFIG}/$file /run/conf; done
        VMSILO_CONFIG_DIRS=/run/conf {GENERATOR} /run/out$order /run/out$order /run/out$order || [ $? = 1 ]
    done 2>/dev/null
    [ -n "$(ls /run/out)" ]
    diff -r /run/out /run/out-r
    """
    lab.run("sh", "-ec", script)


def test_nothing_written_elsewhere(lab: Host) -> None:
    out = "/run/out"
    trace = ["strace", "-f", "-y", "-e", "trace=%file"]
    lab.run("mkdir", "-p", out)
    traced = lab.run(*trace, GENERATOR, out, out, out, check=False).err
    changes = ("O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "link", "rename", "chmod", "chown")
    calls = [line for line in traced.splitlines() if any(change in line for change in changes)]
    assert any(out in line for line in calls)
    reads = ("readlink", "/dev/kmsg")
    assert [line for line in calls if out not in line and not any(word in line for word in reads)] == []


def test_slices_do_not_nest(lab: Host) -> None:
    """VM a-b does not land in VM a."""
    assert lab.show(names.slice_unit("a-b"), "Slice")["Slice"] == names.ALL_SLICE
    assert lab.show(names.slice_unit("a"), "Slice")["Slice"] == names.ALL_SLICE
    assert lab.show(names.vm_unit("a-b"), "Slice")["Slice"] == names.slice_unit("a-b")


def test_extra_arguments_arrive(lab: Host) -> None:
    plan = json.loads(lab.read(f"{paths.GENERATOR_DIR}/{names.plan_file('a')}"))
    assert plan["extra_args"] == ["-name", 'x;y%z $HOME \\ "q"']


# Every kind of character that some parser on the way might take for its own, often together.
SPECIAL = st.sampled_from(
    [*"%$\\;\"'#{}()*?~ \t\n\r=@+!|&<>`^,:/-[]", "%n", "$$", "${HOME}", "$HOME", "\\n", "\\x20", "é", "😀"]
)
ARGUMENT = st.one_of(
    st.lists(SPECIAL, max_size=12).map("".join),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)


def writable(value: str) -> bool:
    """Whether unitfile accepts it; what it refuses the user is told, and never reaches systemd."""
    try:
        unitfile.command("/bin/true", value)
    except ValueError:
        return False
    return True


ROUNDS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@ROUNDS
@given(st.lists(ARGUMENT.filter(writable), min_size=1, max_size=40))
def test_arguments_arrive_at_the_program(lab: Host, values: list[str]) -> None:
    """A service started by systemd prints what it was given, byte for byte."""
    program = (
        "/usr/bin/python3",
        "-ISc",
        "import os,sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))",
    )
    line = unitfile.command(*program, *values)
    unit = unitfile.Unit(
        "escape.service",
        (("Service", (("Type", "oneshot"), ("ExecStart", line), ("StandardOutput", "truncate:/run/escape.out"))),),
    )
    lab.write("/run/systemd/system/escape.service", unit.file().text)
    lab.reload()
    lab.systemctl("start", "escape.service")
    given_to_it = lab.run("cat", "/run/escape.out").raw.split(b"\0")
    assert given_to_it == [value.encode() for value in values]


@ROUNDS
@given(st.lists(ARGUMENT, min_size=1, max_size=40))
def test_texts_and_words_arrive_in_the_manager(lab: Host, values: list[str]) -> None:
    """Description= and Environment=, as the manager's own interface gives them back."""
    texts = [value for value in values if accepted(unitfile.text, value)]
    words = [f"V{number}={value}" for number, value in enumerate(values) if accepted(unitfile.words, f"V={value}")]
    files = []
    for number, value in enumerate(texts):
        sections = (("Unit", (("Description", unitfile.text(value)),)), ("Service", (("ExecStart", "/bin/true"),)))
        files.append(unitfile.Unit(f"text-{number}.service", sections).file())
    environment = (("Environment", unitfile.words(*words)),) if words else ()
    files.append(unitfile.Unit("words.service", (("Service", (("ExecStart", "/bin/true"), *environment)),)).file())
    packed = json.dumps({file.name: file.text for file in files})
    unpack = "import json,sys\nfor n,t in json.load(sys.stdin).items(): open('/run/systemd/system/'+n,'w').write(t)"
    lab.run("sh", "-ec", 'rm -f /run/systemd/system/text-*; exec python3 -c "$1"', "sh", unpack, input=packed)
    lab.reload()

    bus_name = "org.freedesktop.systemd1"
    for number, value in enumerate(texts):
        if value:
            path = f"/org/freedesktop/systemd1/unit/text_2d{number}_2eservice"
            answer = lab.bus("get-property", bus_name, path, f"{bus_name}.Unit", "Description")
            assert answer == {"type": "s", "data": value}
    lab.systemctl("show", "words.service")
    path = "/org/freedesktop/systemd1/unit/words_2eservice"
    assert lab.bus("get-property", bus_name, path, f"{bus_name}.Service", "Environment") == {
        "type": "as",
        "data": words,
    }


def accepted(write: "object", value: str) -> bool:
    try:
        write(value)  # type: ignore[operator]
    except ValueError:
        return False
    return True
