"""From text to a configuration: what a correct file becomes. What a wrong one is told is in test_errors.py."""

import pytest

from vmsilo.plan import Disk, Setting, VhostUser
from vmsilo_generator import check
from vmsilo_generator.model import Config, Home, Host, Hypervisor, Share, Vm
from vmsilo_generator.source import ConfigFile

PASSWD = "root:x:0:0:root:/root:/bin/bash\ndavid:x:1000:1000::/home/david:/bin/bash\nno-uid:x::1000:::\nshort:x:1\n"
HOST = ConfigFile("host", "/etc/vmsilo.d/host.toml", 'user = "david"\n')


def load(*texts: str, host: ConfigFile | None = HOST, passwd: str = PASSWD) -> Config:
    """A configuration of VMs a, b, c, ..."""
    files = [
        ConfigFile(name, f"/etc/vmsilo.d/{name}.toml", text) for name, text in zip("abcdefgh", texts, strict=False)
    ]
    return check.load([*files, host] if host is not None else files, passwd)


def vm(text: str) -> Vm:
    config = load(text)
    assert config.problems == ()
    assert config.broken == ()
    return config.vms[0]


def test_host() -> None:
    usual = Host(
        HOST.path, "david", 1000, 1000, bash_integration=True, scheduler_isolation="vm", isolated=(),
        netvm_range="10.200.0.0/16", netvm_range6="fd29:9d30:5e92::/64",
    )  # fmt: skip
    assert load().host == usual
    quiet = HOST._replace(text='user = "david"\nenableBashIntegration = false\nschedulerIsolation = "off"\n')
    assert load(host=quiet).host == usual._replace(bash_integration=False, scheduler_isolation="off")


def test_nothing_at_all() -> None:
    assert check.load([], PASSWD) == Config(None, (), (), ())


def a_share(tag: str, path: str, mount_path: str = "") -> Share:
    """A shared directory of which nothing else is said."""
    return Share(
        tag=tag, path=path, mount_path=mount_path, readonly=False, thread_pool_size=0, xattr=True, posix_acl=True,
        inode_file_handles="prefer", cache="auto", allow_mmap=False, readdirplus=True, writeback=False,
        allow_direct_io=False, log_level="info", killpriv_v2=True, uid_map="", gid_map="", translate_uid="",
        translate_gid="", preserve_noatime=False, foreign_owners=False,
    )  # fmt: skip


def test_defaults() -> None:
    assert vm("") == Vm(
        name="a", file="/etc/vmsilo.d/a.toml", hypervisor=Hypervisor.CLOUD_HYPERVISOR, image="debian", memory=1024,
        cpus=2, kernel=None, initramfs=None, root_disk=None, disks=(), vhost_user=(), hugepages=False,
        overlay_type="raw", overlay_size=10 << 30,
        home=Home("/shared/a/home", ours=True), shares=(a_share("home", "/shared/a/home", "/home/user"),),
        share_seccomp_log=False, share_sandbox=True, pci=(), network=None,
        kernel_params=(), depends_on=(), auto_start=False, cid=None, start_timeout=120, stop_timeout=30,
        log_level="info", extra_args=(), extra_run_args=(), extra_config={}, seccomp_log=False, sandbox=True,
        machine="q35",
    )  # fmt: skip


