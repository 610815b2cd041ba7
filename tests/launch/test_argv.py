"""What each hypervisor is told: golden command lines and configurations.

VMSILO_REWRITE=1 writes the expected files anew, for review with git diff.
"""

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.conftest import Golden
from launch.hosts import minimal_plan
from vm_launch.hypervisor import Drive, Nic, Share, Start, find, nic_id, qemu
from vm_launch.hypervisor.cloud_hypervisor import merge
from vm_launch.hypervisor.crosvm import quote, takes_for
from vm_launch.start import oem_strings
from vmsilo.failure import Failure
from vmsilo.plan import Credential, PciDevice, Plan, Setting, VhostUser
from vmsilo.plan import Nic as PlannedNic

HYPERVISORS = ("qemu", "cloud-hypervisor", "crosvm")
SCHEMA = json.loads((Path(__file__).parent / "vm_config.schema.json").read_text())

ROOT = Drive(
    serial="vmsilo-root",
    path="/var/lib/vmsilo/images/debian/rootfs.erofs",
    descriptor=7,
    format="raw",
    device=False,
    readonly=True,
    direct=False,
    sparse=False,
    block_size=0,
    settings=(),
)
OVERLAY = ROOT._replace(serial="vmsilo-overlay", path="/proc/self/fd/3", descriptor=3, readonly=False, sparse=True)


def nic(name: str, tap: int) -> Nic:
    mac = f"52:54:00:00:00:{tap}"
    return Nic(nic_id(PlannedNic(name, mac, f"demo_{name}", "", (), "")), mac, tap)


def start(**changes: Any) -> Start:
    """The start of a minimal VM on a host that has everything."""
    made = Start(
        binary="/usr/bin/hypervisor",
        kernel="/var/lib/vmsilo/images/debian/vmlinux",
        initramfs="/var/lib/vmsilo/images/debian/initramfs",
        cmdline="console=ttyS0 vmsilo.overlay=raw",
        drives=(ROOT, OVERLAY),
        shares=(),
        oem_strings=("io.systemd.credential.binary:system.hostname=ZGVtbw==",),
        oem_files=("/proc/self/fd/6",),
        control=4,
        kvm=True,
        vsock=5,
        kernel_vsock=False,
        landlock=True,
    )
    return made._replace(**changes)


def credentials_of(plan: Plan, *, kernel_vsock: bool) -> dict[str, bytes]:
    prefix = "io.systemd.credential.binary:"
    pairs = [text.removeprefix(prefix).split("=", 1) for text in oem_strings(plan, kernel_vsock=kernel_vsock)]
    return {name: base64.b64decode(value) for name, value in pairs}


def test_guest_is_told_who_carries_its_vsock() -> None:
    """Only where the host's kernel does, any local user reaches the guest, which must look at the port then."""
    plan = minimal_plan(cid=70000)
    assert credentials_of(plan, kernel_vsock=False) == {
        "system.hostname": b"demo",
        "vmm.notify_socket": b"vsock-stream:2:5003",
    }
    assert credentials_of(plan, kernel_vsock=True) == {
        "system.hostname": b"demo",
        "vmm.notify_socket": b"vsock-stream:2:70000",
        "vmsilo.reserved-port": b"yes",
    }


def everything(hypervisor: str) -> tuple[Plan, Start]:
    """All that can be chosen chosen differently."""
    plan = minimal_plan(
        hypervisor=hypervisor,
        memory=2048,
        cpus=4,
        log_level="debug",
        extra_args=("--extra", "one two"),
        extra_run_args=("--run", "three"),
        extra_config={"balloon": {"size": 1024}, "memory": {"hugepages": True}, "watchdog": True},
        seccomp_log=True,
        sandbox=False,
        machine="pc-q35-7.2,accel=kvm,sata=on",
    )
    # cloud-hypervisor can't set a block size, and is asked elsewhere.
    size = 0 if hypervisor == "cloud-hypervisor" else 4096
    # Only crosvm takes settings that we don't know.
    further = (Setting(key="packed-queue", value=True), Setting("bootindex", 1), Setting("async-executor", 'a,"b'))
    settings = further if hypervisor == "crosvm" else ()
    return plan, start(
        drives=(
            Drive(
                serial="my-disk",
                path="/dev/mapper/vm",
                descriptor=8,
                format="qcow2",
                device=True,
                readonly=False,
                direct=True,
                sparse=True,
                block_size=size,
                settings=settings,
                backing=("/home/alice/base.qcow2", "/home/alice/base.raw") if size == 0 else (),
            ),
        ),
        shares=(Share("data", "/run/vmsilo/demo/virtiofs-data/device.socket", 7),),
        kernel_vsock=True,
        landlock=False,
        # cloud-hypervisor is given them later.
        nics=() if hypervisor == "cloud-hypervisor" else (nic("upstream", 11), nic("lan+0", 12)),
    )


