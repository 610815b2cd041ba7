"""All that is foreseen to go wrong with a start: one clear line, in the unit's status too, and never a traceback."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.hosts import Host, minimal_plan
from launch.vhost import NotifySocket
from vm_launch import files, overlay, running
from vm_launch import start as starting
from vm_launch.hypervisor import Drive, find
from vmsilo.failure import EX_CONFIG, EX_NOINPUT, EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure
from vmsilo.plan import VERSION, Disk, Overlay, dumps

Change = Callable[[Host], dict[str, Any]]


def no_hypervisor(host: Host) -> dict[str, Any]:
    host.path = "/nonexistent"
    return {}


def no_image(host: Host) -> dict[str, Any]:
    return {"image": str(host.directory / "none")}


def no_built_image(_host: Host) -> dict[str, Any]:
    return {"image": "/var/lib/vmsilo/images/no-such-image"}


def manifest(text: str) -> Change:
    def change(host: Host) -> dict[str, Any]:
        (host.image / "image.toml").write_text(text)
        return {}

    return change


def no_kernel(host: Host) -> dict[str, Any]:
    (host.image / "vmlinux").unlink()
    return {}


def no_initramfs(host: Host) -> dict[str, Any]:
    return {"initramfs": str(host.directory / "initrd.img")}


def no_root(_host: Host) -> dict[str, Any]:
    return {"root": Disk("/nonexistent/disk.raw")}


def directory_as_root(host: Host) -> dict[str, Any]:
    return {"root": Disk(str(host.directory), readonly=True)}


def pipe_as_root(host: Host) -> dict[str, Any]:
    os.mkfifo(host.directory / "pipe")
    return {"root": Disk(str(host.directory / "pipe"), readonly=True)}


def no_state_directory(host: Host) -> dict[str, Any]:
    host.state.rmdir()
    return {}


def no_run_dir(host: Host) -> dict[str, Any]:
    return {"run_dir": str(host.directory / "none")}


def huge_overlay(_host: Host) -> dict[str, Any]:
    return {"overlay": Overlay("raw", 1 << 62)}


def long_command_line(_host: Host) -> dict[str, Any]:
    return {"kernel_params": ("x" * 3000,)}


def no_kvm(_host: Host) -> dict[str, Any]:
    return {"hypervisor": "cloud-hypervisor"}


def forced_kvm(_host: Host) -> dict[str, Any]:
    return {"machine": "q35,accel=kvm"}


def microvm(_host: Host) -> dict[str, Any]:
    return {"machine": "microvm"}


CASES: list[tuple[Change, int, str]] = [
    (no_hypervisor, EX_UNAVAILABLE, "qemu-system-x86_64 is not installed (looked in /nonexistent)"),
    (no_image, EX_NOINPUT, "there is no image at {}/none"),
    (no_built_image, EX_NOINPUT, "no-such-image (build it: vm-image build no-such-image)"),
    (manifest("format = 2"), EX_CONFIG, "image.toml: format 2, but this version of vmsilo reads format 1"),
    (manifest("format = "), EX_CONFIG, "image.toml: Invalid value (at end of document)"),
    (manifest("format = 1"), EX_CONFIG, "image.toml: cmdline: expected a string"),
    (manifest("format = 1\ncmdline = 5"), EX_CONFIG, "image.toml: cmdline: expected a string"),
    (no_kernel, EX_NOINPUT, "cannot open the kernel {}/images/tiny/vmlinux for reading: No such file"),
    (no_initramfs, EX_NOINPUT, "cannot open the initramfs {}/initrd.img for reading: No such file"),
    (no_root, EX_NOINPUT, "cannot open the root disk /nonexistent/disk.raw for reading and writing: No such file"),
    (directory_as_root, EX_CONFIG, "the root disk {} is neither a file nor a block device"),
    (pipe_as_root, EX_CONFIG, "the root disk {}/pipe is neither a file nor a block device"),
    (no_state_directory, EX_OSERR, "cannot make an overlay disk of 1073741824 bytes in {}/state: No such file"),
    (huge_overlay, EX_OSERR, "cannot make an overlay disk of 4611686018427387904 bytes in {}/state: File too large"),
    (no_run_dir, EX_OSERR, "cannot prepare {}/none: [Errno 2] No such file"),
    (long_command_line, EX_CONFIG, "kernel command line of 3033 bytes, Linux takes 2047 (kernelParams)"),
    (no_kvm, EX_UNAVAILABLE, "cloud-hypervisor is not installed"),
    (forced_kvm, EX_CONFIG, "qemu.machine asks for KVM alone, and /dev/kvm can't be used"),
    (microvm, EX_CONFIG, "qemu.machine: a microvm has no SMBIOS"),
]


@pytest.mark.parametrize(("change", "code", "message"), CASES)
def test_start(host_with_vsock: Host, change: Change, code: int, message: str) -> None:
    host = host_with_vsock
    (host.directory / "bin").mkdir()
    (host.directory / "bin/qemu-system-x86_64").symlink_to("/bin/true")
    host.path = str(host.directory / "bin")
    plan = host.plan(**change(host))
    with NotifySocket(host.directory / "manager") as manager:
        result = host.launch("start", plan, NOTIFY_SOCKET=str(host.directory / "manager"))
        status = manager.statuses()[-1]
    line = result.stderr.splitlines()[-1]
    assert line.startswith("vm-launch: ")
    assert message.format(host.directory) in line
    assert status == line.removeprefix("vm-launch: ")
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 2  # the other says that the processor is emulated


def test_kvm_is_needed(host: Host) -> None:
    (host.directory / "bin").mkdir()
    (host.directory / "bin/cloud-hypervisor").symlink_to("/bin/true")
    host.path = str(host.directory / "bin")
    result = host.launch("start", host.plan(hypervisor="cloud-hypervisor"))
    assert result.returncode == EX_UNAVAILABLE
    assert result.stderr == (
        "vm-launch: cannot open /nonexistent/kvm: No such file or directory"
        " (cloud-hypervisor needs KVM; qemu works without)\n"
    )


def test_no_vsock_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_DEVICE_SECONDS", 0.1)
    with pytest.raises(Failure, match=r"no user-space vsock device at .*is vhost-device-vsock running"):
        starting.connect_device(str(host.vsock_dir / "device.socket"))


def test_vsock_device_comes_late(host: Host) -> None:
    """Its unit and ours start at about the same time."""
    path = host.vsock_dir / "device.socket"
    listener = socket.socket(socket.AF_UNIX)

    def listen() -> None:
        listener.bind(str(path))
        listener.listen()

    timer = threading.Timer(0.2, listen)
    timer.start()
    os.close(starting.connect_device(str(path)))
    timer.join()
    listener.close()


def test_disk_of_somebody_else(tmp_path: Path) -> None:
    """Who owns it, and who we are."""
    if os.geteuid():
        pytest.skip("only root is another user")
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"")
    disk.chmod(0o640)
    tmp_path.chmod(0o755)
    error = PermissionError(13, "Permission denied")
    message = str(files.cannot_open(str(disk), "root disk", "reading", error))
    assert message == (
        f"cannot open the root disk {disk} for reading: Permission denied"
        " (owner root, group root, mode 0640; this VM runs as root)"
    )
    assert files.cannot_open(str(disk), "root disk", "reading", error).code == EX_NOPERM
    assert "this VM runs as" in str(files.cannot_open("/nonexistent/disk", "root disk", "reading", error))


def test_raw_disk_that_a_guest_made_look_like_another(tmp_path: Path) -> None:
    """crosvm would follow the header to any file of the host."""
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"QFI\xfb" + bytes(1000))

    def drive(disk: Disk, hypervisor: str) -> Drive:
        plan = minimal_plan(disks=(disk,))
        return starting.configured_drives(plan, find(hypervisor), {})[0]

    for direct in (False, True):
        plan = Disk(str(disk), readonly=True, direct=direct)
        with pytest.raises(
            Failure, match=r"is raw, but crosvm would take it for qcow2 \(see additionalDisks.format\)"
        ):
            drive(plan, "crosvm")
        assert drive(plan, "qemu").format == "raw"
        assert drive(plan._replace(format="qcow2"), "crosvm").format == "qcow2"


def test_little_room_is_said(host_with_vsock: Host) -> None:
    """It may do; but whoever wonders later about the guest's disk errors finds the reason."""
    directory = str(host_with_vsock.state)
    size = (overlay.room(directory) >> 20) + 1000 << 20
    (host_with_vsock.directory / "bin").mkdir()
    (host_with_vsock.directory / "bin/qemu-system-x86_64").symlink_to("/bin/true")
    host_with_vsock.path = str(host_with_vsock.directory / "bin")
    result = host_with_vsock.launch("start", host_with_vsock.plan(overlay=Overlay("raw", size)))
    assert f"the overlay may grow to {size >> 20} MiB, but {directory} has " in result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("verb", ["start", "boot", "stop"])
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (None, EX_NOINPUT, "there is no plan"),
        ("{", EX_CONFIG, "plan: "),
        ("[]", EX_CONFIG, f"not a plan of version {VERSION}: run systemctl daemon-reload"),
        ('{"version": 1}', EX_CONFIG, f"not a plan of version {VERSION}"),
        ('{"version": 2}', EX_CONFIG, "plan: "),
        (dumps(minimal_plan(hypervisor="xen")), EX_CONFIG, "there is no hypervisor 'xen'"),
    ],
)
def test_bad_plan(host: Host, verb: str, text: str | None, code: int, message: str) -> None:
    plan = host.directory / "plan"
    if text is not None:
        plan.write_text(text)
    result = host.launch(verb, plan, MAINPID="1")
    assert (result.returncode, result.stderr.count("\n")) == (code, 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["start"], ["start", "a", "b"], ["dance", "plan"], ["boot"], ["explain", "qemu", "x"]]
)
def test_usage(host: Host, arguments: list[str]) -> None:
    result = host.launch(*arguments)
    assert result.returncode == EX_USAGE
    assert result.stderr.startswith("usage: vm-launch lend PLAN")


