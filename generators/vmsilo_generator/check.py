"""From the files' text to a configuration: parse, read by the option table, judge, and sort the good from the bad."""

import tomllib
from collections.abc import Sequence
from typing import Any

from vmsilo import names, paths
from vmsilo.plan import Disk, PciDevice, VhostUser
from vmsilo_generator import across, syntax
from vmsilo_generator.model import Config, Home, Host, Hypervisor, Problem, Share, Vm
from vmsilo_generator.options import DEFAULTS, HOST_DEFAULTS, HYPERVISOR_TABLES, UNSET, Scope
from vmsilo_generator.reader import Key, Reader, Values, shown
from vmsilo_generator.source import ConfigFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmsilo_generator.network.facts import Network


def load(files: Sequence[ConfigFile], passwd: str) -> Config:
    """The configuration of *files*; *passwd* is the text of the user database."""
    problems: list[Problem] = []
    host: Host | None = None
    vms: list[across.Found] = []
    for file in files:
        if file.name == names.HOST_STEM:
            host = _host(file, passwd, problems)
        elif file.fault and not file.name:
            problems.append(Problem(file.path, (), file.fault))
        elif expected := syntax.file_stem(file.name):
            problems.append(Problem(file.path, (), f"a VM can't be called {shown(file.name)}: expected {expected}"))
        else:
            vm, values = _vm(file, problems)
            vms.append(across.Found(file.name, file.path, vm, values))
    vms.sort(key=lambda vm: vm.name)
    problems += across.rules(host, vms)
    return across.settle(host, vms, problems, files)


