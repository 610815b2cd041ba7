"""The option table holds every option of the original system, with its default, and is sound in itself."""

import pytest

from vmsilo_generator import check, reader, source, syntax
from vmsilo_generator.options import OPTIONS, REQUIRED, UNSET, Kind, Option, Scope, Status, find

# The tables and examples of the original's README, and the default that stands there.
ORIGINAL_HOST = """
enable=false user=required nixosVms={} enableBashIntegration=true gpu.allowWX=false schedulerIsolation="vm"
netvmRange="10.200.0.0/16" vmsilo-balloond.logLevel="info" vmsilo-balloond.pollInterval="2s"
vmsilo-balloond.minPollInterval="250ms" vmsilo-balloond.psiCeiling=25 vmsilo-balloond.criticalHostPercent=5
vmsilo-balloond.criticalGuestAvailable="256m" vmsilo-balloond.guestAvailableBias="400m"
vmsilo-balloond.extraArgs=[] isolatedPciDevices=[]
"""
ORIGINAL_VM = """
memory=1024 cpus=2 color="darkred" network.nameservers=[] network.interfaces={} tray.enable=false
autoShutdown.enable=false autoShutdown.after=60 dbus.notifications=true dbus.tray=false dbus.logLevel="info"
autoStart=false dependsOn=[] additionalDisks=[] rootDisk=null kernel=null initramfs=null rootDiskReadonly=true
sharedHome=true copyChannel=false kernelParams=[] gpu.backend="vhost-device-gpu" gpu.wayland=true gpu.opengl=false
gpu.vulkan=false gpu.allowWX=null gpu.logLevel="info" gpu.seccompPolicy="enforcing" gpu.disableSandbox=false
sound.playback=true sound.capture=false sound.logLevel="info" sound.seccompPolicy="enforcing" sharedDirectories={}
virtiofs.seccompPolicy="enforcing" virtiofs.disableSandbox=false pciDevices=[] usbDevices=[] guestPrograms=[]
guestConfig=[] vhostUser=[] hypervisor="cloud-hypervisor" crosvm.logLevel="info" crosvm.extraArgs=[]
crosvm.extraRunArgs=[] cloud-hypervisor.logLevel="info" cloud-hypervisor.hugepages=false
cloud-hypervisor.seccompPolicy="enforcing" cloud-hypervisor.disableSandbox=false cloud-hypervisor.extraArgs=[]
cloud-hypervisor.extraConfig={} rootOverlay.type="raw" rootOverlay.size="10G" waylandProxy.logLevel="info"
network.netvm=null network.isNetvm=false network.netvmSubnet=null
network.interfaces.<name>.type="tap" network.interfaces.<name>.macAddress=null
network.interfaces.<name>.tap.name=null network.interfaces.<name>.tap.hostAddress=null
network.interfaces.<name>.tap.bridge=null network.interfaces.<name>.dhcp=false
network.interfaces.<name>.addresses=[] network.interfaces.<name>.routes={}
network.interfaces.<name>.routes.<name>.via=required network.interfaces.<name>.v6Addresses=[]
network.interfaces.<name>.v6Routes={} network.interfaces.<name>.v6Routes.<name>.via=required
sharedDirectories.<name>.path=required sharedDirectories.<name>.threadPoolSize=0 sharedDirectories.<name>.xattr=true
sharedDirectories.<name>.posixAcl=true sharedDirectories.<name>.readonly=false
sharedDirectories.<name>.inodeFileHandles="prefer" sharedDirectories.<name>.cache="auto"
sharedDirectories.<name>.allowMmap=false sharedDirectories.<name>.enableReaddirplus=true
sharedDirectories.<name>.writeback=false sharedDirectories.<name>.allowDirectIo=false
sharedDirectories.<name>.logLevel="info" sharedDirectories.<name>.killprivV2=true
sharedDirectories.<name>.uidMap=null sharedDirectories.<name>.gidMap=null sharedDirectories.<name>.translateUid=null
sharedDirectories.<name>.translateGid=null sharedDirectories.<name>.preserveNoatime=false
sharedDirectories.<name>.mountPath=null additionalDisks[].path=required additionalDisks[].ro=false
additionalDisks[].sparse=true additionalDisks[].block-size=null additionalDisks[].id=null
additionalDisks[].direct=false usbDevices[].vendorId=required usbDevices[].productId=required
usbDevices[].serial=null pciDevices[].path=required vhostUser[].type=required vhostUser[].socket=required
"""


