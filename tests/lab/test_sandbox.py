"""One policy, two readers: systemd, which refuses what it does not allow, and sandbox(8), which has it logged."""

import re

import pytest
from cases import REAL

from lab import config
from lab.host import Host
from vmsilo import names, paths
from vmsilo_generator.roles import sandbox
from vmsilo_generator.unitfile import Unit

# Attempts at what no helper is allowed, each judged by something else: an address family, a protection, a flag, the
# call itself. And one that is allowed.
PROBE = """
import ctypes, mmap, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
attempts = {
    "socket": lambda: socket.socket(socket.AF_INET),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "mmap": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "unshare": lambda: call(272, 0x1400_0000),  # CLONE_NEWUTS | CLONE_NEWUSER
    "io_uring": lambda: call(425, 1, None),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "done", flush=True)
    except OSError as error:
        print(name, error.errno, flush=True)
"""
POLICIES = ("base", "unix")

EPERM, EACCES, EFAULT, EAFNOSUPPORT = 1, 13, 14, 97


@pytest.fixture
def probe(lab: Host) -> str:
    """A program whose name in the kernel's log is its own."""
    lab.write("/run/probe.py", PROBE)
    lab.run("ln", "-sf", "/usr/bin/python3", "/run/prober")
    return "/run/prober"


def attempts(lab: Host, probe: str, policy: sandbox.Policy) -> dict[str, str]:
    """How each attempt of a unit with this policy ended."""
    unit = "vmsilo-probe.service"
    output = "/run/probe.out"
    lines = (
        ("Type", "oneshot"),
        ("DynamicUser", "yes"),
        ("ExecStart", policy.command(probe, "/run/probe.py")),
        ("StandardOutput", f"truncate:{output}"),
        *policy.lines(REAL),
    )
    lab.write(f"/run/systemd/system/{unit}", Unit(unit, (("Service", lines),)).file().text)
    lab.reload()
    lab.systemctl("start", unit)
    return dict(line.split() for line in lab.read(output).splitlines())


def logged(lab: Host) -> list[int]:
    """The numbers of the system calls that the kernel has logged of the probe."""
    kernel = lab.run("dmesg").out
    return [int(number) for number in re.findall(r'type=1326 .* comm="prober" .* syscall=(\d+) ', kernel)]


def test_refused(lab: Host, probe: str) -> None:
    done = attempts(lab, probe, sandbox.Policy(POLICIES))
    # By the kernel itself, or before systemd 253 and Linux 6.3 by systemd's filter.
    assert done.pop("mmap") in (str(EACCES), str(EPERM))
    assert done == {
        "socket": str(EAFNOSUPPORT),
        "unix": "done",
        "unshare": str(EPERM),
        "io_uring": str(EPERM),
    }


def test_logged(lab: Host, probe: str) -> None:
    before = len(logged(lab))
    assert attempts(lab, probe, sandbox.Policy(POLICIES, log=True)) == {
        "socket": "done",
        "unix": "done",
        "mmap": "done",
        "unshare": "done",
        "io_uring": str(EFAULT),  # the kernel has looked at its arguments
    }
    new = logged(lab)[before:]
    if not new:
        pytest.skip("this kernel logs no system calls")
    # It passes over some when many come at once.
    assert set(new) & {41, 9, 272, 425}  # socket, mmap, unshare, io_uring_setup
    assert 0 not in new  # read


def test_without_policies_nothing_runs(lab: Host, probe: str) -> None:
    """They open what is closed."""
    with pytest.raises(AssertionError):
        attempts(lab, probe, sandbox.Policy(()))


def test_without_a_policy_a_vm_refuses(lab: Host) -> None:
    """And says which it is."""
    file = f"{paths.POLICIES}/qemu.conf"
    lab.run("mv", file, "/run/qemu.conf")
    try:
        with lab.configured({"unpoliced": config.vm("minimal")}):
            assert lab.systemctl("start", names.command_socket_unit("unpoliced"), check=False).code != 0
            assert file in lab.show(names.command_socket_unit("unpoliced"), "Description")["Description"]
            assert lab.show(names.vm_unit("unpoliced"), "LoadState")["LoadState"] == "not-found"
    finally:
        lab.run("mv", "/run/qemu.conf", file)


def test_both_readers_allow_the_same(lab: Host) -> None:
    """What systemd adds to a list by itself is nothing that the policies do not have."""
    unit = "vmsilo-list.service"
    policy = sandbox.Policy(POLICIES)
    lines = (("ExecStart", "/bin/true"), *policy.lines(REAL))
    lab.write(f"/run/systemd/system/{unit}", Unit(unit, (("Service", lines),)).file().text)
    lab.reload()
    by_systemd = set(lab.show(unit, "SystemCallFilter")["SystemCallFilter"].split())
    files = [f"{paths.POLICIES}/{name}.conf" for name in POLICIES]
    listed = re.findall(r"^SystemCallFilter=(.*)$", lab.run("cat", *files).out, re.MULTILINE)
    ours = set(" ".join(listed).split())
    assert ours <= by_systemd
    here = "import seccomp as s, sys; print(*[n for n in sys.argv[1:] if s.resolve_syscall(s.Arch(), n) >= 0])"
    more = lab.run("python3", "-c", here, *sorted(by_systemd - ours)).out.split()
    # Names of calls that came after the oldest libseccomp of ours, or that no program on x86-64 makes.
    assert set(more) <= {"lsm_get_self_attr", "lsm_list_modules", "mseal", "uretprobe", "riscv_hwprobe"}


@pytest.mark.guest
def test_a_vm_whose_calls_are_logged(lab: Host) -> None:
    unit = names.vm_unit("logged")
    with lab.configured({"logged": config.vm("minimal", '[qemu]\nseccompPolicy = "log"')}):
        assert lab.vm_run("logged", "echo", "hello").out == "hello\n"
        assert "logged, not refused" in lab.show(unit, "Description")["Description"]
        status = lab.read(f"/proc/{lab.main_pid(unit)}/status")
        assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
        assert "/sandbox" in lab.systemctl("cat", unit).out
