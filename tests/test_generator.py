"""The generator as a whole: what it writes for what is configured, and how it behaves as a program.

VMSILO_REWRITE_TREES=1 writes the expected trees anew, for review with git diff.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cases import CASES, NAMED, PASSWD, REAL, TREES, make
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT
from systemd_parser import VALUES

import vmsilo
from vmsilo import paths, plan
from vmsilo_generator import log, output, run, source
from vmsilo_generator.source import ConfigFile
from vmsilo_generator.unitfile import words

GENERATOR = ROOT / "generators" / "vmsilo-generator"
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
# Such as can be written into a file that is UTF-8.
ENCODABLE = VALUES.filter(lambda value: value.isascii() or value.encode(errors="replace").decode() == value)
PATHS = ENCODABLE.filter(str.isprintable).map(lambda value: "/" + value)
LISTS = st.lists(ENCODABLE, max_size=4)
FOREIGN = ("/usr/bin/systemd-tmpfiles", "/usr/bin/vhost-device-vsock", f"/usr/bin/{paths.VIRTIOFSD}")
SYSTEM_UNITS = Path("/usr/lib/systemd/system")


def tree(directory: Path) -> dict[str, str]:
    """All files and links below *directory*, with what is in them or where they lead."""
    found = [path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to(directory)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in found
    }


# The trees.


@pytest.mark.parametrize("case", CASES)
def test_tree(case: str, tmp_path: Path) -> None:
    expected = TREES / case / "units.expected"
    output.write(str(tmp_path), make(case).entries)
    if os.environ.get("VMSILO_REWRITE_TREES"):
        shutil.rmtree(expected, ignore_errors=True)
        shutil.copytree(tmp_path, expected, symlinks=True)
    assert tree(tmp_path) == tree(expected)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory with systemd's units and ours, and something for each program that units start."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(SYSTEM_UNITS, root / SYSTEM_UNITS.relative_to("/"), symlinks=True)
    for unit in (ROOT / "units").glob("*.slice"):
        shutil.copy(unit, root / SYSTEM_UNITS.relative_to("/"))
    helpers = [
        f"{paths.LIBEXEC}/{name}" for name in ("net", "sandbox", "vm-home", "vm-launch", "vm-pci", "vsock-cmd")
    ]
    for program in (*helpers, *FOREIGN):
        path = root / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    return root


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("case", CASES)
def test_systemd_has_nothing_to_say(case: str, installed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    written = root / "etc/systemd/system"
    written.mkdir(parents=True)
    output.write(str(written), make(case, REAL).entries)
    units = sorted(path.name for path in written.glob("vmsilo*") if path.suffix not in (".network", ".plan"))
    assert units
    assert verify(root, units) == ""


def test_systemd_would_say_something(installed: Path, tmp_path: Path) -> None:
    """The test above means nothing if it can't fail."""
    if SYSTEMD_ANALYZE is None:
        pytest.skip("systemd-analyze is not installed")
    root = tmp_path / "root"
    shutil.copytree(installed, root, symlinks=True)
    unit = root / "etc/systemd/system/vmsilo-x.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nType=sometimes\nExecStart=/usr/libexec/vmsilo/nothing\n")
    said = verify(root, [unit.name])
    assert "sometimes" in said
    assert "not executable" in said


