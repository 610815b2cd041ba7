"""crosvm."""

from vmsilo_generator.hypervisor import Needs

NEEDS = Needs(
    sockets_by_path=True,
    vsock_by_kernel=True,
    tag_by_backend=True,
    # It puts each of its devices into a process with a root and namespaces of its own (jail/src/helpers.rs), so
    # it must be able to make namespaces, mount in them, change the root and drop what it has there.
    namespaces="user mnt pid net",
    denied_calls="@chown @clock @module @raw-io @reboot @swap",
    further_calls="@mount seccomp",
    # It reads its host's processors and memory from /proc.
    reads_proc=True,
    # A guest's reboot is an exit with this status (--extended-status); the two others reboot by themselves.
    reboot_status="32",
)
