"""Each unit as `systemd-analyze security` judges it, beside the figures and reasons in vmsilo-security(7).

VMSILO_REWRITE_FIGURES=1 writes the page's table anew, for review with git diff. The reasons are written by hand.
"""

import os
import re
from functools import cache
from typing import NamedTuple

import pytest
from cases import CASES, REAL, make, net_unit
from project import ROOT

from lab import config
from lab.host import Host
from vmsilo import paths
from vmsilo_generator.unitfile import File

PAGE = ROOT / "man" / "vmsilo-security.7"
FIRST = '.\\" The figures: VMSILO_REWRITE_FIGURES=1 pytest tests/lab/test_exposure.py\n'
LAST = '.\\" The end of the figures.\n'

FIGURES_OF = 257  # each version counts in its own way

HELPER_MAX = 1.2
BACKEND_MAX = 1.5
ONESHOT_MAX = 3.0  # with a capability of the host
ROOT_MAX = 1.7  # a backend that serves what only root can, with the capabilities for that


class Measured(NamedTuple):
    """A unit in the table."""

    name: str  # with "name" for the VM's
    of: str  # whose it is, where it depends on the hypervisor
    file: str  # its real name
    text: str
    most: float  # exposure it may have


def of_tree(case: str, unit: str, of: str, most: float, tag: str = "tag") -> Measured:
    file = unit.replace("name", "work", 1).replace("-tag.", f"-{tag}.")
    return Measured(unit, of, file, units_of(case)[file], most)


@cache
def units_of(case: str) -> dict[str, str]:
    return {entry.name: entry.text for entry in make(case, REAL).entries if isinstance(entry, File)}


NET = net_unit(REAL)
TRIM = ROOT / "units" / "vmsilo-trim.service"


MEASURED = (
    of_tree("qemu", "vmsilo-name-vm.service", "QEMU", BACKEND_MAX),
    of_tree("cloud-hypervisor", "vmsilo-name-vm.service", "cloud-hypervisor", BACKEND_MAX),
    of_tree("crosvm", "vmsilo-name-vm.service", "crosvm", BACKEND_MAX),
    of_tree("qemu", "vmsilo-name-vsock.service", "QEMU", BACKEND_MAX),
    of_tree("shares", "vmsilo-name-virtiofs-tag.service", "", BACKEND_MAX),
    of_tree("shares", "vmsilo-name-virtiofs-tag.service", "as root", ROOT_MAX, tag="root"),
    of_tree("shares", "vmsilo-name-virtiofs-tag.service", "with mapped ids", ROOT_MAX, tag="mapped"),
    of_tree("qemu", "vmsilo-name@.service", "QEMU, crosvm", HELPER_MAX),
    of_tree("cloud-hypervisor", "vmsilo-name@.service", "cloud-hypervisor", HELPER_MAX),
    of_tree("qemu", "vmsilo-name-console@.service", "", HELPER_MAX),
    of_tree("qemu", "vmsilo-name-home.service", "", ONESHOT_MAX),
    of_tree("qemu", "vmsilo-shared.service", "", ONESHOT_MAX),
    Measured("vmsilo-name-net.service", "", NET.name, NET.text, ONESHOT_MAX),
    of_tree("pci", "vmsilo-name-pci.service", "", ONESHOT_MAX),
    of_tree("pci", "vmsilo-pci-isolation.service", "", ONESHOT_MAX),
    Measured(TRIM.name, "", TRIM.name, TRIM.read_text(), ONESHOT_MAX),
)


class Verdict(NamedTuple):
    figure: float
    missing: tuple[str, ...]  # what the unit does not say, or says less of than it could


@pytest.fixture(scope="module", autouse=True)
def the_systemd_of_the_page(lab: Host) -> None:
    if lab.systemd_version() != FIGURES_OF:
        pytest.skip(f"the figures are those of systemd {FIGURES_OF}")


@pytest.fixture(scope="module")
def units(lab: Host) -> dict[Measured, Verdict]:
    """Every unit of the table, measured by the lab's systemd."""
    return {unit: offline(lab, unit.file, unit.text) for unit in MEASURED}


