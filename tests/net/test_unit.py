"""The unit that makes a VM's network, and the one that needs it."""

from cases import NAMED, make, net_unit

from net.world import own, plan_of
from vmsilo_generator import roles
from vmsilo_generator.hypervisor import needs
from vmsilo_generator.roles import vm
from vmsilo_generator.unitfile import File, Unit


def units(*nics: str) -> dict[str, File]:
    machine = make("qemu").machines[0]
    network = plan_of("work", *[own(nic, f"work-{nic}") for nic in nics]).network
    made = roles.units(machine._replace(plan=machine.plan._replace(network=network)))
    return {entry.name: entry.file() for entry in made if isinstance(entry, Unit)}


def test_hypervisor_does_not_run_without_its_network() -> None:
    lines = units("lan")["vmsilo-work-vm.service"].text.splitlines()
    assert "Requires=vmsilo-work-net.service" in lines
    (after,) = [line for line in lines if line.startswith("After=")]
    assert "vmsilo-work-net.service" in after.split("=")[1].split()
    assert "vmsilo-work-net.service" in units("lan")


def test_only_with_a_network() -> None:
    assert "vmsilo-work-net.service" not in units()
    assert "net.service" not in units()["vmsilo-work-vm.service"].text


def test_hypervisor_has_no_part_in_the_host_s_network() -> None:
    machine = make("qemu").machines[0]
    (unit,) = [entry for entry in vm.units(machine, needs("qemu")) if isinstance(entry, Unit)]
    assert "PrivateNetwork=yes" in unit.file().text.splitlines()


def test_what_systemd_does_not_know_it_is_not_told() -> None:
    assert "PrivatePIDs=yes" in net_unit().text
    assert "PrivatePIDs" not in net_unit(NAMED._replace(private_pids=False)).text


def test_one_capability_and_one_device() -> None:
    lines = net_unit().text.splitlines()
    assert [line for line in lines if line.startswith(("CapabilityBoundingSet", "AmbientCap"))] == [
        "CapabilityBoundingSet=CAP_NET_ADMIN"
    ]
    assert [line for line in lines if line.startswith("DeviceAllow")] == ["DeviceAllow=/dev/net/tun rw"]
    assert [line for line in lines if line.startswith("ReadWritePaths")] == ["ReadWritePaths=/proc/sys/net"]
