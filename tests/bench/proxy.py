"""ProxyCommand of ssh in the lab: connects to a guest's sshd, passes the connection to ssh, and is gone.

systemd-ssh-proxy(1) would do this as well, but does not wait for the device's OK: vhost-device-vsock takes what ssh
says meanwhile for a part of the request, and hangs up. ``proxy.py HYBRID-SOCKET CID PORT``
"""

import _socket
import sys

sys.path[:0] = ["/usr/lib/vmsilo"]

from vmsilo import vsock  # noqa: E402

hybrid, cid, port = sys.argv[1].removeprefix("-"), int(sys.argv[2]), int(sys.argv[3])
connection = vsock.connect(cid, port, hybrid, patience=10, timeout=60)
ssh = _socket.socket(fileno=1)
ssh.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, connection.fileno().to_bytes(4, sys.byteorder))])