def rows(scope: Scope, text: str) -> list[tuple[Scope, str, str]]:
    return [(scope, *word.split("=", 1)) for word in text.split()]  # type: ignore[misc]


def written(option: Option) -> str:
    """The default as the original's README writes it."""
    match option.default:
        case bool():
            return "true" if option.default else "false"
        case ():
            return "[]"
        case str():
            return f'"{option.default}"'
        case _ if option.default is REQUIRED:
            return "required"
        case _ if option.default is UNSET:
            return "{}" if option.kind in (Kind.FREE, Kind.TABLES) else "null"
    return str(option.default)


@pytest.mark.parametrize(("scope", "path", "default"), rows(Scope.HOST, ORIGINAL_HOST) + rows(Scope.VM, ORIGINAL_VM))
def test_of_the_original(scope: Scope, path: str, default: str) -> None:
    option = find(scope, path)
    assert not option.ours
    assert written(option) == default


def test_ours_are_marked() -> None:
    original = {row[:2] for row in rows(Scope.HOST, ORIGINAL_HOST) + rows(Scope.VM, ORIGINAL_VM)}
    more = {option for option in OPTIONS if (option.scope, option.path) not in original}
    disk = ("rootDisk.path", "rootDisk.direct", "rootDisk.sparse", "rootDisk.block-size", "rootDisk.id")
    free = (
        "pciDevices[].<name>",
        "vhostUser[].<name>",
        "additionalDisks[].<name>",
        "rootDisk.<name>",
    )  # "a disk config", "key=value pairs"
    assert {option.path for option in more if not option.ours} == {*disk, *free}
    assert {option.path for option in more if option.ours} == {
        "image", "startTimeout", "stopTimeout", "vsock.cid", "qemu.machine", "qemu.logLevel", "qemu.disableSandbox",
            "qemu.seccompPolicy", "crosvm.seccompPolicy",
        "qemu.extraArgs", "rootDisk.format", "additionalDisks[].format",
        "sharedDirectories.<name>.foreignOwners", "pciDevices[].force",
        "netvmRange6", "network.ipv6", "network.dns", "network.firewall", "network.firewall[].allow",
        "network.firewall[].deny", "network.firewall[].ports", "network.firewallPolicy",
        "network.interfaces.<name>.antiSpoofing",
    }  # fmt: skip


def test_paths_are_unique() -> None:
    paths = [(option.scope, option.path) for option in OPTIONS]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.path)
def test_sound(option: Option) -> None:
    assert option.text[0].isupper()
    assert option.text.endswith(".")
    assert (option.kind is Kind.CHOICE) == bool(option.choices)
    if option.kind is Kind.INT:
        assert option.low < option.high
    if option.kind is Kind.CHOICE:
        assert option.default in (*option.choices, UNSET)
    if option.kind in (Kind.TEXT, Kind.TEXTS, Kind.TABLES, Kind.BOOL_OR_PATH):
        assert option.syntax is not None
    assert option.until is UNSET or option.status is Status.PENDING


def lines(option: Option, value: str) -> str:
    """A file that sets one option of no table of its own."""
    return f"{option.path} = {value}\n"


TOP = [
    option
    for option in OPTIONS
    if "<" not in option.path and "[" not in option.path and "rootDisk." not in option.path
]