def verify(root: Path, units: list[str]) -> str:
    assert SYSTEMD_ANALYZE is not None
    done = subprocess.run(
        [SYSTEMD_ANALYZE, "--man=no", f"--root={root}", "verify", *units],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    # An older systemd passes over what it does not know.
    return "".join(line for line in done.stdout.splitlines(keepends=True) if not UNKNOWN_BEFORE_257.search(line))


UNKNOWN_BEFORE_257 = re.compile(r"Unknown key( name)? 'PrivatePIDs'")


@pytest.mark.parametrize(
    ("machine", "emulates"),
    [
        ("q35", True),
        ("q35,accel=kvm", False),
        ("q35,accel=tcg", True),
        ("q35,accel=kvm:tcg", True),
        ("q35,accel=kvm,accel=tcg", True),
        ("q35,x=a,,accel=kvm", True),  # an escaped comma: no property of its own
    ],
)
def test_code_is_written_only_where_it_is_emulated(machine: str, *, emulates: bool) -> None:
    text = f'hypervisor = "qemu"\nqemu.machine = "{machine}"\n'
    files = [ConfigFile("host", "/host.toml", 'user = "david"\n', ""), ConfigFile("vm", "/vm.toml", text, "")]
    made = "".join(getattr(entry, "text", "") for entry in run.make(files, PASSWD, REAL).entries)
    assert ("MemoryDenyWriteExecute=no" in made) is emulates


def test_without_a_kvm_group(tmp_path: Path) -> None:
    """Naming a group that isn't there would keep the unit from starting."""
    made = "".join(getattr(entry, "text", "") for entry in make("qemu", NAMED._replace(kvm_group=False)).entries)
    assert "SupplementaryGroups" not in made
    assert "SupplementaryGroups=kvm" in (TREES / "qemu/units.expected/vmsilo-work-vm.service").read_text()


def test_an_older_systemd_is_not_told_what_it_complains_of() -> None:
    made = "".join(getattr(entry, "text", "") for entry in make("shares", NAMED._replace(private_pids=False)).entries)
    assert "PrivatePIDs" not in made
    assert "PrivatePIDs=yes" in (TREES / "shares/units.expected/vmsilo-work-virtiofs-root.service").read_text()


@pytest.mark.parametrize(
    ("library", "known"),
    [
        ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", False),
        ("/usr/lib/systemd/libsystemd-shared-256.9-1.so", False),
        ("/usr/lib/systemd/libsystemd-shared-257.so", True),
        ("/nix/store/x-systemd-258/lib/systemd/libsystemd-shared-258.so", True),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", True),
    ],
)
def test_the_running_systemd_is_asked(library: str, *, known: bool, tmp_path: Path) -> None:
    unknown = source.facts(str(tmp_path))
    assert (unknown.kvm_group, unknown.private_pids) == (False, True)
    (tmp_path / "proc/1").mkdir(parents=True)
    lines = (
        "559600-559700 r--p 00000000 fe:00 25 /usr/lib/systemd/systemd",
        f"7f00-7f01 r--p 00000000 fe:00 26 {library}",
    )
    (tmp_path / "proc/1/maps").write_text("\n".join(lines) + "\n")
    assert source.facts(str(tmp_path)).private_pids is known


def test_order_of_files_does_not_matter() -> None:
    found = source.find([str(TREES / "several" / "vmsilo.d")])
    forth, back = (run.make(files, PASSWD, REAL) for files in (found, found[::-1]))
    assert forth.entries == back.entries


def test_a_broken_file_changes_nothing_for_the_others() -> None:
    """Nor does one that comes or goes."""
    found = source.find([str(TREES / "broken" / "vmsilo.d")])
    all_of_them = run.make(found, PASSWD, REAL)
    alone = run.make([file for file in found if file.name in ("good", "host")], PASSWD, REAL)
    assert alone.entries
    assert set(alone.entries) <= set(all_of_them.entries)


@settings(deadline=None)
@given(st.fixed_dictionaries({"kernel": PATHS, "image": PATHS, "path": PATHS, "params": LISTS, "args": LISTS}))
def test_a_value_arrives_or_is_refused(wanted: dict[str, Any]) -> None:
    """Whatever the user writes, and whatever systemd makes of it: the plan has it as it was, or the VM refuses."""
    text = f"""
        hypervisor = "qemu"
        kernel = {toml(wanted["kernel"])}
        image = {toml(wanted["image"])}
        rootDisk.path = {toml(wanted["path"])}
        kernelParams = {toml(wanted["params"])}
        qemu.extraArgs = {toml(wanted["args"])}
    """
    files = [source.ConfigFile(name, f"/etc/vmsilo.d/{name}.toml", content)
             for name, content in (("host", 'user = "david"'), ("work", text))]  # fmt: skip
    made = run.make(files, PASSWD, REAL)
    written = {entry.name: getattr(entry, "text", "") for entry in made.entries}
    if made.problems:
        assert "vm-launch refuse" in written["vmsilo-work.socket"]
        assert "vmsilo-work-vm.service" not in written
        return
    decided = plan.loads(written["vmsilo-work.plan"])
    assert decided.root is not None
    found = (decided.kernel, decided.image, decided.root.path, decided.kernel_params, decided.extra_args)
    assert found == (
        wanted["kernel"],
        wanted["image"],
        wanted["path"],
        tuple(wanted["params"]),
        tuple(wanted["args"]),
    )
    binds = dict(line.partition("=")[::2] for line in written["vmsilo-work-vm.service"].split("\n"))
    assert words(*[f"-{wanted[key]}" for key in ("image", "kernel")]) in binds["BindReadOnlyPaths"]
    assert words(*[wanted[key] for key in ("image", "kernel", "path")]) == binds["RequiresMountsFor"]


def toml(value: str | list[str]) -> str:
    """JSON's text is TOML's, but for the one control character that JSON lets stand."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# The program.


class Host:
    """A root directory with a configuration, and directories for the units."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.config = self.root / "etc/vmsilo.d"
        self.config.mkdir(parents=True)
        (self.root / "etc/passwd").write_text(PASSWD)
        (self.root / "etc/group").write_text("root:x:0:\nkvm:x:104:\n")
        self.out = [path / name for name in ("normal", "early", "late")]
        for directory in self.out:
            directory.mkdir()

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.config / f"{name}.toml").write_text(text)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-IS", GENERATOR, f"--root={self.root}", *arguments],
            env=environment,
            cwd=self.root,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def generate(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(*map(str, self.out), **environment)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_as_systemd_calls_it(host: Host) -> None:
    host.write(host='user = "david"', work="")
    done = host.generate(SYSTEMD_SCOPE="system")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = tree(host.out[0])
    assert "vmsilo-work-vm.service" in names
    assert names["sockets.target.wants/vmsilo-work.socket"] == "-> ../vmsilo-work.socket"
    assert not any(map(tree, host.out[1:]))


def test_one_directory_will_do(host: Host) -> None:
    host.write(host='user = "david"', work="")
    assert host.run(str(host.out[0])).returncode == 0
    assert "vmsilo-work.socket" in tree(host.out[0])


def test_twice_the_same(host: Host) -> None:
    host.write(host='user = "david"', work="", other='dependsOn = ["work"]', bad="cpus = 0")
    host.generate()
    first = tree(host.out[0])
    host.generate()
    assert tree(host.out[0]) == first
    host.run(str(host.out[1]))
    assert tree(host.out[1]) == first


def test_nothing_configured(host: Host) -> None:
    done = host.generate()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not any(map(tree, host.out))
    assert host.run("--check").returncode == 0


def test_a_broken_vm_is_no_reason_to_fail(host: Host) -> None:
    host.write(host='user = "david"', bad="cpus = 0", work="")
    done = host.generate()
    assert done.returncode == 0
    assert f"{host.config}/bad.toml:1:8: cpus: expected 1" in done.stderr
    socket = tree(host.out[0])["vmsilo-bad.socket"]
    assert "bad.toml:1:8: cpus: expected 1" in socket
    assert "vmsilo-work-vm.service" in tree(host.out[0])


def test_a_file_without_an_allowed_name(host: Host) -> None:
    host.write(host='user = "david"', work="", **{"Not a name": ""})
    done = host.generate()
    assert done.returncode == 0
    assert "Not a name" in done.stderr
    assert not [name for name in tree(host.out[0]) if "ot a name" in name]


@pytest.mark.parametrize("obstacle", ["missing", "file", "directory in the way", "wants leads elsewhere"])
def test_what_can_not_be_written(host: Host, obstacle: str, tmp_path: Path) -> None:
    host.write(host='user = "david"', work="")
    normal = host.out[0]
    if obstacle == "missing":
        normal.rmdir()
    elif obstacle == "file":
        normal.rmdir()
        normal.touch()
    elif obstacle == "directory in the way":
        (normal / "vmsilo-work-vm.service").mkdir()
    else:
        (tmp_path / "elsewhere").mkdir()
        (normal / "sockets.target.wants").symlink_to(tmp_path / "elsewhere")
    done = host.generate()
    assert done.returncode == 1
    assert done.stderr.startswith(f"vmsilo-generator: can't write {normal}")
    assert not list(tmp_path.glob("elsewhere/*"))


def test_check(host: Host) -> None:
    host.write(host='user = "david"', work="")
    assert host.run("--check").returncode == 0
    host.write(bad="cpus = 0", worse="nothing = 1\ncpus = true")
    done = host.run("--check")
    assert done.returncode == 1
    headlines = [line for line in done.stderr.split("\n") if line.startswith(str(host.config))]
    assert [line.removeprefix(f"{host.config}/").split(" ")[0] for line in headlines] == [
        "bad.toml:1:8:",
        "worse.toml:1:1:",
        "worse.toml:2:8:",
    ]


def test_check_of_files(host: Host, tmp_path: Path) -> None:
    """They are seen among the others, but what is wrong with the others is not told."""
    host.write(host='user = "david"', work="", bad="cpus = 0")
    new = tmp_path / "work.toml"
    new.write_text('dependsOn = ["bad"]\n')
    done = host.run("--check", str(new))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{new}:1:14: dependsOn[1]:")
    new.write_text("memory = 2048\n")
    assert host.run("--check", str(new)).returncode == 0
    assert host.run("--check", str(tmp_path / "missing.toml")).returncode == 1


def test_check_says_who_serves_what(host: Host) -> None:
    text = (TREES / "shares" / "vmsilo.d" / "work.toml").read_text()
    host.write(host='user = "david"', work=text, other="sharedDirectories.a.path = '/a'\nsharedHome = false\n")
    other = f"{host.config}/other.toml: sharedDirectories.a: served by david: that suffices\n"
    done = host.run("--check", "-v")
    assert done.returncode == 0
    assert done.stdout.startswith(other)
    lines = done.stdout.removeprefix(other).splitlines()
    served = [line.removeprefix(f"{host.config}/work.toml: sharedDirectories.") for line in lines]
    for line in (
        "mapped: served by root: uidMap: only root may map ids; virtiofsd itself has no others then",
        "root: served by root: foreignOwners: it makes files of others, and gives files away",
        "tag: served by david: that suffices",
    ):
        assert line in served
    assert host.run("--check", "--verbose", f"{host.config}/other.toml").stdout == other


def test_dry_run(host: Host) -> None:
    host.write(host='user = "david"', work="", bad="cpus = 0")
    done = host.run("--dry-run")
    assert done.returncode == 1  # as --check
    headings = [line for line in done.stdout.split("\n") if line.startswith("# vmsilo-")]
    assert headings[0] == "# vmsilo-bad.socket"
    assert "# vmsilo-work-vm.service" in headings
    assert "# sockets.target.wants/vmsilo-work.socket -> ../vmsilo-work.socket\n" in done.stdout
    assert not any(map(tree, host.out))


def test_list(host: Host) -> None:
    host.write(host='user = "david"', work='hypervisor = "qemu"\nvsock.cid = 70000', bad="cpus = 0")
    done = host.run("--list")
    assert done.stdout == f"work\tqemu\t70000\t{host.config}/work.toml\n"


def test_other_directories(host: Host, tmp_path: Path) -> None:
    host.write(host='user = "david"', work="")
    for name in ("foremost", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "foremost" / "host.toml").write_text('user = "david"')
    (tmp_path / "foremost" / "mine.toml").write_text("vsock.cid = 70000")
    (tmp_path / "second" / "mine.toml").write_text("vsock.cid = 70001")
    done = host.run("--list", VMSILO_CONFIG_DIRS=f"{tmp_path}/foremost:{tmp_path}/second")
    assert done.stdout == f"mine\tcloud-hypervisor\t70000\t{tmp_path}/foremost/mine.toml\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "b"],
        ["a", "b", "c", "d"],
        ["--what"],
        ["--check", "--list"],
        ["--list", "x"],
        ["--root"],
        ["--root", "/nonexistent", "--check"],
        ["-v", "a"],
        ["--list", "-v"],
    ],
)
def test_wrong_usage(host: Host, arguments: list[str]) -> None:
    done = subprocess.run([GENERATOR, *arguments], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 64
    assert "\nusage: vmsilo-generator " in done.stderr
    assert done.stdout == ""


def test_help_and_version(host: Host) -> None:
    assert host.run("--help").stdout == run.USAGE
    assert host.run("--version").stdout == f"vmsilo-generator {vmsilo.__version__}\n"


def test_the_launcher_runs_by_itself(host: Host) -> None:
    """Through its first line, and from a directory that is none of ours."""
    assert subprocess.run([GENERATOR, "--version"], cwd="/", check=True, stdout=subprocess.PIPE).stdout


def test_output_that_nobody_reads(host: Host) -> None:
    host.write(host='user = "david"', **{f"vm{number}": "" for number in range(40)})
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-IS", GENERATOR, f"--root={host.root}", "--dry-run"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_there_is_no_room_for(host: Host) -> None:
    host.write(host='user = "david"', work="")
    for target in ("/dev/full", "&-"):
        line = f'exec "$0" --root="$1" --dry-run >{target}'
        done = subprocess.run(["/bin/sh", "-c", line, GENERATOR, host.root], capture_output=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(b"vmsilo-generator: can't print: ")
        assert done.stderr.count(b"\n") == 1


def test_writes_without_standard_streams(host: Host) -> None:
    host.write(host='user = "david"', work="")
    line = 'exec "$0" --root="$1" "$2" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", line, GENERATOR, host.root, host.out[0]], check=False).returncode == 0
    assert (host.out[0] / "vmsilo-work.socket").exists()


# Messages.


def test_a_fault_of_ours_is_told(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fault(*_: object, **__: object) -> run.Made:
        raise AssertionError("never")

    monkeypatch.setattr(run, "make", fault)
    monkeypatch.setattr(log, "KMSG", str(tmp_path / "missing"))
    monkeypatch.setenv("SYSTEMD_SCOPE", "system")
    assert run.run([str(host.out[0])]) == 70
    assert "<3>vmsilo-generator: AssertionError: never\n" in capfd.readouterr().err
    monkeypatch.delenv("SYSTEMD_SCOPE")
    with pytest.raises(AssertionError, match="never"):
        run.run([str(host.out[0])])


def test_messages_go_to_the_kernel_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kmsg = tmp_path / "kmsg"
    kmsg.touch()
    messages = log.Log(by_systemd=True, kmsg=str(kmsg))
    messages.problem("work.toml:1:1: one\n    line\n    ^")
    long = "two " + "é" * 1000
    messages.error(long)
    first, *more = kmsg.read_text().split("\n")
    assert first == f"<3>vmsilo-generator[{os.getpid()}]: work.toml:1:1: one"
    assert more[1].endswith(":     ^")
    assert len(more[2].encode()) <= 1000
    assert more[2].endswith("é…")
    assert capfd.readouterr() == ("", "")


def test_messages_without_a_kernel_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    messages = log.Log(by_systemd=True, kmsg=str(tmp_path / "missing"))
    messages.problem("one\ntwo")
    assert capfd.readouterr().err == "<3>vmsilo-generator: one\n<3>vmsilo-generator: two\n"


def test_messages_by_hand(capfd: pytest.CaptureFixture[str]) -> None:
    messages = log.Log(by_systemd=False)
    messages.problem("work.toml:1:1: one")
    messages.error("two")
    assert capfd.readouterr().err == "work.toml:1:1: one\nvmsilo-generator: two\n"
