"""The words of nft(8): how tables, chains and rules are written down.

Names of interfaces, VMs and sets come from the configuration, which has no others than of letters, digits, dots,
dashes and underscores: nft(8) has no way to escape what is between its quotation marks.

Protocols are written as numbers: nft(8) looks names up in /etc/protocols, which a small system does not have.
"""

from collections.abc import Iterable, Sequence


def table(family: str, name: str, parts: Iterable[str]) -> str:
    return f"table {family} {name} {{\n{''.join(parts)}}}\n"


def chain(name: str, rules: Sequence[str], hook: str = "") -> str:
    """One chain; with *hook*, such as "type filter hook input priority filter; policy drop;", a base chain."""
    lines = ([hook] if hook else []) + list(rules)
    return f"  chain {name} {{\n{''.join([f'    {line}' + chr(10) for line in lines])}  }}\n"


def quoted(name: str) -> str:
    return f'"{name}"'


def dropped(condition: str, comment: str) -> str:
    """The rule that counts and drops what the *condition* is true of. Who shows rules adds them up by comment."""
    return f'{condition} counter drop comment "{comment}"'.lstrip()


def one_of(values: Sequence[str]) -> str:
    """The right side of a comparison with any of *values*; there is at least one."""
    return values[0] if len(values) == 1 else "{ " + ", ".join(values) + " }"


def verdicts(pairs: Sequence[tuple[str, str]]) -> str:
    return "{ " + ", ".join([f"{value} : goto {target}" for value, target in pairs]) + " }"
