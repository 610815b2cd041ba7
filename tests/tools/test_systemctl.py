"""What systemctl prints is read right, whatever a guest put into it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsilo.systemctl import Outcome, parse_show

CAPTURED = Path(__file__).parent / "captured"


@pytest.mark.parametrize("version", [252, 257])
def test_captured_output(version: int) -> None:
    states = {state.name: state for state in parse_show((CAPTURED / f"show-{version}.txt").read_text())}
    running = states["vmsilo-demo-vm.service"]
    assert (running.load, running.active, running.memory) == ("loaded", "active", None)
    assert running.description == "VM demo (qemu)"
    assert running.status == "booting /run/vmsilo/demo/vm"
    assert running.active_since > 0
    assert set(running.requires) == {"sysinit.target", "system.slice"}
    assert not running.stopped
    assert states["vmsilo-work-vm.service"].stopped
    assert states["vmsilo-wrong.socket"].active == "failed"
    assert states["vmsilo-wrong.socket"].description.endswith('expected a whole number, got "lots"')
    assert not states["vmsilo-absent-vm.service"].known
    assert len(states) == 6


@pytest.mark.parametrize(
    ("text", "memory"),
    [("[not set]", None), ("18446744073709551615", None), ("0", 0), ("4096", 4096), ("²", None)],
)
def test_memory(text: str, memory: int | None) -> None:
    assert parse_show(f"Id=x\nMemoryCurrent={text}\n")[0].memory == memory


# A service's status may hold any character but a newline.
@given(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])))
def test_status_text_stays_one_value(status: str) -> None:
    (state,) = parse_show(f"StatusText={status}\nId=x\nActiveState=active\n")
    assert (state.name, state.active, state.status) == ("x", "active", status)


@given(st.text())
def test_nothing_breaks_the_parser(text: str) -> None:
    parse_show(text)


@pytest.mark.parametrize(
    "text",
    [
        "Failed to start vmsilo-a-vm.service: Access denied\n",
        "Failed to start vmsilo-a-vm.service: Interactive authentication required.\nSee system logs ...\n",
    ],
)
def test_refusal_of_polkit(text: str) -> None:
    assert Outcome(1, "", text).not_allowed
    assert not Outcome(1, "", "Failed to start vmsilo-a-vm.service: Unit not found.\n").not_allowed
