"""ExecStart=: prepare what only start time can, then become the hypervisor."""

import _socket
import os
import signal
import stat
import time
from binascii import b2a_base64
from typing import NamedTuple, NoReturn

from vm_launch import bundle, console, files, overlay
from vm_launch.files import inheritable
from vm_launch.hypervisor import Drive, Nic, Share, Start, Traits, find, nic_id
from vm_launch.running import CONFIG, CONTROL, TAPS, find_binary, read_input, read_plan
from vmsilo import paths, ports
from vmsilo import plan as plans
from vmsilo.failure import EX_CONFIG, EX_NOPERM, EX_OSERR, EX_TEMPFAIL, EX_UNAVAILABLE, Failure, complain
from vmsilo.notify import notify
from vmsilo.plan import Credential, Disk, Plan

KVM = "/dev/kvm"
SMT = "/sys/devices/system/cpu/smt/active"
ROOT_SERIAL = "vmsilo-root"
OVERLAY_SERIAL = "vmsilo-overlay"

# Linux on x86 cuts its command line off there without a word (COMMAND_LINE_SIZE, with the final NUL).
CMDLINE_MAX = 2047

_LANDLOCK = 3  # the version that cloud-hypervisor requires: Linux 6.2

_DEVICE_SECONDS = 10.0  # that the user-space vsock device may take to appear
_DEVICE_POLL = 0.01
_FIRST_BYTES = 4096  # of a disk, to recognize a format by: the largest block that a disk may have


# Of the environment, not for the hypervisor.
_OURS = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")


class Vsock(NamedTuple):
    """How the guest's vsock is carried."""

    descriptor: int  # for the hypervisor; -1: it opens what it needs
    kernel: bool


def start(path: str) -> NoReturn:
    """Start the VM of the plan at *path*, paused. Returns only by raising Failure."""
    plan = read_input() if path == "-" else read_plan(path)
    hypervisor = find(plan.hypervisor)
    notify(f"STATUS=starting {hypervisor.name}")
    try:
        plan = plan._replace(core_scheduling=isolate(plan.core_scheduling))
        ready = prepare(plan, hypervisor)
    except OSError as error:
        raise Failure(f"cannot prepare {plan.run_dir}: {error}", code=EX_OSERR) from None
    line = hypervisor.argv(plan, ready)
    isolate_threads(plan, hypervisor)
    # ExecStartPost= begins at this message, so all it needs has to be there by now.
    notify("READY=1", "STATUS=booting")
    become(line)


def prepare(plan: Plan, hypervisor: Traits) -> Start:
    """Check and make everything. Descriptors that the hypervisor inherits are left inheritable."""
    image = bundle.read(plan.image)
    binary = find_binary(hypervisor)
    kvm = kvm_usable(plan, hypervisor)
    kernel = readable(plan.kernel or image.kernel, "kernel")
    initramfs = readable(plan.initramfs or image.initramfs, "initramfs")
    parameters = cmdline(image.cmdline, plan)
    lent = take_lent(plan)
    drives = make_drives(plan, image, hypervisor, lent)
    backends = make_vhost_user(plan, hypervisor, lent)
    nics = make_nics(plan, hypervisor, lent)
    if plan.hugepages:
        from vm_launch import hugepages

        hugepages.check(plan.memory)
    vsock = open_vsock(plan, hypervisor)
    shares = open_shares(plan, hypervisor)
    strings = oem_strings(plan, kernel_vsock=vsock.kernel)
    make_console(plan, hypervisor)
    for name in hypervisor.directories:
        os.makedirs(os.path.join(plan.run_dir, name), mode=0o700, exist_ok=True)
    ready = Start(
        binary=binary,
        kernel=kernel,
        initramfs=initramfs,
        cmdline=parameters,
        drives=drives,
        shares=shares,
        oem_strings=strings,
        oem_files=tuple(memory_file(text) for text in strings) if hypervisor.reads_oem_files else (),
        control=listen(os.path.join(plan.run_dir, CONTROL), packets=hypervisor.packet_socket),
        kvm=kvm,
        vsock=vsock.descriptor,
        kernel_vsock=vsock.kernel,
        landlock=hypervisor.landlock and landlock_usable(plan, hypervisor),
        vhost_user=backends,
        pci_groups=pci_groups(plan),
        nics=nics,
    )
    config = hypervisor.config(plan, ready)
    if config:
        files.write(os.path.join(plan.run_dir, CONFIG), config)
    # Everybody else learns from the running plan what it became.
    running = plan._replace(vsock="") if vsock.kernel else plan
    files.write(os.path.join(plan.run_dir, paths.RUNNING_PLAN), plans.dumps(running))
    return ready


