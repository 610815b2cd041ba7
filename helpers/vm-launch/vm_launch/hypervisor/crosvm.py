"""crosvm, which takes everything about its VM from the command line.

Options and exit statuses are those of its own help text and book. Values in a list key=value,... may be quoted,
where a backslash escapes. Its control protocol changes between versions, so commands of the same program speak it.
"""

import os
import select
import signal
import time

from vm_launch import pci
from vm_launch.hypervisor import SHARE_QUEUE, Drive, Start, Target, Traits, no_config, nothing
from vmsilo import paths
from vmsilo.failure import Failure
from vmsilo.plan import CORES_PER_THREAD, CORES_PER_VM, CORES_SHARED, CORES_UNGUARDED, PciDevice, Plan, Setting

# What it pivots its sandboxed devices' root to. Its own default, /var/empty, is not everywhere.
_EMPTY = "empty"

# How files begin that are not raw disks to crosvm.
_QCOW = b"QFI\xfb"
_COMPOSITE = b"composite_disk\x1d"
_ANDROID_SPARSE = 0xED26FF3A
_ZSTD = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50  # and the 15 numbers after it

# Its default is a cookie for each virtual processor.
_CORE_SCHEDULING: dict[str, tuple[str, ...]] = {
    CORES_SHARED: ("--core-scheduling", "false"),
    CORES_UNGUARDED: ("--core-scheduling", "false"),
    CORES_PER_VM: ("--per-vm-core-scheduling",),
    CORES_PER_THREAD: ("--core-scheduling", "true"),
}

# Exit statuses with --extended-status.
_STATUSES = {
    1: "crosvm could not start or go on: see its messages",
    32: "the guest rebooted, for which crosvm ends",
    33: "crosvm crashed, or the guest did",
    34: "the guest panicked",
    35: "crosvm does not know one of its arguments: see its messages",
    36: "the guest hung, and its watchdog ended it",
}


def argv(plan: Plan, start: Start) -> list[str]:
    """The command line. Devices and processors wait to be resumed."""
    line = [
        start.binary,
        *("--extended-status", "--no-syslog", "--log-level", plan.log_level),
        *plan.extra_args,
        "run",
        "--suspended",
        *("--socket", f"/proc/self/fd/{start.control}"),
        *("--cpus", f"num-cores={plan.cpus}"),
        *_CORE_SCHEDULING[plan.core_scheduling],
        *("--mem", f"size={plan.memory}"),
        *("--serial", _console(plan)),
        *("--initrd", start.initramfs),
        *("--params", start.cmdline),
        *("--smbios", f"oem-strings=[{','.join(quote(text) for text in start.oem_strings)}]"),
        *("--vsock", f"cid={plan.cid}"),
        "--no-usb",
    ]
    for drive in start.drives:
        line += ["--block", _block(drive)]
    for share in start.shares:
        line += ["--vhost-user", f"type=fs,socket={quote(share.socket)},max-queue-size={SHARE_QUEUE}"]
    for device in plan.vhost_user:
        fields = [f"type={device.type}", f"socket={quote(device.socket)}", *map(setting, device.settings)]
        line += ["--vhost-user", ",".join(fields)]
    for nic in start.nics:
        line += ["--net", f"tap-fd={nic.tap},mac={quote(nic.mac)}"]
    for passed in plan.pci:
        line += ["--vfio", _vfio(passed)]
    if plan.sandbox:
        line += ["--pivot-root", os.path.join(plan.run_dir, _EMPTY)]
    else:
        line.append("--disable-sandbox")
    if plan.seccomp_log:
        line.append("--seccomp-log-failures")
    return [*line, *plan.extra_run_args, start.kernel]


def quote(value: str) -> str:
    """*value* as a quoted string of a key=value,... list."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def setting(item: Setting) -> str:
    """A setting of the user's in a key=value,... list."""
    if isinstance(item.value, bool):
        return f"{item.key}={'true' if item.value else 'false'}"
    return f"{item.key}={quote(item.value) if isinstance(item.value, str) else item.value}"


def boot(target: Target) -> None:
    _tell(target, "resume", "--full")


def press_power_button(target: Target) -> None:
    _tell(target, "powerbtn")


def takes_for(start: bytes) -> str:
    """The format that crosvm takes a disk for which begins with *start*; it can't be told."""
    if start.startswith(_QCOW):
        return "qcow2"
    magic = int.from_bytes(start[:4], "little")
    if start.startswith(_COMPOSITE):
        return "a composite disk"
    if magic == _ANDROID_SPARSE:
        return "an Android sparse image"
    if magic == _ZSTD or magic & ~0xF == _ZSTD_SKIPPABLE:
        return "a zstd archive"
    return "raw"


def explain(status: int) -> str:
    return _STATUSES.get(status, f"crosvm ended with status {status}")


def _console(plan: Plan) -> str:
    output, keyboard = (os.path.join(plan.run_dir, name) for name in (paths.CONSOLE_LOG, paths.CONSOLE_INPUT))
    return f"type=file,hardware=serial,num=1,path={quote(output)},input={quote(keyboard)}"


def _block(drive: Drive) -> str:
    switches = {"ro": drive.readonly, "direct": drive.direct, "sparse": drive.sparse}
    # It uses the descriptor itself, so its own lock, which is of the same kind as ours, is on the same open file.
    fields = [quote(f"/proc/self/fd/{drive.descriptor}"), f"id={quote(drive.serial)}"]
    fields += [f"{name}={'true' if on else 'false'}" for name, on in switches.items()]
    if drive.block_size:
        fields.append(f"block-size={drive.block_size}")
    fields += [setting(item) for item in drive.settings]
    return ",".join(fields)


def _vfio(device: PciDevice) -> str:
    return ",".join([quote(pci.sysfs(device.address)), *map(setting, device.settings)])


def _tell(target: Target, *words: str) -> None:
    """Run a command of crosvm's own on the control socket. Raises Failure if it fails or takes too long."""
    line = [target.binary, "--no-syslog", *words, target.socket]
    child = os.posix_spawn(target.binary, line, os.environ)
    process = os.pidfd_open(child)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    in_time = poll.poll(max(0.0, target.deadline - time.monotonic()) * 1000)
    if not in_time:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not in_time:
        raise Failure(f"crosvm does not answer {words[0]}")
    if status:
        raise Failure(f"crosvm refused {words[0]}")


TRAITS = Traits(
    name="crosvm",
    binaries=("crosvm",),
    needs_kvm=True,
    serves_vsock=False,
    user_space_vsock=False,
    reads_oem_files=False,
    reads_terminal=False,
    disks_by_path=False,
    landlock=False,
    takes_connections=False,
    packet_socket=True,
    adds_nics=False,
    asks_for_mtu=True,
    directories=(_EMPTY,),
    argv=argv,
    config=no_config,
    takes_for=takes_for,
    boot=boot,
    ready=nothing,
    processors=None,
    press_power_button=press_power_button,
    explain=explain,
)
