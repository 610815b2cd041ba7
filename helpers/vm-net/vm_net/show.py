"""The picture for people, for programs, and for dot(1)."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from vm_net import rules
from vm_net.links import Tap, Traffic
from vm_net.picture import ABSENT, NO_NETWORK, Vm
from vmsilo.amounts import size
from vmsilo.failure import one_line

_HOST = "host"
_NOTHING = "-"


def as_json(found: Sequence[Vm]) -> str:
    """An array with an object per VM; vm-net(1) describes the keys."""
    return json.dumps([_vm(vm) for vm in found], indent=1, ensure_ascii=False) + "\n"


def _vm(vm: Vm) -> dict[str, Any]:
    return {
        "name": vm.name,
        "state": vm.state,
        "network": vm.network,
        "interfaces": [_interface(tap) for tap in vm.taps],
        "tables": None if vm.tables is None else [_table(table) for table in vm.tables],
        "message": vm.message,
    }


def _interface(tap: Tap) -> dict[str, Any]:
    return {
        "name": tap.interface,
        "tap": tap.tap,
        "state": tap.state,
        "mtu": tap.mtu or None,
        "peer": tap.peer or None,
        "bridge": tap.bridge or None,
        "addresses": list(tap.addresses),
        "sent": tap.sent._asdict(),
        "received": tap.received._asdict(),
    }


def _table(table: rules.Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "drops": [drop._asdict() for drop in table.drops],
        "rules": rules.text(table),
    }


# Tables.


def as_table(found: Sequence[Vm]) -> str:
    """A line per interface; one for a VM that has none."""
    rows: list[tuple[str, ...]] = [
        ("VM", "STATE", "INTERFACE", "TAP", "CONNECTED TO", "HOST'S ADDRESS", "SENT", "RECEIVED", "DROPPED", "")
    ]
    for vm in found:
        rows += list(_rows(vm))
    return _aligned(rows, right=(6, 7, 8))


def _rows(vm: Vm) -> Iterator[tuple[str, ...]]:
    """What belongs to the VM stands in its first line alone."""
    dropped = _NOTHING if vm.tables is None else str(sum(table.dropped for table in vm.tables))
    note = vm.message or ("no network" if vm.network == NO_NETWORK else "")
    head, tail = (vm.name, vm.state), (dropped, note)
    for tap in vm.taps:
        there = tap.state != ABSENT
        yield (
            *head,
            tap.interface,
            tap.tap if tap.state in ("up", ABSENT) else f"{tap.tap} ({tap.state})",
            connected_to(tap),
            tap.addresses[0] if tap.addresses else _NOTHING,  # all of them would make the line very long
            size(tap.sent.bytes) if there else _NOTHING,
            size(tap.received.bytes) if there else _NOTHING,
            *tail,
        )
        head, tail = ("", ""), ("", "")
    if not vm.taps:
        yield (*head, *[_NOTHING] * 6, *tail)


def connected_to(tap: Tap) -> str:
    """Who is at the other end."""
    return tap.peer or (f"bridge {tap.bridge}" if tap.bridge else _NOTHING)


def _aligned(rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] + [0]
    lines = []
    for row in rows:
        cells = zip(row, widths, range(len(row)), strict=True)
        lines.append(
            "  ".join(cell.rjust(width) if at in right else cell.ljust(width) for cell, width, at in cells).rstrip()
        )
    return "\n".join(lines) + "\n"


# In full.


def in_full(found: Sequence[Vm]) -> str:
    return "\n".join("".join(line + "\n" for line in _lines(vm)) for vm in found)


def _lines(vm: Vm) -> Iterator[str]:
    yield f"{vm.name}: {vm.state}, network {vm.network}" + (f": {vm.message}" if vm.message else "")
    for tap in vm.taps:
        yield f"  {tap.interface}: {connected_to(tap)}"
        yield f"    TAP {tap.tap}: {tap.state}" + (f", MTU {tap.mtu}" if tap.mtu else "")
        if tap.bridge:
            yield f"    port of bridge {tap.bridge}"
        if tap.addresses:
            yield f"    the host is {', '.join(tap.addresses)}"
        if tap.state != ABSENT:
            yield f"    sent {_traffic(tap.sent)}"
            yield f"    received {_traffic(tap.received)}"
    for table in vm.tables or ():
        for drop in table.drops:
            yield f"  {drop.packets} packets, {size(drop.bytes)}: {one_line(drop.what)} ({table.name})"
    for table in vm.tables or ():
        yield from ["", *rules.text(table).splitlines()]


def _traffic(traffic: Traffic) -> str:
    return f"{size(traffic.bytes)} in {traffic.packets} packets, {traffic.errors} errors, {traffic.dropped} dropped"


# For graphviz.


def as_dot(found: Sequence[Vm]) -> str:
    """A directed graph: from clients to their netvms, to the host, and to bridges of the host."""
    lines = ["digraph vmsilo {", "\tnode [shape=box];"]
    lines += [f"\t{_quoted(vm.name)} [style={_style(alive=vm.state == 'running')}];" for vm in found]
    taps = [tap for vm in found for tap in vm.taps]
    if any(tap.peer == _HOST for tap in taps):
        lines.append(f"\t{_quoted(_HOST)} [shape=doubleoctagon];")
    for bridge in sorted({tap.bridge for tap in taps if tap.bridge and not tap.peer}):
        lines.append(f"\t{_quoted('bridge ' + bridge)} [shape=ellipse];")
    lines += [edge for tap in taps if (edge := _edge(tap, taps))]
    return "\n".join([*lines, "}"]) + "\n"


def _edge(tap: Tap, taps: Sequence[Tap]) -> str:
    """Of the two ends of a link between VMs, the client's draws it; the netvm's only where it is alone."""
    to = connected_to(tap)
    if to == _NOTHING or (tap.serves and any(_is_other_end(other, tap) for other in taps)):
        return ""
    ends = (to, tap.vm) if tap.serves else (tap.vm, to)
    label = "\n".join([tap.tap, *tap.addresses])
    arrow = " -> ".join(map(_quoted, ends))
    return f"\t{arrow} [label={_quoted(label)}, style={_style(alive=tap.state == 'up')}];"


def _is_other_end(other: Tap, tap: Tap) -> bool:
    return other.vm == tap.peer and other.peer == tap.vm and not other.serves


def _style(*, alive: bool) -> str:
    return "solid" if alive else "dashed"


def _quoted(text: str) -> str:
    """A string of the DOT language; a line break in it is \\n."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