def isolate(wanted: str) -> str:
    """Share no core with other programs, if so *wanted*. What came of it, as in Plan.core_scheduling."""
    if wanted == plans.CORES_SHARED or not hyperthreads():
        return wanted
    from vm_launch import scheduling  # ctypes takes longer than all the rest

    if not scheduling.available():
        complain(
            "vm-launch",
            "this kernel has no core scheduling: other programs share cores with the VM",
        )
        return plans.CORES_UNGUARDED
    scheduling.isolate()
    return wanted


def hyperthreads() -> bool:
    """Whether any core has more than one hyperthread in use: where none has, there is nobody to share it with."""
    try:
        with open(SMT, encoding="ascii") as file:
            return file.read(1) == "1"
    except OSError:
        return False


def isolate_threads(plan: Plan, hypervisor: Traits) -> None:
    """Have each virtual processor kept apart from the others as well, if that is wanted."""
    if plan.core_scheduling != plans.CORES_PER_THREAD or hypervisor.processors is None or not hyperthreads():
        return
    from vm_launch import scheduling

    deadline = time.monotonic() + plan.start_timeout
    try:
        scheduling.isolate_later(os.path.join(plan.run_dir, CONTROL), hypervisor.processors, deadline)
    except OSError as error:
        raise Failure(f"cannot keep the virtual processors apart: {error}", "schedulerIsolation", EX_OSERR) from None


def kvm_usable(plan: Plan, hypervisor: Traits) -> bool:
    """Whether KVM can be opened. Raises Failure if *hypervisor* can't do without."""
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = f"cannot open {KVM}: {error.strerror}"
        if hypervisor.needs_kvm:
            raise Failure(reason, f"{hypervisor.name} needs KVM; qemu works without", EX_UNAVAILABLE) from None
        if "accel=" not in plan.machine:
            complain("vm-launch", f"{reason}: emulating the processor, which is slow")
        return False
    return True


def readable(path: str, what: str) -> str:
    """*path*. Raises Failure if it can't be read."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise files.cannot_open(path, what, "reading", error) from None
    return path


def cmdline(image: str, plan: Plan) -> str:
    """The kernel's command line. Later parameters win in most of the kernel, so the user's come after the image's."""
    line = " ".join([image, *plan.kernel_params, f"vmsilo.overlay={plan.overlay.type}"]).strip()
    size = len(line.encode())
    if size > CMDLINE_MAX:
        raise Failure(f"kernel command line of {size} bytes, Linux takes {CMDLINE_MAX}", "kernelParams", EX_CONFIG)
    return line


def take_lent(plan: Plan) -> dict[str, int]:
    """What root has opened for this VM, by the names that it has in the service manager's store."""
    if plan.root is None and not plan.disks and not plan.vhost_user and not plan.network.nics:
        return {}
    from vm_launch import store  # most VMs have nothing there

    return store.take()


def make_drives(plan: Plan, image: bundle.Bundle, hypervisor: Traits, lent: dict[str, int]) -> tuple[Drive, ...]:
    """The root, which is the guest's first disk, the overlay if it is a disk, and the further ones."""
    drives = []
    if plan.root is None:
        disk = Disk(image.root, readonly=True)
        drives.append(make_drive(disk, ROOT_SERIAL, "root disk", "image", open_image(image.root), hypervisor))
    drives += configured_drives(plan, hypervisor, lent)
    if plan.overlay.type == "raw":
        drives.insert(1, overlay_drive(plan))
    return tuple(drives)


