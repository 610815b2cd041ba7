"""Networks of VMs on the lab's host, by their units, without the VMs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cases import REAL, make
from net.world import plan_of

from lab.host import Host
from vmsilo import names, paths, plan
from vmsilo.plan import Plan
from vmsilo_generator.roles import net
from vmsilo_generator.unitfile import Unit

UNITS = "/run/systemd/system"

__all__ = ["interfaces", "plan_of", "planned", "replan", "tables"]


def unit_of(wanted: Plan) -> str:
    """The text of the unit, with the walls that it has on a host."""
    machine = make("qemu", REAL).machines[0]
    (unit,) = net.units(machine._replace(plan=wanted))
    assert isinstance(unit, Unit)
    return unit.file().text


@contextmanager
def planned(host: Host, plans: Sequence[Plan]) -> Iterator[list[str]]:
    """The units that make these networks, by name. Needed by nobody, they stay until they are stopped."""
    units = [names.net_unit(each.vm) for each in plans]
    for each, unit in zip(plans, units, strict=True):
        host.write(f"{UNITS}/{unit}", unit_of(each).replace("StopWhenUnneeded=yes\n", ""))
    host.reload()
    for each in plans:
        replan(host, each)
    try:
        yield units
    finally:
        host.systemctl("stop", *units, check=False)
        host.systemctl("reset-failed", *units, check=False)
        host.run("rm", "-f", *[f"{UNITS}/{unit}" for unit in units])
        host.reload()


def replan(host: Host, wanted: Plan) -> None:
    """Put the plan where the generator puts plans. It is gone with the next reload."""
    host.write(f"{paths.GENERATOR_DIR}/{names.plan_file(wanted.vm)}", plan.dumps(wanted), mode="0600")


def interfaces(host: Host) -> dict[str, dict[str, object]]:
    """What ip(8) tells of the lab's interfaces, but the loopback."""
    found = json.loads(host.run("ip", "-json", "-details", "address", "show").out)
    return {item["ifname"]: item for item in found if item["ifname"] != "lo"}


def tables(host: Host) -> list[str]:
    return host.run("nft", "list", "tables").out.splitlines()
