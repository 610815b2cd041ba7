"""The rules that the kernel has in our tables, and what they dropped. Only root may see them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from vm_net import tool
from vmsilo import names

_VERDICTS = ("drop", "reject")


class Drop(NamedTuple):
    """A rule that drops what it matches, and how often it did."""

    chain: str
    what: str  # the rule's comment, or its number (handle) where it has none
    packets: int
    bytes: int


class Table(NamedTuple):
    """A table of nft(8)."""

    name: str  # with its family: "inet vmsilo-banking"
    vm: str
    drops: tuple[Drop, ...]

    @property
    def dropped(self) -> int:
        """Packets."""
        return sum(drop.packets for drop in self.drops)


def tables() -> list[Table]:
    """All of our tables. Raises tool.Refused for another than root."""
    listed = tool.parsed("nft", "--json", "list", "tables")
    found = [item["table"] for item in listed.get("nftables", ()) if "table" in item]
    ours = sorted((item["name"], item["family"]) for item in found if vm_of(item["name"]))
    return [table for name, family in ours if (table := _table(family, name))]


def vm_of(table: str) -> str:
    """The VM whose table is called that, "" for a table of others."""
    vm = table.removeprefix(names.PREFIX)
    return vm if vm != table and names.is_vm_name(vm) else ""


def _table(family: str, name: str) -> Table | None:
    """None where it has gone by now."""
    try:  # terse: without the members of sets, of which there may be many
        listed = tool.parsed("nft", "--json", "--terse", "list", "table", family, name)
    except tool.Gone:
        return None
    return Table(f"{family} {name}", vm_of(name), tuple(drops(listed["nftables"])))


def text(table: Table) -> str:
    """The rules, as nft(8) writes them, with the members of sets; "" where the table has gone by now."""
    try:
        return tool.text("nft", "list", "table", *table.name.split(" "))
    except tool.Gone:
        return ""


def drops(items: list[dict[str, Any]]) -> Iterator[Drop]:
    """The rules that drop and count, of what ``nft --json`` printed."""
    counters = {item["counter"]["name"]: item["counter"] for item in items if "counter" in item}
    for item in items:
        rule = item.get("rule", {})
        expressions = rule.get("expr", [])
        if not any(verdict in expression for expression in expressions for verdict in _VERDICTS):
            continue
        counted = next((expression["counter"] for expression in expressions if "counter" in expression), None)
        if isinstance(counted, str):  # the name of one that rules share
            counted = counters.get(counted)
        if counted:
            what = rule.get("comment") or f"rule {rule['handle']}"
            yield Drop(rule["chain"], what, counted["packets"], counted["bytes"])
