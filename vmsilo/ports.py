"""vsock ports and context ids."""

HOST_CID = 2

# In the guest:
COMMAND = 5000
USB = 5002

# On the host:
DBUS = 5001
READY = 5003

CID_MIN = 3
CID_MAX = 0xFFFF_FFFE

# Of these, ours: up to before the end, those that are pinned too. A VM's is also the host port of its ready message
# where the kernel carries it, so it is no reserved port, nor one that something else on the host listens on.
CID_FIRST = 65536
CID_END = 1 << 31

# The kernel lets only privileged processes bind vsock ports up to here (net/vmw_vsock/af_vsock.c,
# LAST_RESERVED_PORT). The guest's agent takes commands from such ports only where the host's kernel carries the
# connection, since there any local user could otherwise connect to any guest.
LAST_RESERVED = 1023


def kernel_ready(cid: int) -> int:
    """The host port on which the VM *cid* reports ready where the host's kernel carries vsock.

    There the host's ports are one space for all VMs, so each VM has its own: the number of its CID.
    """
    return cid


# The system credential that tells the guest's systemd where to report that it is ready (systemd(1)).
NOTIFY_CREDENTIAL = "vmm.notify_socket"

# The system credential by which the host says that it reaches the guest through the kernel's vsock, so that the
# agent must refuse any other source port; its value is "yes".
RESERVED_PORT_CREDENTIAL = "vmsilo.reserved-port"
