"""Rules by name: which names a VM may reach, and the sets of its firewall that their addresses go to.

The generator writes this as JSON, for a guest as a credential, for the host beside the plan; name-rules(8) reads it.
"""

import json
from typing import Any, NamedTuple

VERSION = 1


class NameRule(NamedTuple):
    """A name, and where its addresses go."""

    name: str  # "example.org", or "*.example.org": all names below that; in lower case, without a dot at its end
    set4: str  # the name of a set of nft's in the client's table; "" = no address of this kind goes anywhere
    set6: str


class Client(NamedTuple):
    """A VM with rules by name."""

    vm: str
    table: str  # with its family: "inet vmsilo-banking"
    listen: tuple[str, ...]  # the addresses at which it asks
    rules: tuple[NameRule, ...]


class NameRules(NamedTuple):
    """What one name-rules(8) serves."""

    resolvers: tuple[str, ...]  # addresses of those who know the answers, the first foremost
    clients: tuple[Client, ...]


def dumps(rules: NameRules) -> str:
    """*rules* as JSON, the same bytes for the same rules."""
    clients = [{**client._asdict(), "rules": [rule._asdict() for rule in client.rules]} for client in rules.clients]
    return json.dumps({"version": VERSION, "resolvers": rules.resolvers, "clients": clients}, sort_keys=True) + "\n"


def loads(text: str) -> NameRules:
    """Read what dumps() wrote. Raises ValueError for anything else."""
    try:
        fields = json.loads(text)
        if fields["version"] != VERSION:
            raise ValueError(f"not rules by name of version {VERSION}")
        return NameRules(_texts(fields["resolvers"]), tuple(_client(client) for client in fields["clients"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not rules by name: {error!r}") from None


def _client(item: dict[str, Any]) -> Client:
    rules = tuple(NameRule(*_texts((rule["name"], rule["set4"], rule["set6"]))) for rule in item["rules"])
    vm, table = _texts((item["vm"], item["table"]))
    return Client(vm, table, _texts(item["listen"]), rules)


def _texts(values: Any) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("expected text")
    return tuple(values)
