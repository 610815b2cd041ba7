"""Rules between files, and VMs that fall with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsilo_generator import across, check
from vmsilo_generator.model import PROBLEMS_MAX, Config, Problem
from vmsilo_generator.source import ConfigFile

PASSWD = "david:x:1000:1000::/home/david:/bin/bash\n"


def files(**texts: str) -> list[ConfigFile]:
    found = [ConfigFile(name, f"/e/{name}.toml", text) for name, text in texts.items()]
    return [*found, ConfigFile("host", "/e/host.toml", 'user = "david"')]


def load(**texts: str) -> Config:
    return check.load(files(**texts), PASSWD)


def names(config: Config) -> tuple[list[str], list[str]]:
    return [vm.name for vm in config.vms], [broken.name for broken in config.broken]


def test_depends_on() -> None:
    config = load(a='dependsOn = ["b", "c"]', b='dependsOn = ["c"]', c="")
    assert config.problems == ()
    assert names(config) == (["a", "b", "c"], [])


def test_dependents_fall_and_quote_the_cause() -> None:
    config = load(a='dependsOn = ["b"]', b='dependsOn = ["c"]', c="cpus = 0", d="")
    assert names(config) == (["d"], ["a", "b", "c"])
    cause = "/e/c.toml:1:8: cpus: expected 1 to 254 CPUs, found 0"
    assert config.broken[0].messages == (
        f'/e/a.toml:1:14: dependsOn[1]: "b" can\'t be used: {cause}\n    dependsOn = ["b"]\n                 ^',
    )
    assert cause in config.broken[1].messages[0]


def test_a_list_of_nothing_but_mistakes_is_not_gone_through() -> None:
    unknown = [f"x{number}" for number in range(50_000)]
    config = load(a=f"dependsOn = {unknown}", b="")
    assert len(config.problems) == PROBLEMS_MAX
    assert names(config) == (["b"], ["a"])


def test_refuse_takes_a_vm_out_later() -> None:
    found = files(a='dependsOn = ["b"]', b="vsock.cid = 70007", c="")
    config = check.load(found, PASSWD)
    assert names(config) == (["a", "b", "c"], [])
    later = across.refuse(config, found, [Problem("/e/b.toml", ("vsock", "cid"), "is taken")])
    assert names(later) == (["c"], ["a", "b"])
    assert later.broken[1].messages == (
        "/e/b.toml:1:13: vsock.cid: is taken\n    vsock.cid = 70007\n                ^",
    )
    assert "b.toml:1:13: vsock.cid: is taken" in later.broken[0].messages[0]
    assert later.host == config.host
    # And once more, without losing or doubling what was known.
    again = across.refuse(later, found, [Problem("/e/c.toml", (), "no")])
    assert names(again) == ([], ["a", "b", "c"])
    assert again.broken[:2] == later.broken
    assert len(again.problems) == 3


def test_refuse_keeps_what_the_host_file_did() -> None:
    found = [ConfigFile("host", "/e/host.toml", "user = 1"), ConfigFile("a", "/e/a.toml", "")]
    config = check.load(found, PASSWD)
    later = across.refuse(config, found, [Problem("/e/a.toml", (), "no")])
    assert names(config) == names(later) == ([], ["a"])
    assert [len(broken.messages) for broken in (*config.broken, *later.broken)] == [1, 2]


@pytest.mark.parametrize(
    ("graph", "on_circles"),
    [
        ({"a": "b", "b": "c", "c": ""}, ""),
        ({"a": "b", "b": "a"}, "ab"),
        ({"a": "b", "b": "c", "c": "b"}, "bc"),
        ({"a": "bc", "b": "a", "c": "d", "d": "c", "e": "ad"}, "abcd"),
        ({"a": "bd", "b": "a", "c": "d", "d": "", "e": "a"}, "ab"),
        # x stands between two circles and on none.
        ({"a": "b", "b": "ax", "x": "c", "c": "d", "d": "c"}, "abcd"),
    ],
)
def test_cycles(graph: dict[str, str], on_circles: str) -> None:
    edges: across.Edges = {
        name: [(other, ("dependsOn", index)) for index, other in enumerate(others)] for name, others in graph.items()
    }
    assert [name for name, _key, _message in across._cycles(edges)] == list(on_circles)


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"))))
def test_cycles_of_any_graph(graph: dict[str, set[str]]) -> None:
    graph = {name: graph.get(name, set()) - {name} for name in "abcdef"}
    edges: across.Edges = {
        name: [(other, ("dependsOn", index)) for index, other in enumerate(sorted(others))]
        for name, others in graph.items()
    }
    reach = {name: set(others) for name, others in graph.items()}
    for _ in graph:
        for others in reach.values():
            others |= set().union(*(reach[other] for other in others)) if others else set()
    assert [name for name, _key, _message in across._cycles(edges)] == [n for n in "abcdef" if n in reach[n]]


def test_the_way_round_is_named() -> None:
    config = load(a='dependsOn = ["b"]', b='dependsOn = ["c"]', c='dependsOn = ["a"]')
    assert "in a circle: b -> c -> a -> b" in config.broken[1].messages[0]


def test_many_in_a_circle_are_cut_short() -> None:
    circle = {f"v{n}": f'dependsOn = ["v{(n + 1) % 300}"]' for n in range(300)}
    config = load(**circle)
    assert len(config.broken) == 300
    assert all(len(broken.messages[0]) < 300 for broken in config.broken)


def test_what_has_an_order_is_not_searched_for_circles() -> None:
    chain: across.Edges = {str(n): [(str(n + 1), ())] for n in range(10)}
    assert across._left_over(chain) == set()
    assert across._left_over({**chain, "10": [("8", ())]}) == {str(n) for n in range(11)}