@pytest.mark.parametrize("option", TOP, ids=lambda option: option.path)
def test_defaults_pass_their_own_check(option: Option) -> None:
    if option.status is Status.NIX or option.default in (REQUIRED, UNSET):
        return
    value = "[]" if option.default == () else written(option)
    result, messages = read(option.scope, lines(option, value))
    assert [message for message in messages if "not implemented" not in message] == []
    assert result[option.path] == option.default


@pytest.mark.parametrize("option", [option for option in TOP if option.until is not UNSET], ids=lambda o: o.path)
def test_what_is_in_effect_may_be_set(option: Option) -> None:
    value = {True: "true", False: "false", (): "[]"}.get(option.until, f'"{option.until}"')
    assert read(option.scope, lines(option, value))[1] == []


@pytest.mark.parametrize(
    "option", [option for option in TOP if option.status is Status.PENDING], ids=lambda o: o.path
)
def test_pending_is_never_accepted_and_ignored(option: Option) -> None:
    _values, messages = read(option.scope, lines(option, EXAMPLES[option.path]))
    assert len(messages) == 1
    assert messages[0].startswith("not implemented yet: remove it")


EXAMPLES = {
    "schedulerIsolation": '"vm"', "netvmRange": '"10.0.0.0/8"', "isolatedPciDevices": '["01:00.0"]',
    "vmsilo-balloond.logLevel": '"warn"', "vmsilo-balloond.pollInterval": '"1s"', "vmsilo-balloond.psiCeiling": "5",
    "vmsilo-balloond.minPollInterval": '"100ms"', "vmsilo-balloond.criticalHostPercent": "10",
    "vmsilo-balloond.criticalGuestAvailable": '"1G"', "vmsilo-balloond.guestAvailableBias": '"1G"',
    "vmsilo-balloond.extraArgs": '["-v"]', "gpu.allowWX": "true", "color": '"red"', "autoShutdown.enable": "true",
    "autoShutdown.after": "5", "sharedHome": '"/srv/home"',
    "sharedDirectories": '{ a = { path = "/srv" } }', "virtiofs.seccompPolicy": '"log"',
    "virtiofs.disableSandbox": "true", "network.netvm": '"host"', "network.isNetvm": "true",
    "network.netvmSubnet": '"10.200.5.2/31"', "network.nameservers": '["9.9.9.9", "2620:fe::fe"]',
    "network.interfaces": "{ wan = { dhcp = true } }", "gpu.wayland": "true", "gpu.opengl": "true",
    "gpu.vulkan": "true", "gpu.backend": '"crosvm"', "gpu.logLevel": '"debug"', "gpu.seccompPolicy": '"log"',
    "gpu.disableSandbox": "true", "waylandProxy.logLevel": '"debug"', "sound.playback": "true",
    "sound.capture": "true", "sound.logLevel": '"debug"', "sound.seccompPolicy": '"log"', "tray.enable": "true",
    "dbus.notifications": "true", "dbus.tray": "true", "dbus.logLevel": '"debug"',
    "pciDevices": '[{ path = "01:00.0", iommu = "on" }]',
    "usbDevices": '[{ vendorId = "17ef", productId = "60e0", serial = "A1" }]',
}  # fmt: skip


def read(scope: Scope, text: str) -> tuple[reader.Values, list[str]]:
    import tomllib

    one = reader.Reader(scope, "a.toml")
    values = one.read(tomllib.loads(text))
    return values, [problem.message for problem in one.problems if "user is missing" not in problem.message]


def test_an_empty_file_is_a_vm_of_defaults() -> None:
    files = [source.ConfigFile("host", "host.toml", 'user = "david"'), source.ConfigFile("a", "a.toml", "")]
    config = check.load(files, "david:x:1000:1000::/home/david:/bin/sh\n")
    assert config.problems == ()
    (vm,) = config.vms
    for field, path in (("memory", "memory"), ("cpus", "cpus"), ("image", "image"), ("hypervisor", "hypervisor")):
        assert getattr(vm, field) == find(Scope.VM, path).default
    assert vm.overlay_size == syntax.size_bytes("10G") == 10 << 30