def test_help(host: Host) -> None:
    for option in ("-h", "--help"):
        result = host.launch(option)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("usage: vm-launch lend PLAN")


def test_refuse(host: Host) -> None:
    with NotifySocket(host.directory / "manager") as manager:
        result = host.launch(
            "refuse", "a.toml:3: no such key", "  memry = 5", NOTIFY_SOCKET=str(host.directory / "manager")
        )
        assert manager.statuses() == ["a.toml:3: no such key"]
    assert (result.returncode, result.stderr) == (EX_CONFIG, "a.toml:3: no such key\n  memry = 5\n")


@pytest.mark.parametrize(
    ("name", "environment", "says"),
    [
        ("qemu", {}, ""),
        ("qemu", {"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "0"}, ""),
        (
            "qemu",
            {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "1"},
            "the guest panicked, or QEMU ",
        ),
        (
            "qemu",
            {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "5"},
            "QEMU ended with status 5",
        ),
        (
            "qemu",
            {"SERVICE_RESULT": "signal", "EXIT_CODE": "killed", "EXIT_STATUS": "SEGV"},
            "qemu was ended by signal SEGV",
        ),
        (
            "qemu",
            {"SERVICE_RESULT": "core-dump", "EXIT_CODE": "dumped", "EXIT_STATUS": "SYS"},
            "qemu was ended by signal SYS",
        ),
        ("qemu", {"SERVICE_RESULT": "timeout", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}, ""),
        ("crosvm", {"SERVICE_RESULT": "success", "EXIT_CODE": "killed", "EXIT_STATUS": "TERM"}, ""),
        (
            "qemu",
            {"SERVICE_RESULT": "oom-kill", "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"},
            "the host ran out of memory",
        ),
        # What vm-launch itself ended with it has said; systemd's own statuses systemd explains.
        ("qemu", {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "69"}, ""),
        ("qemu", {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "203"}, ""),
        ("crosvm", {"SERVICE_RESULT": "success", "EXIT_CODE": "exited", "EXIT_STATUS": "32"}, "the guest rebooted"),
        ("crosvm", {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "33"}, "crosvm crashed"),
        ("crosvm", {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "34"}, "the guest panicked"),
        (
            "crosvm",
            {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "35"},
            "crosvm does not know one",
        ),
        ("crosvm", {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "36"}, "the guest hung"),
        (
            "crosvm",
            {"SERVICE_RESULT": "exit-code", "EXIT_CODE": "exited", "EXIT_STATUS": "99"},
            "crosvm ended with status 99",
        ),
        ("cloud-hypervisor", {"EXIT_CODE": "exited", "EXIT_STATUS": "1"}, "cloud-hypervisor could not start"),
    ],
)
def test_explain(host: Host, name: str, environment: dict[str, str], says: str) -> None:
    with NotifySocket(host.directory / "manager") as manager:
        result = host.launch("explain", name, NOTIFY_SOCKET=str(host.directory / "manager"), **environment)
        statuses = manager.statuses()
    assert result.returncode == 0
    assert result.stderr.startswith(f"vm-launch: {says}" if says else "")
    assert bool(result.stderr) is bool(says)
    assert [status[: len(says)] for status in statuses] == ([says] if says else [])


def test_overlay_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a crash can leave a name, the next start removes it."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # which fails as on a file system that has none
    (tmp_path / "overlay").write_text("left")
    descriptor = overlay.create(str(tmp_path), 1 << 20)
    assert not list(tmp_path.iterdir())
    assert os.fstat(descriptor).st_size == 1 << 20
    os.close(descriptor)


def test_overlay_has_no_name(tmp_path: Path) -> None:
    descriptor = overlay.create(str(tmp_path), 1 << 40)
    status = os.fstat(descriptor)
    assert (status.st_size, status.st_blocks, status.st_nlink) == (1 << 40, 0, 0)
    assert not list(tmp_path.iterdir())
    os.close(descriptor)


def test_programs_are_searched_in_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a/crosvm").mkdir(parents=True)  # a directory is no program
    (tmp_path / "b").mkdir()
    (tmp_path / "b/crosvm").write_text("")  # nor is what can't be executed
    (tmp_path / "b/crosvm").chmod(0o644)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/crosvm").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c")
    assert running.find_binary(find("crosvm")) == f"{tmp_path}/c/crosvm"


@pytest.mark.parametrize(("text", "message"), [("", "standard input: "), ("[]", "standard input: not a plan")])
def test_bad_plan_on_standard_input(host: Host, text: str, message: str) -> None:
    result = host.launch("start", "-", given=text)
    assert (result.returncode, result.stderr.count("\n")) == (EX_CONFIG, 1)
    assert message in result.stderr