def _parse(file: ConfigFile, problems: list[Problem]) -> dict[str, Any] | None:
    """The file as TOML tables, or None and a problem."""
    if file.fault:
        problems.append(Problem(file.path, (), file.fault, line=file.line, column=file.column))
        return None
    try:
        return tomllib.loads(file.text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        from vmsilo_generator import faults  # a module of the error path

        problems.append(faults.problem(file.path, file.text, error))
        return None


def _host(file: ConfigFile, passwd: str, problems: list[Problem]) -> Host | None:
    """The global options; None if any of them has a fault."""
    count = len(problems)
    document = _parse(file, problems)
    if document is None:
        return None
    reader = Reader(Scope.HOST, file.path)
    values = reader.read(document, _judge_host)
    problems += reader.problems
    user = values.get("user")
    if user is None:
        return None
    ids = _ids(user, passwd)
    if ids is None:
        message = f"{shown(user)} has no entry with a user id in /etc/passwd: expected a user of this host"
        problems.append(Problem(file.path, ("user",), message))
    if ids is None or len(problems) > count:
        return None
    isolated: tuple[str, ...] = ()
    if values.get("isolatedPciDevices"):
        from vmsilo_generator import pci

        isolated = pci.isolated(values)
    return Host(
        file.path,
        user,
        *ids,
        bash_integration=values.get("enableBashIntegration", True),
        scheduler_isolation=values.get("schedulerIsolation", "vm"),
        isolated=isolated,
        netvm_range=values.get("netvmRange", HOST_DEFAULTS["netvmRange"]),
        netvm_range6=values.get("netvmRange6", HOST_DEFAULTS["netvmRange6"]),
    )


def _judge_host(values: Values, reader: Reader) -> None:
    if values.get("isolatedPciDevices"):
        from vmsilo_generator import pci

        pci.judge_isolated(values, reader)


def _ids(user: str, passwd: str) -> tuple[int, int] | None:
    """The user id and group id of *user* in a text of the form of passwd(5)."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) == 7:
            known = all(field.isascii() and field.isdigit() for field in fields[2:4])
            return (int(fields[2]), int(fields[3])) if known else None
    return None


def _vm(file: ConfigFile, problems: list[Problem]) -> tuple[Vm | None, Values]:
    """One VM, or None with its problems noted, and the values that could be read."""
    document = _parse(file, problems)
    if document is None:
        return None, {}
    reader = Reader(Scope.VM, file.path)
    values = reader.read(document, _judge)
    if reader.problems:
        problems += reader.problems
        return None, values
    return _build(file, {**DEFAULTS, **values}, has_network=_has_network(values)), values


def _has_network(values: Values) -> bool:
    """Whether any of its options is set; few files have one."""
    return any(path.startswith("network.") for path in values)


def _build(file: ConfigFile, values: Values, *, has_network: bool) -> Vm:
    """The VM of a complete set of values."""

    def optional(path: str) -> Any:
        value = values[path]
        return None if value is UNSET else value

    hypervisor = values["hypervisor"]
    root_disk: Disk | None = None
    additional_disks: tuple[Disk, ...] = ()
    if values["rootDisk"] is not UNSET or values["additionalDisks"]:
        from vmsilo_generator import disks

        if values["rootDisk"] is not UNSET:
            root_disk = disks.root(values["rootDisk"], readonly=values["rootDiskReadonly"])
        additional_disks = tuple(map(disks.additional, values["additionalDisks"]))
    devices: tuple[VhostUser, ...] = ()
    if values["vhostUser"]:
        from vmsilo_generator import vhost_user

        devices = tuple(map(vhost_user.device, values["vhostUser"]))
    pci_devices: tuple[PciDevice, ...] = ()
    if values["pciDevices"]:
        from vmsilo_generator import pci

        pci_devices = pci.devices(values)
    network: Network | None = None
    if has_network:
        from vmsilo_generator.network import interfaces

        network = interfaces.build(values)
    home = _home(file.name, values["sharedHome"])
    return Vm(
        name=file.name,
        file=file.path,
        hypervisor=Hypervisor(hypervisor),
        image=values["image"],
        memory=values["memory"],
        cpus=values["cpus"],
        kernel=optional("kernel"),
        initramfs=optional("initramfs"),
        root_disk=root_disk,
        disks=additional_disks,
        vhost_user=devices,
        hugepages=values["cloud-hypervisor.hugepages"],
        overlay_type=values["rootOverlay.type"],
        overlay_size=syntax.size_bytes(values["rootOverlay.size"]) or 0,
        home=home,
        shares=_shares(optional("sharedDirectories") or {}, home),
        share_seccomp_log=values["virtiofs.seccompPolicy"] == "log",
        share_sandbox=not values["virtiofs.disableSandbox"],
        pci=pci_devices,
        network=network,
        kernel_params=values["kernelParams"],
        depends_on=values["dependsOn"],
        auto_start=values["autoStart"],
        cid=optional("vsock.cid"),
        start_timeout=values["startTimeout"],
        stop_timeout=values["stopTimeout"],
        log_level=values[f"{hypervisor}.logLevel"],
        extra_args=values[f"{hypervisor}.extraArgs"],
        extra_run_args=values["crosvm.extraRunArgs"],
        extra_config=optional("cloud-hypervisor.extraConfig") or {},
        seccomp_log=values[f"{hypervisor}.seccompPolicy"] == "log",
        sandbox=not values.get(f"{hypervisor}.disableSandbox", False),
        machine=values["qemu.machine"],
    )


def _home(vm: str, value: bool | str) -> Home | None:  # noqa: FBT001
    if isinstance(value, str):
        return Home(value.rstrip("/"), ours=False)
    return Home(paths.home(vm), ours=True) if value else None


def _shares(tables: dict[str, Values], home: Home | None) -> tuple[Share, ...]:
    if home is not None:
        tables = {**tables, names.HOME_TAG: {"path": home.path, "mountPath": paths.GUEST_HOME}}
    return tuple([_share(tag, tables[tag]) for tag in sorted(tables)])


def _share(tag: str, values: Values) -> Share:
    def value(key: str) -> Any:
        default = DEFAULTS[f"sharedDirectories.<name>.{key}"]
        return values.get(key, "" if default is UNSET else default)

    return Share(
        tag=tag,
        path=values["path"],
        mount_path=value("mountPath"),
        readonly=value("readonly"),
        thread_pool_size=value("threadPoolSize"),
        xattr=value("xattr"),
        posix_acl=value("posixAcl"),
        inode_file_handles=value("inodeFileHandles"),
        cache=value("cache"),
        allow_mmap=value("allowMmap"),
        readdirplus=value("enableReaddirplus"),
        writeback=value("writeback"),
        allow_direct_io=value("allowDirectIo"),
        log_level=value("logLevel"),
        killpriv_v2=value("killprivV2"),
        uid_map=value("uidMap"),
        gid_map=value("gidMap"),
        translate_uid=value("translateUid"),
        translate_gid=value("translateGid"),
        preserve_noatime=value("preserveNoatime"),
        foreign_owners=value("foreignOwners"),
    )


# Rules between the options of one VM.

_DISKS = frozenset({"rootDisk", "additionalDisks"})


def _judge(values: Values, reader: Reader) -> None:
    """Note what can't be together. Most files set none of the keys in question."""
    _judge_hypervisor(values, reader)
    _judge_root(values, reader)
    if values.keys() & _DISKS:
        from vmsilo_generator import disks

        disks.judge(values, reader)
    if values.get("vhostUser"):
        from vmsilo_generator import vhost_user

        vhost_user.judge(values, reader)
    if values.get("cloud-hypervisor.hugepages") and values.get("memory", 0) % 2:
        reader.fault(("memory",), f"expected an even number with hugepages, found {values['memory']}")
    if "kernelParams" in values:
        _judge_kernel_params(values, reader)
    if _has_network(values):
        from vmsilo_generator.network import interfaces

        interfaces.judge(values, reader)
    if values.get("sharedDirectories"):
        _judge_shares(values, reader)
    if values.get("usbDevices"):
        _judge_usb(values["usbDevices"], reader)
    if values.get("pciDevices"):
        from vmsilo_generator import pci

        pci.judge(values, reader)


def _judge_hypervisor(values: Values, reader: Reader) -> None:
    if reader.faulty("hypervisor"):
        return
    chosen = values.get("hypervisor", DEFAULTS["hypervisor"])
    default = "" if "hypervisor" in values else ", the default"
    for path in values:
        table, _dot, key = path.partition(".")
        if table in HYPERVISOR_TABLES and table != chosen:
            message = f'has no effect with hypervisor = "{chosen}"{default}: remove it, or set hypervisor = "{table}"'
            reader.fault((table, key), message, of_key=True)


def _judge_root(values: Values, reader: Reader) -> None:
    readonly = values.get("rootDiskReadonly", True)
    if not readonly and "rootDisk" not in values and not reader.faulty("rootDisk"):
        reader.fault(("rootDiskReadonly",), "false needs a rootDisk: the image's own root can't be written to")
    if not readonly:
        for path in ("rootOverlay.type", "rootOverlay.size"):
            if path in values:
                key = tuple(path.split("."))
                message = "has no effect with rootDiskReadonly = false: there is no overlay"
                reader.fault(key, message, of_key=True)
    elif values.get("rootOverlay.type") == "tmpfs" and "rootOverlay.size" in values:
        message = 'has no effect with rootOverlay.type = "tmpfs", whose limit is the guest\'s memory: remove it'
        reader.fault(("rootOverlay", "size"), message, of_key=True)


def _judge_kernel_params(values: Values, reader: Reader) -> None:
    length = len(" ".join(values["kernelParams"]).encode())
    if length > syntax.KERNEL_COMMAND_LINE_MAX:
        most = syntax.KERNEL_COMMAND_LINE_MAX
        reader.fault(("kernelParams",), f"{length} bytes together: a kernel takes at most {most}")


def _judge_shares(values: Values, reader: Reader) -> None:
    mounted: dict[str, str] = {}
    for tag, share in values["sharedDirectories"].items():
        if share is UNSET:
            continue
        key = ("sharedDirectories", tag)
        _judge_share(share, key, reader)
        if values.get("sharedHome", DEFAULTS["sharedHome"]):
            _judge_beside_home(share, tag, reader)
        if "mountPath" not in share:
            continue
        other = mounted.setdefault(share["mountPath"].rstrip("/"), tag)
        if other != tag:
            reader.fault((*key, "mountPath"), f"sharedDirectories.{other} is mounted there: expected another path")


def _judge_share(share: Values, key: Key, reader: Reader) -> None:
    """The rules are those of virtiofsd, where it refuses or passes over."""

    def said(name: str) -> str:
        default = DEFAULTS[f"sharedDirectories.<name>.{name}"]
        value = share.get(name, default)
        text = {True: "true", False: "false"}.get(value, f'"{value}"')
        return f"{name} = {text}" + ("" if name in share else ", the default")

    if share.get("posixAcl", True):
        for name in ("translateUid", "translateGid"):
            if name in share:
                reader.fault((*key, name), f"not together with {said('posixAcl')}: set posixAcl = false", of_key=True)
        if not share.get("xattr", True):
            message = f"not together with {said('posixAcl')}, which needs them: set posixAcl = false"
            reader.fault((*key, "xattr"), message)
    if share.get("allowMmap") and share.get("cache", "auto") not in ("never", "metadata"):
        message = f'has no effect with {said("cache")}: remove it, or set cache to "never" or "metadata"'
        reader.fault((*key, "allowMmap"), message, of_key=True)
    if share.get("writeback") and share.get("readonly"):
        reader.fault((*key, "writeback"), "has no effect with readonly = true: remove it", of_key=True)
    for name in ("uidMap", "gidMap"):
        if name not in share:
            continue
        if share.get("foreignOwners"):
            reader.fault((*key, name), "not together with foreignOwners = true: remove one of the two", of_key=True)
        if share.get("inodeFileHandles") == "mandatory":
            message = 'not together with inodeFileHandles = "mandatory": who has mapped ids may not open by handle'
            reader.fault((*key, name), message, of_key=True)


def _judge_beside_home(share: Values, tag: str, reader: Reader) -> None:
    key = ("sharedDirectories", tag)
    if tag == names.HOME_TAG:
        message = "this is the tag of sharedHome: choose another one, or set sharedHome = false"
        reader.fault(key, message, of_key=True)
    elif share.get("mountPath", "").rstrip("/") == paths.GUEST_HOME:
        message = f"sharedHome is mounted at {paths.GUEST_HOME}: choose another place, or set sharedHome = false"
        reader.fault((*key, "mountPath"), message)


def _judge_usb(devices: Sequence[Any], reader: Reader) -> None:
    seen: dict[tuple[str, ...], int] = {}
    for index, device in enumerate(devices):
        if device is UNSET:
            continue
        same = tuple(str(device.get(key, "")).lower() for key in ("vendorId", "productId", "serial"))
        if same in seen:
            message = f"this device stands in usbDevices twice, first as number {seen[same] + 1}: remove one"
            reader.fault(("usbDevices", index, "vendorId"), message)
        seen.setdefault(same, index)