def open_image(path: str) -> int:
    """A descriptor of the image's root."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise files.cannot_open(path, "root disk", "reading", error) from None


def configured_drives(plan: Plan, hypervisor: Traits, lent: dict[str, int]) -> list[Drive]:
    """The drives of the disks that the configuration names."""
    if plan.root is None and not plan.disks:
        return []
    from vm_launch import disks  # most VMs have none

    drives = []
    for number, place in enumerate(disks.places(plan), 0 if plan.root else 1):
        # Outside of its unit vm-launch opens what its own user may.
        descriptor = lent[place.name] if place.name in lent else disks.open_disk(place, plan.vm)
        if hypervisor.disks_by_path:
            disks.check_path(place, descriptor)
        serial = f"vmsilo-disk{number}" if number else ROOT_SERIAL
        drives.append(make_drive(place.disk, serial, place.what, place.option, descriptor, hypervisor))
    return drives


def make_drive(disk: Disk, serial: str, what: str, option: str, descriptor: int, hypervisor: Traits) -> Drive:
    """The drive of *disk*, which is open as *descriptor*."""
    if hypervisor.takes_for:
        check_format(disk, what, option, hypervisor.takes_for(first_bytes(descriptor)), hypervisor.name)
    return Drive(
        serial=disk.id or serial,
        path=disk.path,
        descriptor=inheritable(descriptor),
        format=disk.format,
        device=stat.S_ISBLK(os.fstat(descriptor).st_mode),
        readonly=disk.readonly,
        direct=disk.direct,
        sparse=disk.sparse,
        block_size=disk.block_size,
        settings=disk.settings,
        backing=files_beneath(disk) if hypervisor.landlock and disk.format == "qcow2" else (),
    )


def files_beneath(disk: Disk) -> tuple[str, ...]:
    """What the hypervisor opens besides, once it is told of *disk*."""
    from vm_launch.qcow2 import backing_files  # few disks are

    return backing_files(disk.path)


def first_bytes(descriptor: int) -> bytes:
    """The first bytes of a disk, which may be open past the page cache: then memory and length must be aligned."""
    import mmap

    with mmap.mmap(-1, _FIRST_BYTES) as memory:
        os.preadv(descriptor, [memory], 0)
        return memory[:]


def check_format(disk: Disk, what: str, option: str, taken_for: str, hypervisor: str) -> None:
    """Raise Failure if the hypervisor would take *disk* for what it is not.

    A guest can write the header of a qcow2 image into a raw disk, whose backing file is then any file of the host.
    """
    if taken_for != disk.format:
        raise Failure(
            f"the {what} {disk.path} is {disk.format}, but {hypervisor} would take it for {taken_for}",
            f"see {option}.format",
            EX_CONFIG,
        )


def overlay_drive(plan: Plan) -> Drive:
    """A fresh disposable disk."""
    directory = os.environ.get("STATE_DIRECTORY") or f"{paths.STATE}/{plan.vm}"
    descriptor = overlay.create(directory, plan.overlay.size)
    left = overlay.room(directory)
    if left < plan.overlay.size:
        complain(
            "vm-launch",
            f"the overlay may grow to {plan.overlay.size >> 20} MiB, but {directory} has {left >> 20} MiB left",
        )
    return Drive(
        serial=OVERLAY_SERIAL,
        path=inherited(descriptor),
        descriptor=descriptor,
        format="raw",
        device=False,
        readonly=False,
        direct=False,
        sparse=True,  # what the guest discards, the host gets back
        block_size=0,
        settings=(),
    )


def make_vhost_user(plan: Plan, hypervisor: Traits, lent: dict[str, int]) -> tuple[int, ...]:
    """Connections to the backends of the vhostUser devices, where the hypervisor does not connect itself."""
    if not plan.vhost_user or not hypervisor.takes_connections:
        return ()
    from vm_launch import sockets

    return tuple(
        inheritable(lent[place.name] if place.name in lent else sockets.connect(place))
        for place in sockets.places(plan)
    )


def make_nics(plan: Plan, hypervisor: Traits, lent: dict[str, int]) -> tuple[Nic, ...]:
    """The network interfaces, each with its TAP open; none for a hypervisor that is given them later."""
    if not plan.network.nics:
        return ()
    from vm_launch import taps

    places = taps.places(plan)
    found = [lent[place.name] if place.name in lent else taps.open_tap(place.nic, plan.vm) for place in places]
    if hypervisor.adds_nics:
        from vm_launch import keeper

        keeper.keep(os.path.join(plan.run_dir, TAPS), found, time.monotonic() + plan.start_timeout)
        return ()
    return tuple(
        Nic(nic_id(place.nic), place.nic.mac, inheritable(tap)) for place, tap in zip(places, found, strict=True)
    )


def open_vsock(plan: Plan, hypervisor: Traits) -> Vsock:
    """Find out who carries the guest's vsock. Raises Failure if nobody does."""
    if hypervisor.serves_vsock:
        files.remove(plan.vsock)  # one that was killed leaves it, and the next one would not bind over it
        return Vsock(-1, kernel=False)
    try:
        descriptor = os.open(paths.KERNEL_VSOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if not hypervisor.user_space_vsock:
            raise Failure(
                f"there is no {paths.KERNEL_VSOCK}, which {hypervisor.name} needs",
                "modprobe vhost_vsock",
                EX_UNAVAILABLE,
            ) from None
        return Vsock(inheritable(connect_device(paths.device_vsock(plan.vm))), kernel=False)
    except OSError as error:
        raise Failure(f"cannot open {paths.KERNEL_VSOCK}: {error.strerror}", code=EX_NOPERM) from None
    if not hypervisor.user_space_vsock:  # it opens the device itself
        os.close(descriptor)
        return Vsock(-1, kernel=True)
    return Vsock(inheritable(descriptor), kernel=True)


def open_shares(plan: Plan, hypervisor: Traits) -> tuple[Share, ...]:
    """The shared directories, with connections that have been tried where the hypervisor takes them."""
    if not plan.shares:
        return ()
    from vm_launch import shares  # only where there are any

    return shares.open_all(plan, connect=hypervisor.takes_connections)


def connect_device(path: str) -> int:
    """A connection to the user-space vsock device, which its own unit starts at about this moment.

    The hypervisor gets it connected, because QEMU gives up at once if nobody listens yet.
    """
    deadline = time.monotonic() + _DEVICE_SECONDS
    device = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    while True:
        try:
            device.connect(path)
            return device.detach()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() >= deadline:
                raise Failure(
                    f"no user-space vsock device at {path}: {error.strerror}",
                    "is vhost-device-vsock running?",
                    EX_TEMPFAIL,
                ) from None
        except OSError as error:
            raise Failure(f"cannot connect to the vsock device at {path}: {error.strerror}", code=EX_NOPERM) from None
        time.sleep(_DEVICE_POLL)


def oem_strings(plan: Plan, *, kernel_vsock: bool) -> tuple[str, ...]:
    """The guest's system credentials as SMBIOS strings (systemd.system-credentials(7))."""
    port = ports.kernel_ready(plan.cid) if kernel_vsock else ports.READY
    ours = [Credential(ports.NOTIFY_CREDENTIAL, f"vsock-stream:{ports.HOST_CID}:{port}")]
    if kernel_vsock:
        ours.append(Credential(ports.RESERVED_PORT_CREDENTIAL, "yes"))
    return tuple(oem_string(credential) for credential in (*plan.credentials, *ours))


def oem_string(credential: Credential) -> str:
    # Binary in every case: an SMBIOS string holds neither an empty value nor a NUL.
    value = b2a_base64(credential.value.encode(), newline=False).decode()
    return f"io.systemd.credential.binary:{credential.name}={value}"


def memory_file(text: str) -> str:
    """The path of an inheritable file that holds *text*: an argument would show it to every user of the host."""
    descriptor = os.memfd_create("vmsilo-credential", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(text.encode())
    return inherited(descriptor)


def make_console(plan: Plan, hypervisor: Traits) -> None:
    """Make the console's files, and what of them the hypervisor inherits."""
    if not hypervisor.reads_terminal:
        inheritable(console.make(plan.run_dir))
        return
    reader, line = console.make_terminal(plan.run_dir)
    inheritable(line)
    os.dup2(reader, 0)
    os.dup2(console.open_log(plan.run_dir), 1)


def listen(path: str, *, packets: bool) -> int:
    """An inheritable socket that listens at *path*, for the hypervisor to take commands from."""
    kind = _socket.SOCK_SEQPACKET if packets else _socket.SOCK_STREAM
    listener = _socket.socket(_socket.AF_UNIX, kind)
    files.remove(path)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(16)
    return inheritable(listener.detach())


def landlock_usable(plan: Plan, hypervisor: Traits) -> bool:
    """Whether the kernel has as much of Landlock as the hypervisor insists on."""
    usable = landlock_version() >= _LANDLOCK
    if plan.sandbox and not usable:
        complain("vm-launch", f"this kernel's Landlock is too old or off: {hypervisor.name} runs without it")
    return usable


def landlock_version() -> int:
    """The kernel's version of Landlock, see landlock_create_ruleset(2). Negative if it has none."""
    import ctypes

    create_ruleset, ask_version = 444, 1
    version: int = ctypes.CDLL(None).syscall(create_ruleset, None, 0, ask_version)
    return version


def pci_groups(plan: Plan) -> tuple[str, ...]:
    """The IOMMU groups of the plan's PCI devices, each once. Raises Failure if one can't be opened."""
    if not plan.pci:
        return ()
    from vm_launch import pci  # few VMs have any

    return pci.groups(plan)


def inherited(descriptor: int) -> str:
    """The path under which the hypervisor finds *descriptor*."""
    return f"/proc/self/fd/{inheritable(descriptor)}"


def become(line: list[str]) -> NoReturn:
    """Execute *line* in place of this process."""
    # Python ignores these, and that would be inherited.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    environment = {key: value for key, value in os.environ.items() if key not in _OURS}
    try:
        os.execve(line[0], line, environment)
    except OSError as error:
        raise Failure(f"cannot execute {line[0]}: {error.strerror}", code=EX_OSERR) from None
