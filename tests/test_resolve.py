"""What is decided about VMs: stable numbers, and plans that say all that a start needs."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmsilo import ports
from vmsilo.plan import (
    Disk,
    HostPlan,
    IsolatedDevice,
    Overlay,
    PciDevice,
    Setting,
    Share,
    VhostUser,
    dumps,
    loads,
    loads_host,
)
from vmsilo.ports import CID_END, CID_FIRST
from vmsilo_generator.model import Config, Facts, Host, Hypervisor, Vm
from vmsilo_generator.resolve import cid, cid_problems, host_plan, make_plan, resolve

HOST = Host(
    file="/etc/vmsilo.d/host.toml",
    user="david",
    uid=1000,
    gid=1000,
    bash_integration=True,
    scheduler_isolation="vm",
    isolated=(),
    netvm_range="10.200.0.0/16",
    netvm_range6="fd29:9d30:5e92::/64",
)


def a_vm(name: str = "work", **given: Any) -> Vm:
    vm = Vm(
        name=name,
        file=f"/etc/vmsilo.d/{name}.toml",
        hypervisor=Hypervisor.QEMU,
        image="debian",
        memory=1024,
        cpus=2,
        kernel=None,
        initramfs=None,
        root_disk=None,
        disks=(),
        vhost_user=(),
        hugepages=False,
        overlay_type="raw",
        overlay_size=10 << 30,
        home=None,
        shares=(),
        share_seccomp_log=False,
        share_sandbox=True,
        pci=(),
        network=None,
        kernel_params=(),
        depends_on=(),
        auto_start=False,
        cid=None,
        start_timeout=120,
        stop_timeout=30,
        log_level="info",
        extra_args=(),
        extra_run_args=(),
        extra_config={},
        seccomp_log=False,
        sandbox=True,
        machine="q35",
    )
    return vm._replace(**given)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,23}", fullmatch=True)


def test_the_context_id_is_the_one_documented() -> None:
    """`printf work | sha256sum` begins like this; see vmsilo-generator(8)."""
    digest = 0x00E13ED7AF55B27622F1D6EAB5BEC0147E68EFE28DC2B12461117AFA1A5ED40E
    assert cid(a_vm("work")) == CID_FIRST + digest % (CID_END - CID_FIRST)


@given(st.lists(NAMES, unique=True, max_size=8), NAMES)
def test_ids_depend_on_the_name_alone(others: list[str], name: str) -> None:
    alone = resolve(Config(HOST, (a_vm(name),), ()), Facts())[0]
    vms = tuple(a_vm(one) for one in sorted({*others, name}))
    among = {machine.plan.vm: machine for machine in resolve(Config(HOST, vms, ()), Facts())}
    assert among[name] == alone
    assert CID_FIRST <= alone.plan.cid < CID_END
    assert ports.kernel_ready(alone.plan.cid) > ports.LAST_RESERVED


def test_a_pinned_id_is_used() -> None:
    assert make_plan(a_vm(cid=77777), "vm").cid == 77777


def test_of_two_with_one_id_the_later_name_has_the_problem() -> None:
    problems = cid_problems((a_vm("b", cid=70000), a_vm("a", cid=70000), a_vm("c", cid=70001)))
    assert [(problem.file, problem.key) for problem in problems] == [("/etc/vmsilo.d/b.toml", ("vsock", "cid"))]
    assert 'that of VM "a" (/etc/vmsilo.d/a.toml)' in problems[0].message
    assert "vsock.cid = 70002" in problems[0].message


def test_who_wrote_an_id_down_keeps_it() -> None:
    derived = a_vm("a")
    problems = cid_problems((derived, a_vm("z", cid=cid(derived))))
    assert [(problem.file, problem.key) for problem in problems] == [("/etc/vmsilo.d/a.toml", ())]
    assert f"vsock.cid = {cid(derived) + 1}" in problems[0].message


def test_the_proposed_id_is_in_range() -> None:
    problems = cid_problems((a_vm("a", cid=CID_END - 1), a_vm("b", cid=CID_END - 1), a_vm("c", cid=CID_FIRST)))
    assert f"vsock.cid = {CID_FIRST + 1}" in problems[0].message


def test_images_have_names_or_paths() -> None:
    assert make_plan(a_vm(image="debian"), "vm").image == "/var/lib/vmsilo/images/debian"
    assert make_plan(a_vm(image="/srv/debian"), "vm").image == "/srv/debian"


def test_where_the_guests_ports_are() -> None:
    """QEMU's are behind the vsock device, cloud-hypervisor's its own, crosvm's the kernel's."""
    found = {hypervisor: make_plan(a_vm(hypervisor=hypervisor), "vm").vsock for hypervisor in Hypervisor}
    assert found == {
        "qemu": "/run/vmsilo/work/machine/vsock/guest.socket",
        "cloud-hypervisor": "/run/vmsilo/work/machine/vm/guest.socket",
        "crosvm": "",
    }


def test_a_writable_root_needs_no_overlay() -> None:
    disk = Disk("/srv/root.img")
    writable = make_plan(a_vm(root_disk=disk), "vm")
    assert (writable.root, writable.overlay) == (disk, Overlay("none", 0))
    disk = disk._replace(readonly=True)
    readonly = make_plan(a_vm(root_disk=disk, overlay_type="tmpfs", overlay_size=0), "vm")
    assert (readonly.root, readonly.overlay) == (disk, Overlay("tmpfs", 0))
    assert make_plan(a_vm(), "vm").root is None


def test_plans_survive_their_file() -> None:
    plan = make_plan(
        a_vm(kernel_params=("a", "ü\n"), extra_config={"a": [1, {"b": None}]}, root_disk=Disk("/x")), "vm"
    )
    further = (Setting("a", "b"), Setting("c", value=True), Setting("d", 1))
    plan = plan._replace(
        disks=(Disk("/y", id="y"), Disk("/z", settings=further)),
        shares=(Share("home", "/run/x"),),
        vhost_user=(VhostUser("net", "/run/y", further),),
        pci=(PciDevice("0000:01:00.0", further, force=True),),
    )
    assert loads(dumps(plan)) == plan


def test_the_host() -> None:
    assert host_plan(HOST, ()) == HostPlan(user="david", bash_integration=True, isolated=())
    host = HOST._replace(isolated=("0000:01:00.0", "0000:02:00.0"))
    forced = host_plan(host, [a_vm(pci=(PciDevice("0000:02:00.0", (), force=True), PciDevice("0000:01:00.0", ())))])
    assert forced.isolated == (
        IsolatedDevice("0000:01:00.0", force=False),
        IsolatedDevice("0000:02:00.0", force=True),
    )
    assert loads_host(dumps(forced)) == forced
    assert resolve(Config(None, (a_vm(),), ()), Facts()) == ()
