"""Reads a parsed TOML table by the option table: every value checked for itself, every fault noted, none fatal.

What comes out are plain values by option path, defaults not filled in; an option with a fault is left out.
"""

from collections.abc import Callable
from typing import Any

from vmsilo_generator import syntax
from vmsilo_generator.model import PROBLEMS_MAX, Problem
from vmsilo_generator.options import HOST_TREE, UNSET, VM_TREE, Kind, Node, Option, Scope, Status

Key = tuple[str | int, ...]
Values = dict[str, Any]

TREES = {Scope.HOST: HOST_TREE, Scope.VM: VM_TREE}

_SHOWN_MAX = 60
_DEPTH_MAX = 100  # of tables and lists in each other; readers of JSON have such a limit too
_INT64 = range(-(1 << 63), 1 << 64)  # what JSON readers of the hypervisors take


def shown(value: str) -> str:
    """A user's text for a message: quoted, on one line, not endless, no control sequences for a terminal."""
    if len(value) > _SHOWN_MAX:
        value = value[: _SHOWN_MAX - 1] + "…"
    if not value.isprintable():
        value = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return f"'{value}'" if '"' in value else f'"{value}"'


def found(value: Any) -> str:
    """What a TOML value is, for a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"text {shown(value)}"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return "a date or time"


def _number(value: float) -> str:
    """A number, cut where int() might refuse to print it or nobody would read it."""
    return f"the number {value}" if not isinstance(value, int) or abs(value) < 10**20 else "a number beyond 64 bits"


class _Enough(Exception):
    """There are more problems than anyone would read."""


class Reader:
    """Reads one file."""

    __slots__ = ("file", "problems", "scope")

    def __init__(self, scope: Scope, file: str) -> None:
        self.scope = scope
        self.file = file
        self.problems: list[Problem] = []

    def read(self, document: dict[str, Any], judge: "Callable[[Values, Reader], None] | None" = None) -> Values:
        """All options of a file, which *judge* looks at as a whole in the end."""
        values: Values = {}
        try:
            self._table(TREES[self.scope], document, (), "", values, inside=False)
            if judge is not None:
                judge(values, self)
        except _Enough:
            message = f"{PROBLEMS_MAX} mistakes: the rest of the file was not looked at"
            self.problems.append(Problem(self.file, (), message))
        return values

    def fault(self, key: Key, message: str, *, of_key: bool = False) -> Any:
        """Note a problem; the value of the option is unset."""
        self.problems.append(Problem(self.file, key, message, of_key))
        if len(self.problems) == PROBLEMS_MAX:
            raise _Enough
        return UNSET

    def faulty(self, *key: str | int) -> bool:
        """Whether the option at *key* was set, but to nothing that can be used."""
        return any(problem.key[: len(key)] == key for problem in self.problems)

    def _table(
        self, node: Node, table: dict[str, Any], key: Key, prefix: str, values: Values, *, inside: bool
    ) -> None:
        """Read the options of one table into *values*. *inside*: of one that is itself not implemented yet."""
        for name, value in table.items():
            child = node.keys.get(name)
            if child is None:
                child = self._free_key(node, name, (*key, name))
                if child is None:
                    continue
            if child.option is None:
                if isinstance(value, dict):
                    self._table(child, value, (*key, name), f"{prefix}{name}.", values, inside=inside)
                else:
                    self.fault((*key, name), f"expected a table with {_listed(child.keys)}, found {found(value)}")
                continue
            result = self._option(child, child.option, value, (*key, name), inside=inside)
            if result is not UNSET:
                values[prefix + name] = result
        for name in node.required:
            if name not in table:
                self.fault((*key, name) if not key else key, _missing(node, name), of_key=True)

    def _free_key(self, node: Node, name: str, key: Key) -> Node | None:
        """The node of a key that the user chose, such as another key of a PCI device."""
        if node.each is not None and node.each.option is not None and node.each.option.syntax is not None:
            expected = node.each.option.syntax(name)
            if not expected:
                return node.each
            self.fault(key, f"expected {expected}, found {shown(name)}", of_key=True)
        else:
            self.fault(key, self._unknown(node, name, key), of_key=True)
        return None

    def _unknown(self, node: Node, name: str, key: Key) -> str:
        """The message for a key that isn't an option."""
        from vmsilo_generator import where  # a module of the error path

        path = ".".join(part for part in key if isinstance(part, str))
        other = Scope.VM if self.scope is Scope.HOST else Scope.HOST
        if _at(TREES[other], key) is not None and name not in HOST_TREE.keys.keys() & VM_TREE.keys.keys():
            return f"unknown option here: it belongs in {other.value}"
        near = where.nearest(name, node.keys)
        meant = (near,) if near is not None else where.paths_like(path, self.scope) if len(key) <= 2 else ()
        if meant:
            return f"unknown option (did you mean {_quoted(meant)}?)"
        if len(key) > 1:
            return f"unknown option: expected {_listed(node.keys)}"
        return "unknown option: vmsilo.toml(5) lists all there are"

    def _option(self, node: Node, option: Option, value: Any, key: Key, *, inside: bool) -> Any:
        """The checked value of one option, UNSET if it has a fault."""
        if option.status is Status.NIX:
            return self.fault(key, _of_nix(option), of_key=True)
        pending = option.status is Status.PENDING and not inside
        result = _CHECKS[option.kind](self, node, option, value, key)
        if pending and not _in_effect(option, result):
            self.fault(key, _not_implemented(option), of_key=True)
        return result

    # One method for each kind of value.

    def _bool(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if isinstance(value, bool):
            return value
        word = value.lower() if isinstance(value, str) else str(value)
        hint = ""
        if word in ("true", "yes", "on", "1"):
            hint = ": write true"
        elif word in ("false", "no", "off", "0"):
            hint = ": write false"
        if hint and isinstance(value, str):
            hint += ", without quotes"
        return self.fault(key, f"expected true or false, found {found(value)}{hint}")

    def _int(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if type(value) is not int:
            return self.fault(key, _not_whole(option, value))
        if option.low <= value <= option.high:
            return value
        unit = f" {option.unit}" if option.unit else ""
        number = _number(value).removeprefix("the number ")
        return self.fault(key, f"expected {option.low} to {option.high}{unit}, found {number}")

    def _text(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if not isinstance(value, str):
            example = f', like "{option.default}"' if isinstance(option.default, str) else ""
            return self.fault(key, f"expected text in quotes{example}, found {found(value)}")
        expected = option.syntax(value) if option.syntax else ""
        if expected:
            return self.fault(key, f"expected {expected}, found {shown(value)}")
        if option.low and not option.low <= (syntax.size_bytes(value) or 0) <= option.high:
            return self.fault(key, f'expected at least "{option.low >> 20}M", found {shown(value)}')
        return value

    def _choice(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if value in option.choices:
            return value
        message = f"expected {_quoted(option.choices)}, found {found(value)}"
        if isinstance(value, str):
            from vmsilo_generator import where  # a module of the error path

            near = where.nearest(value, option.choices)
            message = f"expected {_quoted(option.choices)}, found {shown(value)}"
            if near is not None and len(option.choices) > 1:
                message += f' (did you mean "{near}"?)'
        return self.fault(key, message)

    def _texts(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if not isinstance(value, list):
            hint = f": write [{shown(value)}]" if isinstance(value, str) else ""
            return self.fault(key, f"expected a list of texts, found {found(value)}{hint}")
        items: list[str] = []
        seen: set[str] = set()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.fault((*key, index), f"expected text in quotes, found {found(item)}")
            elif option.syntax and (expected := option.syntax(item)):
                self.fault((*key, index), f"expected {expected}, found {shown(item)}")
            elif option.unique and item in seen:
                self.fault((*key, index), f"{shown(item)} stands in this list twice: remove one")
            else:
                items.append(item)
                seen.add(item)
                continue
            items.append("")  # for the rules between VMs, which go by the index of what is right
        return tuple(items)

    def _free(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if not isinstance(value, dict):
            return self.fault(key, f"expected a table, found {found(value)}")
        count = len(self.problems)
        self._json(value, key, 0)
        return value if len(self.problems) == count else UNSET

    def _json(self, value: Any, key: Key, depth: int) -> None:
        """Note what JSON has no form for."""
        if depth > _DEPTH_MAX:
            self.fault(key, f"expected at most {_DEPTH_MAX} tables and lists in each other")
        elif isinstance(value, dict):
            for name, item in value.items():
                self._json(item, (*key, name), depth + 1)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._json(item, (*key, index), depth + 1)
        elif isinstance(value, float):
            if value != value or value in (float("inf"), float("-inf")):
                self.fault(key, "expected a finite number: JSON has no other")
        elif type(value) is int:
            if value not in _INT64:
                self.fault(key, "expected a number that fits into 64 bits")
        elif not isinstance(value, str | bool):
            self.fault(key, "expected text, a number, true, false, a list or a table: JSON has no dates")

    def _scalar(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if isinstance(value, bool) or (type(value) is int and value in _INT64):
            return value
        if not isinstance(value, str):
            return self.fault(key, f"expected text, a whole number, true or false, found {found(value)}")
        expected = syntax.name(value)
        return self.fault(key, f"expected {expected}, found {shown(value)}") if expected else value

    def _bool_or_path(self, _node: Node, option: Option, value: Any, key: Key) -> Any:
        if isinstance(value, bool):
            return value
        if not isinstance(value, str):
            return self.fault(key, f"expected true, false or a path in quotes, found {found(value)}")
        expected = syntax.path(value)
        return self.fault(key, f"expected true, false or {expected}, found {shown(value)}") if expected else value

    def _disk(self, node: Node, option: Option, value: Any, key: Key) -> Any:
        if isinstance(value, str):
            expected = syntax.path(value)
            return self.fault(key, f"expected {expected}, found {shown(value)}") if expected else {"path": value}
        if isinstance(value, dict):
            return self._member(node, value, key, inside=option.status is Status.PENDING)
        return self.fault(key, f"expected the path of a disk in quotes, or a table, found {found(value)}")

    def _member(self, node: Node, value: dict[str, Any], key: Key, *, inside: bool) -> Any:
        """One table of a kind of which there can be several."""
        values: Values = {}
        count = len(self.problems)
        self._table(node, value, key, "", values, inside=inside)
        return values if len(self.problems) == count else UNSET

    def _tables(self, node: Node, option: Option, value: Any, key: Key) -> Any:
        if not isinstance(value, dict):
            path = _dotted(key)
            return self.fault(key, f"expected a table: write [{path}.<name>], found {found(value)}")
        assert node.each is not None
        assert option.syntax is not None
        members: dict[str, Any] = {}
        for name, item in value.items():
            if expected := option.syntax(name):
                self.fault((*key, name), f"expected {expected}, found {shown(name)}", of_key=True)
            if not isinstance(item, dict):
                message = f"expected a table with {_listed(node.each.keys)}, found {found(item)}"
                members[name] = self.fault((*key, name), message)
            else:
                members[name] = self._member(node.each, item, (*key, name), inside=option.status is Status.PENDING)
        return members

    def _list(self, node: Node, option: Option, value: Any, key: Key) -> Any:
        if not isinstance(value, list):
            return self.fault(key, f"expected a list of tables: write [[{_dotted(key)}]], found {found(value)}")
        assert node.each is not None
        members: list[Any] = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                message = f"expected a table with {_listed(node.each.keys)}, found {found(item)}"
                members.append(self.fault((*key, index), message))
            else:
                members.append(self._member(node.each, item, (*key, index), inside=option.status is Status.PENDING))
        return tuple(members)


_CHECKS: dict[Kind, Callable[[Reader, Node, Option, Any, Key], Any]] = {
    Kind.BOOL: Reader._bool,
    Kind.INT: Reader._int,
    Kind.TEXT: Reader._text,
    Kind.CHOICE: Reader._choice,
    Kind.TEXTS: Reader._texts,
    Kind.FREE: Reader._free,
    Kind.SCALAR: Reader._scalar,
    Kind.BOOL_OR_PATH: Reader._bool_or_path,
    Kind.DISK: Reader._disk,
    Kind.TABLES: Reader._tables,
    Kind.LIST: Reader._list,
}


def _not_whole(option: Option, value: Any) -> str:
    """The message for something else where a number belongs, with the number that was probably meant."""
    of_unit = f" of {option.unit}" if option.unit else ""
    message = f"expected a whole number{of_unit}, found {found(value)}"
    meant: int | None = None
    if isinstance(value, str):
        meant = syntax.size_bytes(value)
        if meant is not None and not value.isdigit():
            meant = meant >> 20 if option.unit == "MiB" else None
    elif isinstance(value, float) and value == value and abs(value) < 10**18:
        meant = int(value)
    if meant is None or not option.low <= meant <= option.high:
        return message
    return f"{message}: write {meant}"


def _missing(node: Node, name: str) -> str:
    option = node.keys[name].option
    assert option is not None
    what = option.text.partition(":")[0].partition(". ")[0].rstrip(".")
    return f"{name} is missing: {what[0].lower()}{what[1:]}"


def _of_nix(option: Option) -> str:
    if option.path == "nixosVms":
        return "only for the NixOS module: here each VM has a file of its own, <name>.toml"
    return "only for the NixOS module: remove it here"


def _in_effect(option: Option, value: Any) -> bool:
    """Whether the value of a pending option asks for nothing but what is so without a backend."""
    if value is UNSET or isinstance(value, dict):
        return value == {}
    return type(value) is type(option.until) and value == option.until


def _not_implemented(option: Option) -> str:
    if option.until is UNSET:
        return "not implemented yet: remove it"
    value = {False: "false", True: "true", (): "[]"}.get(option.until, f'"{option.until}"')
    return f"not implemented yet: remove it, or set it to {value}, which is in effect until then"


def _quoted(choices: tuple[str, ...]) -> str:
    words = [f'"{choice}"' for choice in choices]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _listed(keys: dict[str, Node]) -> str:
    words = list(keys)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _at(node: Node, key: Key) -> Node | None:
    """The node at a path, None where there is none."""
    for part in key:
        below = node.keys.get(part) if isinstance(part, str) else node.each
        if below is None:
            return None
        node = below
    return node
