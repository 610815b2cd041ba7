"""A guest that prints without end does not fill the host's memory."""

from lab import config
from lab.host import Host
from vmsilo import paths

VM = "loud"


def test_the_log_stays_small(lab: Host) -> None:
    with lab.configured({VM: config.vm()}):
        lab.vm_run("--user", "root", VM, "head -c 4m /dev/zero | tr '\\0' x >/dev/ttyS0")
        assert lab.systemctl("is-active", "vmsilo-trim.timer").out == "active\n"
        lab.systemctl("start", "vmsilo-trim.service")
        log = f"{paths.vm_dir(VM)}/{paths.CONSOLE_LOG}"
        size, blocks = map(int, lab.run("stat", "--format=%s %b", log).out.split())
        assert size > 4 << 20
        assert blocks * 512 < 2 << 20
        lab.vm_run("--user", "root", VM, "echo still here >/dev/ttyS0")
        assert lab.run("tail", "-c", "12", log).out == "still here\r\n"