def awkward(hypervisor: str) -> tuple[Plan, Start]:
    """Values full of every syntax that they pass through."""
    bytes_of_all = "a,b=c \"d\" 'e' \\f [g] {h} %i $j ;\tü\n"
    plan = minimal_plan(
        hypervisor=hypervisor,
        run_dir="/run/a,b/vm",
        vsock="/run/a,b/vm/guest.socket",
        extra_args=(bytes_of_all,),
        extra_run_args=(bytes_of_all,),
        extra_config={"platform": {"system_family": bytes_of_all}},
    )
    return plan, start(
        kernel="/k,=" + bytes_of_all,
        initramfs="/i,=" + bytes_of_all,
        cmdline=bytes_of_all,
        drives=(ROOT._replace(path="/d,=" + bytes_of_all, serial='a,"\\=b'),),
        shares=(Share("a.b-c_d", "/s,=" + bytes_of_all, 7),),
        oem_strings=("io.systemd.credential.binary:a=YSwsYg==", bytes_of_all),
    )


def minimal(hypervisor: str) -> tuple[Plan, Start]:
    return minimal_plan(hypervisor=hypervisor), start()


def vhost_user(hypervisor: str) -> tuple[Plan, Start]:
    """Devices whose backends the user runs: of each form that one is told in."""
    devices = (
        VhostUser("net", "/run/a,b/net.socket", (Setting("queues", 2),) if hypervisor == "qemu" else ()),
        VhostUser("block", "/run/block.socket", ()),
        VhostUser("fs", "/run/fs.socket", (Setting("tag", "data"),)),
        VhostUser("sound", "/run/sound.socket", (Setting("queue_size", 32),) if hypervisor != "qemu" else ()),
    )
    connections = (10, 11, 12, 13) if hypervisor == "qemu" else ()
    plan = minimal_plan(hypervisor=hypervisor, vhost_user=devices, hugepages=hypervisor == "cloud-hypervisor")
    return plan, start(vhost_user=connections)


def devices(hypervisor: str) -> tuple[Plan, Start]:
    """PCI devices: two functions of one card, which stay together, and one whose settings the user wrote."""
    settings: dict[str, tuple[Setting, ...]] = {
        "qemu": (Setting("rombar", 0), Setting("x-vga", value=True), Setting("romfile", "/usr/share/a,b.rom")),
        "cloud-hypervisor": (Setting("iommu", "on"), Setting("id", "on"), Setting("pci_segment", 1)),
        "crosvm": (Setting("guest-address", "00:05.0"), Setting("iommu", "viommu"), Setting("x", value=False)),
    }
    plan = minimal_plan(hypervisor=hypervisor)._replace(
        pci=(
            PciDevice("0000:01:00.1", ()),
            PciDevice("0000:01:00.0", ()),
            PciDevice("10000:03:00.0", settings[hypervisor], force=True),
        )
    )
    return plan, start(pci_groups=("12", "47"))


CASES = {
    "minimal": minimal,
    "everything": everything,
    "awkward": awkward,
    "vhost-user": vhost_user,
    "devices": devices,
}


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
@pytest.mark.parametrize("case", CASES)
def test_golden(golden: Golden, hypervisor: str, case: str) -> None:
    plan, ready = CASES[case](hypervisor)
    traits = find(hypervisor)
    golden(
        f"{hypervisor}-{case}.argv",
        "".join(json.dumps(word, ensure_ascii=False) + "\n" for word in traits.argv(plan, ready)),
    )
    config = traits.config(plan, ready)
    if config:
        golden(f"{hypervisor}-{case}.json", config)
        jsonschema.validate(json.loads(config), SCHEMA)


def test_schema_refuses_unknown_keys() -> None:
    """Else the test above could not fail: cloud-hypervisor itself ignores them."""
    config = json.loads(find("cloud-hypervisor").config(*minimal("cloud-hypervisor")))
    config["disks"][0]["read_only"] = True
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)


