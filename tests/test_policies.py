"""The policies, units/seccomp, and sandbox(8)'s reading of them."""

import mmap
import re
import socket
from pathlib import Path

import pytest
from cases import PASSWD, TREES, net_unit, word
from project import ROOT

from vm_sandbox.main import main, split
from vm_sandbox.rules import NAMESPACES, WHOLE, Masked, Rule, rules
from vmsilo import names, paths, policy
from vmsilo.failure import Failure
from vmsilo.policy import Policy
from vmsilo_generator import run, source
from vmsilo_generator.model import Facts
from vmsilo_generator.policies import Policies
from vmsilo_generator.source import ConfigFile
from vmsilo_generator.unitfile import File

POLICIES = sorted((ROOT / "units/seccomp").iterdir())

each_policy = pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)

# What no guest's bytes may lead to, whoever's fault it is.
NEVER = {
    "io_uring_setup", "io_uring_enter", "io_uring_register",
    "bpf", "perf_event_open", "userfaultfd", "add_key", "keyctl", "request_key",
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    "setns", "fsopen", "fsmount", "fsconfig", "fspick", "move_mount", "open_tree", "mount_setattr",
    "reboot", "swapon", "swapoff", "iopl", "ioperm", "personality", "acct", "quotactl", "syslog",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname",
    "fanotify_init", "lookup_dcookie", "vhangup", "nfsservctl", "shmat", "modify_ldt",
}  # fmt: skip


@each_policy
def test_policy_is_one(path: Path) -> None:
    assert policy.read(str(path)) != Policy()


@each_policy
def test_policy_opens_nothing_that_is_never_needed(path: Path) -> None:
    calls = policy.read(str(path)).calls
    assert calls & NEVER == set()
    assert path.stem == "crosvm" or not calls & {"mount", "umount2", "pivot_root", "chroot"}
    assert path.stem == "virtiofsd-root" or "open_by_handle_at" not in calls


@each_policy
def test_policy_says_why(path: Path) -> None:
    """A comment before every group, and nothing twice."""
    head, *groups = re.split(r"\n\n", path.read_text().strip())
    assert head.startswith("# ")
    listed = re.findall(r"^SystemCallFilter=(.*)$", path.read_text(), re.MULTILINE)
    calls = " ".join(listed).split()
    assert sorted(calls) == sorted(set(calls))
    for group in groups:
        first = group.removeprefix("[Service]\n").split("\n")[0]
        assert first.startswith("# ") or len(groups) == 1, group


@each_policy
def test_policy_is_used_and_described(path: Path) -> None:
    units = [*(unit.read_text() for unit in TREES.glob("*/units.expected/*.service")), net_unit().text]
    assert any(re.search(rf"^SystemCallFilter=.*\b{word(path.stem)}\b", unit, re.MULTILINE) for unit in units)
    assert f"\n.It {path.stem} Ta" in (ROOT / "man/vmsilo-security.7").read_text()


@pytest.mark.parametrize(
    "line",
    [
        "SystemCallFilter=@file-system",
        "SystemCallFilter=~ptrace",
        "SystemCallFilter=read:kill",
        "SystemCallFilter=",
        "MemoryDenyWriteExecute=yes",
        "RestrictNamespaces=~user",
        "SystemCallErrorNumber=EPERM",
        "NoNewPrivileges=no",
        "ExecStart=/bin/sh",
        "[Unit]",
        "read",
    ],
)
def test_line_that_is_none(line: str) -> None:
    with pytest.raises(Failure, match=re.escape(f"x.conf:2: {line!r} is no line of a policy")):
        policy.parse(f"[Service]\n{line}\n", "x.conf")


def test_policies_add_up() -> None:
    one = policy.parse("SystemCallFilter=read write\nRestrictAddressFamilies=AF_UNIX\n", "one")
    other = policy.parse("SystemCallFilter=write openat\nRestrictNamespaces=user pid\n", "other")
    both = Policy(frozenset({"read", "write", "openat"}), frozenset({"AF_UNIX"}), frozenset({"user", "pid"}))
    assert one | other == both
    assert policy.parse("MemoryDenyWriteExecute=no\n", "third").writes_code


def rules_of(call: str, **fields: frozenset[str] | bool) -> list[Rule]:
    return list(rules(Policy(calls=frozenset({call}), **fields)))  # type: ignore[arg-type]


def test_call_without_conditions() -> None:
    assert rules_of("read") == [Rule("read")]