def test_everything() -> None:
    text = """
hypervisor = "cloud-hypervisor"
image = "/srv/image"
memory = 4096
cpus = 4
kernel = "/boot/vmlinux"
initramfs = "/boot/initrd"
kernelParams = ["quiet", 'a="b c"']
rootDisk = "/srv/root.img"
rootOverlay = { type = "raw", size = "1GB" }
sharedHome = false
dependsOn = ["b"]
autoStart = true
startTimeout = 7
stopTimeout = 8
vsock.cid = 70077
[cloud-hypervisor]
logLevel = "debug"
seccompPolicy = "log"
disableSandbox = true
hugepages = false
extraArgs = ["-v", "a b\\n"]
extraConfig = { memory = { mergeable = true }, list = [1, 2.5, "x", { y = false }] }
"""
    config = load(text, "")
    assert config.problems == ()
    assert config.vms[0] == Vm(
        name="a", file="/etc/vmsilo.d/a.toml", hypervisor=Hypervisor.CLOUD_HYPERVISOR, image="/srv/image",
        memory=4096, cpus=4, kernel="/boot/vmlinux", initramfs="/boot/initrd",
        root_disk=Disk("/srv/root.img", readonly=True), disks=(), vhost_user=(), hugepages=False,
        overlay_type="raw", overlay_size=1_000_000_000,
        home=None, shares=(), share_seccomp_log=False, share_sandbox=True, pci=(), network=None,
        kernel_params=("quiet", 'a="b c"'), depends_on=("b",), auto_start=True, cid=70077,
        start_timeout=7, stop_timeout=8, log_level="debug", extra_args=("-v", "a b\n"), extra_run_args=(),
        extra_config={"memory": {"mergeable": True}, "list": [1, 2.5, "x", {"y": False}]}, seccomp_log=True,
        sandbox=False, machine="q35",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/srv/homes/a", "/srv/homes/a/"])
def test_home_of_one_s_own(path: str) -> None:
    one = vm(f'sharedHome = "{path}"\nsharedDirectories.data.path = "/srv/data"')
    assert one.home == Home("/srv/homes/a", ours=False)
    assert one.shares == (a_share("data", "/srv/data"), a_share("home", "/srv/homes/a", "/home/user"))


def test_no_home() -> None:
    one = vm('sharedHome = false\n[sharedDirectories.home]\npath = "/srv/home"\nmountPath = "/home/user"')
    assert one.home is None
    assert one.shares == (a_share("home", "/srv/home", "/home/user"),)


@pytest.mark.parametrize("hypervisor", Hypervisor)
def test_options_of_the_hypervisor_chosen(hypervisor: Hypervisor) -> None:
    text = f'hypervisor = "{hypervisor}"\n[{hypervisor}]\nlogLevel = "error"\nextraArgs = ["x"]\n'
    one = vm(text)
    assert (one.hypervisor, one.log_level, one.extra_args, one.sandbox) == (hypervisor, "error", ("x",), True)


def test_crosvm() -> None:
    assert vm('hypervisor = "crosvm"\ncrosvm.extraRunArgs = ["--x"]').extra_run_args == ("--x",)


def test_qemu() -> None:
    one = vm('hypervisor = "qemu"\nqemu = { machine = "q35,accel=tcg", disableSandbox = true }')
    assert (one.machine, one.sandbox) == ("q35,accel=tcg", False)


def test_root_disk_as_a_table() -> None:
    text = (
        'rootDiskReadonly = false\n[rootDisk]\npath = "/dev/vg/a"\nformat = "qcow2"\ndirect = true\nsparse = true\n'
    )
    one = vm('hypervisor = "crosvm"\n' + text + 'block-size = 4096\nid = "root"\n')
    assert one.root_disk == Disk(
        "/dev/vg/a", "qcow2", readonly=False, direct=True, sparse=True, block_size=4096, id="root"
    )


def test_additional_disks() -> None:
    """In the file's order, each with what it is by default; a key of crosvm's own is kept as it is."""
    one = vm("""
        hypervisor = "crosvm"
        additionalDisks = [
            { path = "/srv/a" },
            { path = "/dev/b", format = "qcow2", ro = true, id = "b", block-size = 4096, direct = true },
            { path = "/srv/c", sparse = false, packed-queue = true, bootindex = 2 },
        ]
    """)
    further = (Setting(key="packed-queue", value=True), Setting("bootindex", 2))
    assert one.disks == (
        Disk("/srv/a", sparse=True),
        Disk("/dev/b", "qcow2", readonly=True, direct=True, block_size=4096, id="b"),
        Disk("/srv/c", settings=further),
    )


def test_devices_of_the_users() -> None:
    one = vm('vhostUser = [{ type = "net", socket = "/run/n", num_queues = 4 }]\ncloud-hypervisor.hugepages = true')
    assert one.vhost_user == (VhostUser("net", "/run/n", (Setting("num_queues", 4),)),)
    assert one.hugepages


def test_discards_reach_a_root_disk_that_is_writable() -> None:
    path = 'rootDisk.path = "/srv/a"\n'
    assert vm(path).root_disk == Disk("/srv/a", readonly=True, sparse=False)
    assert vm(path + "rootDiskReadonly = false").root_disk == Disk("/srv/a", sparse=True)
    assert vm(path + "rootDiskReadonly = false\nrootDisk.sparse = false").root_disk == Disk("/srv/a")


def test_tables_however_written_are_the_same() -> None:
    dotted = vm('rootOverlay.type = "tmpfs"')
    assert dotted == vm('rootOverlay = { type = "tmpfs" }') == vm('[rootOverlay]\ntype = "tmpfs"')
    assert dotted.overlay_type == "tmpfs"


def test_order_of_the_files_is_nothing() -> None:
    files = [ConfigFile(name, f"{name}.toml", "") for name in ("b", "a-b", "a", "host")]
    files[-1] = HOST
    assert check.load(files, PASSWD) == check.load(files[::-1], PASSWD)
    assert [one.name for one in check.load(files, PASSWD).vms] == ["a", "a-b", "b"]


@pytest.mark.parametrize("user", ["no-uid", "short", "nobody", "x"])
def test_a_user_without_uid(user: str) -> None:
    config = load("", host=HOST._replace(text=f'user = "{user}"'))
    assert config.host is None
    assert [problem.key for problem in config.problems] == [("user",)]
    # Every VM needs the user, and says so.
    assert [(broken.name, len(broken.messages)) for broken in config.broken] == [("a", 1)]
    assert "no entry with a user id" in config.broken[0].messages[0]


def test_a_missing_host_file_breaks_every_vm() -> None:
    config = load("", "", host=None)
    assert config.vms == ()
    assert [broken.messages for broken in config.broken] == [
        ('/etc/vmsilo.d/host.toml: this file is missing: it names the user whose VMs these are, as user = "<name>"',)
    ] * 2


def test_one_bad_file_leaves_the_others_alone() -> None:
    config = load("cpus = 0", "", "cpus = 2", "= ")
    assert [one.name for one in config.vms] == ["b", "c"]
    assert [broken.name for broken in config.broken] == ["a", "d"]
    assert config.host is not None


def test_a_broken_vm_has_all_its_messages_and_no_others() -> None:
    config = load("cpus = 0\nmemory = 0", "cpus = 0")
    assert [len(broken.messages) for broken in config.broken] == [2, 1]
    assert all(message.startswith("/etc/vmsilo.d/a.toml:") for message in config.broken[0].messages)