def offline(lab: Host, file: str, text: str) -> Verdict:
    path = f"/run/exposure/{file}"
    lab.write(path, text)
    verdict = judged(lab, "--offline=yes", path)
    lab.run("rm", "-r", "/run/exposure")
    return verdict


def judged(lab: Host, *arguments: str) -> Verdict:
    text = lab.run("systemd-analyze", "security", "--no-pager", *arguments).out
    figure = re.search(r"^→ Overall exposure level for .*: (\d+\.\d) ", text, re.MULTILINE)
    assert figure, text
    missing = re.findall(r"^✗ (\S+) .* \d\.\d$", text, re.MULTILINE)
    return Verdict(float(figure[1]), tuple(sorted(missing)))


def table(units: dict[Measured, Verdict]) -> str:
    """The page's table."""
    lines = [".Bl -tag -width 0.0"]
    for unit, verdict in units.items():
        names = [name.replace("…", "others").replace("~", "\\(ti") for name in verdict.missing]
        of = f" Pq {unit.of.replace(', ', ' and ')}" if unit.of else ""
        lines += [f".It {verdict.figure:.1f}", f".Pa {unit.name.replace('-', chr(92) + '-')}{of}", ".br"]
        lines += [", ".join(names)] if names else []
    return "\n".join([*lines, ".El", ""])


def test_page_has_the_figures(units: dict[Measured, Verdict]) -> None:
    head, first, rest = PAGE.read_text().partition(FIRST)
    old, last, tail = rest.partition(LAST)
    assert first
    assert last
    new = table(units)
    if os.environ.get("VMSILO_REWRITE_FIGURES"):
        PAGE.write_text(head + first + new + last + tail)
        old = new
    assert old == new


def test_page_has_the_reasons(units: dict[Measured, Verdict]) -> None:
    """For each directive that any unit does without."""
    _, _, reasons = PAGE.read_text().partition(LAST)
    tags = re.findall(r"^\.It Sy (.*)", reasons, re.MULTILINE)
    given = {name for tag in tags for name in re.findall(r"\w+=", tag)}
    assert {directive(name) for verdict in units.values() for name in verdict.missing} == given


def directive(name: str) -> str:
    """The setting behind a line of systemd-analyze, such as User=/DynamicUser= or SystemCallFilter=~@mount."""
    return name.partition("=")[0] + "="


def test_exposure_is_small(units: dict[Measured, Verdict]) -> None:
    assert {unit: verdict for unit, verdict in units.items() if verdict.figure > unit.most} == {}


def test_every_service_is_measured() -> None:
    measured = {unit.name for unit in MEASURED}
    assert {path.name for path in (ROOT / "units").glob("*.service")} <= measured
    written = {file for case in CASES for file in units_of(case) if re.match(r"vmsilo-work.*\.service$", file)}
    plain = {re.sub(r"-virtiofs-.*", "-virtiofs-tag.service", name.replace("work", "name", 1)) for name in written}
    assert plain <= measured


def test_the_running_system_agrees(lab: Host) -> None:
    """What is counted from files is what the manager has made of them."""
    with lab.configured({"exposed": config.vm()}):
        for unit in ("vmsilo-exposed-vm.service", "vmsilo-exposed@1.service", "vmsilo-exposed-vsock.service"):
            file = unit.replace("@1", "@")
            assert judged(lab, unit) == judged(lab, "--offline=yes", f"{paths.GENERATOR_DIR}/{file}")


def test_a_hole_is_seen(lab: Host) -> None:
    """The tests above mean nothing if the figures can't change."""
    whole = units_of("qemu")["vmsilo-work-vm.service"]
    holed = whole.replace("PrivateNetwork=yes\n", "")
    before, after = offline(lab, "hole.service", whole), offline(lab, "hole.service", holed)
    assert set(after.missing) - set(before.missing) == {"PrivateNetwork="}
    assert after.figure > before.figure