def test_sockets_by_family() -> None:
    assert rules_of("socket") == []
    families = frozenset({"AF_UNIX", "AF_VSOCK"})
    expected = sorted([socket.AF_UNIX, socket.AF_VSOCK])
    assert rules_of("socket", families=families) == [Rule("socket", Masked(0, WHOLE, number)) for number in expected]
    with pytest.raises(Failure, match="no address family AF_MOON"):
        rules_of("socket", families=frozenset({"AF_MOON"}))


def test_namespaces_by_flag() -> None:
    every = sum(NAMESPACES.values())
    assert rules_of("clone") == [Rule("clone", Masked(0, every, 0))]
    some = Masked(0, every - NAMESPACES["user"] - NAMESPACES["net"], 0)
    assert rules_of("unshare", namespaces=frozenset({"user", "net"})) == [Rule("unshare", some)]
    assert rules_of("clone", namespaces=frozenset(NAMESPACES)) == [Rule("clone")]


def test_memory_by_protection() -> None:
    both = mmap.PROT_WRITE | mmap.PROT_EXEC
    allowed = [rule.condition for rule in rules_of("mmap")]
    assert allowed == [Masked(2, both, value) for value in (0, mmap.PROT_WRITE, mmap.PROT_EXEC)]
    assert rules_of("mprotect") == [Rule("mprotect", Masked(2, mmap.PROT_EXEC, 0))]
    assert rules_of("mmap", writes_code=True) == [Rule("mmap")]
    assert rules_of("mprotect", writes_code=True) == [Rule("mprotect")]


def test_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert split(["a.conf", "b.conf", "--", "sh", "-c", "--"]) == (["a.conf", "b.conf"], ["sh", "-c", "--"])
    for wrong in ([], ["--"], ["a.conf"], ["a.conf", "--"], ["--", "true"]):
        assert main(wrong) == 64
    capfd.readouterr()
    assert main(["/nonexistent.conf", "--", "true"]) == 66
    assert capfd.readouterr().err == "sandbox: cannot read /nonexistent.conf: No such file or directory\n"


def test_in_a_unit_policies_add_up() -> None:
    texts = {
        "one": "SystemCallFilter=write read\nRestrictAddressFamilies=AF_UNIX\n",
        "other": "SystemCallFilter=openat\nSystemCallFilter=write\nRestrictNamespaces=user\n",
        "third": "MemoryDenyWriteExecute=no\n",
    }
    policies = Policies(texts)
    assert policies.lines(("one", "other")) == (
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("RestrictNamespaces", "user"),
        ("SystemCallFilter", "openat read write"),
    )
    assert policies.lines(("third",)) == (("MemoryDenyWriteExecute", "no"),)
    assert policies.lines(()) == ()


@pytest.mark.parametrize(
    ("missing", "refused", "isolated"),
    [("base", {"plain", "given"}, False), ("qemu", {"plain", "given"}, True), ("vm-pci", {"given"}, False)],
)
def test_without_a_policy_what_needs_it_is_refused(missing: str, refused: set[str], *, isolated: bool) -> None:
    """And what does not is not. A policy that is none is as good as missing."""
    qemu = 'hypervisor = "qemu"\n'
    host = 'user = "david"\nisolatedPciDevices = ["01:00.0"]\n'
    texts = {"host": host, "plain": qemu, "given": qemu + 'pciDevices = [{ path = "01:00.0" }]\n'}
    files = [ConfigFile(name, f"/etc/vmsilo.d/{name}.toml", text) for name, text in texts.items()]
    whole = source.policies("")
    path = f"{paths.POLICIES}/{missing}.conf"
    for broken, message in (
        ({name: text for name, text in whole.items() if name != missing}, f"there is no policy {path}"),
        (whole | {missing: "SystemCallFilter=@mount\n"}, f"{path}:1: 'SystemCallFilter=@mount' is no line"),
    ):
        made = run.make(files, PASSWD, Facts(policies=Policies(broken)))
        units = {entry.name: entry.text for entry in made.entries if isinstance(entry, File)}
        for vm in texts.keys() - {"host"}:
            assert (message in units[names.command_socket_unit(vm)]) is (vm in refused)
            assert (names.vm_unit(vm) in units) is (vm not in refused)
        assert (names.PCI_ISOLATION_UNIT in units) is isolated
        files_with_problems = {problem.file for problem in made.problems}
        expected = refused | ({"host"} if not isolated else set())
        assert files_with_problems == {f"/etc/vmsilo.d/{name}.toml" for name in expected}
        assert all(message in problem.message for problem in made.problems)
