"""The reader never gives up and never lets a wrong value through, whatever a TOML table holds."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsilo_generator import check, problems, reader
from vmsilo_generator.model import PROBLEMS_MAX, Hypervisor
from vmsilo_generator.options import HOST_TREE, VM_TREE, Node, Scope
from vmsilo_generator.source import ConfigFile


def keys(node: Node) -> st.SearchStrategy[str]:
    return st.sampled_from([*node.keys, "x"]) if node.keys else st.text(max_size=3)


SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.sampled_from(["qemu", "debian", "/srv/a", "10G", "a", "info", "red", "tap"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def tables(node: Node) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with the keys of a level, and right or wrong values."""
    below = {name: tables(child) for name, child in node.keys.items() if child.keys}

    def value(name: str) -> st.SearchStrategy[tuple[str, Any]]:
        return st.tuples(st.just(name), (below[name] | VALUES) if name in below else VALUES)

    return st.lists(keys(node).flatmap(value), max_size=6).map(dict)


@pytest.mark.parametrize(("scope", "tree"), [(Scope.HOST, HOST_TREE), (Scope.VM, VM_TREE)])
def test_any_document(scope: Scope, tree: Node) -> None:
    @given(tables(tree))
    def run(document: dict[str, Any]) -> None:
        one = reader.Reader(scope, "a.toml")
        values = one.read(document)
        for problem in one.problems:
            assert problem.message
            assert "\n" not in problems.headline(problem)
        for path in values:
            assert not one.faulty(*path.split(".")) or values[path] is not None

    run()


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    config = check.load([ConfigFile("a", "a.toml", text)], "")
    for problem in config.problems:
        lines = problems.render(problem).split("\n")
        assert len(lines) == (3 if problem.line else 1)
        assert all(line.isprintable() for line in lines)
    assert len(config.vms) + len(config.broken) == 1


@given(st.binary(max_size=60), st.sampled_from(["kernel", "image", "kernelParams", "qemu.extraArgs", "rootDisk"]))
def test_what_passes_is_what_was_written(data: bytes, key: str) -> None:
    text = data.decode("utf-8", "ignore")
    escaped = "".join(f"\\U{ord(c):08X}" for c in text)
    value = f'["{escaped}"]' if key in ("kernelParams", "qemu.extraArgs") else f'"/{escaped}"'
    document = f'hypervisor = "qemu"\n{key} = {value}\n'
    host = ConfigFile("host", "host.toml", 'user = "david"')
    config = check.load([host, ConfigFile("a", "a.toml", document)], "david:x:1:1:::\n")
    if config.broken:
        return
    (vm,) = config.vms
    assert vm.hypervisor is Hypervisor.QEMU
    disk = vm.root_disk.path if vm.root_disk else None
    got = {"kernel": vm.kernel, "image": vm.image, "rootDisk": disk}.get(key)
    lists = {"kernelParams": vm.kernel_params, "qemu.extraArgs": vm.extra_args}
    assert (got == "/" + text) if got is not None else (lists[key] == (text,))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"a{number} = 1" for number in range(20_000)),
        "[[usbDevices]]\n" * 20_000,
        "kernelParams = [" + "1," * 200_000 + "]",
        "cloud-hypervisor.extraConfig.a = [" + "nan," * 200_000 + "]",
        "[[pciDevices]]\npath = '01:00.0'\n" * 5_000,
    ],
    ids=["keys", "tables", "items", "numbers", "devices"],
)
def test_what_is_no_configuration_is_soon_put_away(text: str) -> None:
    config = check.load([ConfigFile("a", "a.toml", text)], "")
    told = [problem for problem in config.problems if problem.file == "a.toml"]
    assert len(told) == PROBLEMS_MAX + 1
    assert told[0].message == f"{PROBLEMS_MAX} mistakes: the rest of the file was not looked at"
    assert len(config.broken) == 1


@pytest.mark.parametrize("depth", [100, 101, 5000])
def test_depth(depth: int) -> None:
    text = "[cloud-hypervisor.extraConfig." + ".".join("a" * depth) + "]"
    config = check.load([ConfigFile("a", "a.toml", text), ConfigFile("b", "b.toml", "")], "")
    told = [problem.message for problem in config.problems if problem.file == "a.toml"]
    assert told == ([] if depth == 100 else ["expected at most 100 tables and lists in each other"])


def test_shown() -> None:
    assert reader.shown("a") == '"a"'
    assert reader.shown('a"b') == "'a\"b'"
    assert reader.shown("a\x1b[31m\u202e") == '"a\\x1b[31m\\u202e"'
    assert len(reader.shown("a" * 1000)) < 70


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("true", "true"), ("1", "the number 1"), ("1e3", "the number 1000.0"), ('"a"', 'text "a"'), ("[]", "a list"),
        ("{}", "a table"), ("1979-05-27", "a date or time"), ("07:32:00", "a date or time"),
        ("9" * 30, "a number beyond 64 bits"), ("nan", "the number nan"),
    ],
)  # fmt: skip
def test_found(toml: str, words: str) -> None:
    assert reader.found(tomllib.loads(f"a = {toml}")["a"]) == words