@pytest.mark.parametrize("hypervisor", HYPERVISORS)
@pytest.mark.parametrize("level", ["error", "warn", "info", "debug", "trace"])
def test_every_log_level(hypervisor: str, level: str) -> None:
    assert find(hypervisor).argv(minimal_plan(hypervisor=hypervisor, log_level=level), start())


@pytest.mark.parametrize(
    ("machine", "kvm", "expected"),
    [
        ("q35", True, ("q35", "kvm", [])),
        ("q35", False, ("q35", "tcg", [])),
        ("q35,accel=tcg", True, ("q35", "tcg", [])),
        ("q35,accel=kvm:tcg", False, ("q35", "tcg", [])),
        ("q35,accel=tcg:kvm,hpet=on", True, ("q35", "tcg", ["hpet=on"])),
        ("q35,x=a,,b,y=c", False, ("q35", "tcg", ["x=a,,b", "y=c"])),
    ],
)
def test_machine(machine: str, kvm: bool, expected: tuple[str, str, list[str]]) -> None:  # noqa: FBT001
    assert qemu.read_machine(machine, kvm=kvm) == expected


@pytest.mark.parametrize(("machine", "message"), [("q35,accel=kvm", "KVM"), ("microvm", "SMBIOS")])
def test_machine_that_does_not_work(machine: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        qemu.read_machine(machine, kvm=False)


def test_block_size_is_not_ignored() -> None:
    plan, ready = minimal("cloud-hypervisor")
    with pytest.raises(Failure, match="block-size"):
        find("cloud-hypervisor").config(plan, ready._replace(drives=(ROOT._replace(block_size=4096),)))


@pytest.mark.parametrize(
    ("base", "extra", "merged"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
    ],
)
def test_merge(base: dict[str, Any], extra: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge(base, extra) == merged


def test_merge_changes_neither() -> None:
    base: dict[str, Any] = {"a": {"b": 1}}
    extra = {"a": {"c": 2}}
    merge(base, extra)
    assert (base, extra) == ({"a": {"b": 1}}, {"a": {"c": 2}})


ANY_TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=50)


@given(ANY_TEXT, ANY_TEXT)
def test_arguments_pass_unchanged(first: str, second: str) -> None:
    for hypervisor in HYPERVISORS:
        plan = minimal_plan(hypervisor=hypervisor, extra_args=(first, second), extra_run_args=(second, first))
        line = find(hypervisor).argv(plan, start(cmdline=first))
        assert [first, second] in [line[i : i + 2] for i in range(len(line))]
        if hypervisor == "crosvm":
            assert line[line.index("run") :][-3:-1] == [second, first]
        if hypervisor != "cloud-hypervisor":
            assert first in line[line.index("-append" if hypervisor == "qemu" else "--params") + 1 :]


def unquote(text: str) -> str:
    """A quoted string as crosvm reads it: to the next quote that no backslash stands before."""
    assert text[0] == text[-1] == '"'
    read = ""
    characters = iter(text[1:-1])
    for character in characters:
        assert character != '"'
        read += next(characters) if character == "\\" else character
    return read


@given(ANY_TEXT)
def test_quote(text: str) -> None:
    assert unquote(quote(text)) == text


@given(ANY_TEXT)
def test_escape(text: str) -> None:
    """QEMU reads an option's value to the next single comma, and two as one."""
    escaped = qemu.escape(text)
    assert escaped.replace(",,", "") == text.replace(",", "")
    assert escaped.replace(",,", ",") == text


@pytest.mark.parametrize(
    ("first", "format_"),
    [
        (bytes(512), "raw"),
        (b"", "raw"),
        (b"QFI\xfb" + bytes(508), "qcow2"),
        (b"composite_disk\x1d", "a composite disk"),
        (b"\x3a\xff\x26\xed", "an Android sparse image"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive"),
        (b"\x5f\x2a\x4d\x18", "a zstd archive"),
    ],
)
def test_crosvm_guesses(first: bytes, format_: str) -> None:
    assert takes_for(first) == format_


def test_credentials_survive() -> None:
    from base64 import b64decode

    from vm_launch.start import oem_string

    for value in ("", "plain", "a,b=c\n\0ü"):
        text = oem_string(Credential("some.name", value))
        kind, _, encoded = text.partition("=")
        assert kind == "io.systemd.credential.binary:some.name"
        assert b64decode(encoded).decode() == value


def test_unknown_hypervisor() -> None:
    with pytest.raises(Failure, match="xen"):
        find("xen")
