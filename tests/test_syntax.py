"""The texts that options take."""

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmsilo_generator import colours, syntax

SIZES = [
    ("0", 0), ("1", 1), ("1K", 1024), ("1k", 1024), ("1KB", 1000), ("1kB", 1000), ("1KiB", 1024), ("10G", 10 << 30),
    ("256m", 256 << 20), ("1500MB", 1_500_000_000), ("1T", 1 << 40), ("1P", 1 << 50), ("7E", 7 << 60),
    ("8E", None), ("", None), ("G", None), ("1 G", None), ("+1G", None), ("-1", None), ("1.5G", None), ("0x10", None),
    ("1Z", None), ("1Kb", None), ("1KIB", None), ("1B", None), ("1GG", None), ("²", None), ("1\n", None),
    ("9" * 20, None), ("%4K", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_size(text: str, size: int | None) -> None:
    assert syntax.size_bytes(text) == size


Rule = Callable[[str], str]

# Rule, texts it takes, texts it doesn't. A column of good and one of bad, whatever their length.
# ruff: noqa: E501
GOOD_AND_BAD: list[tuple[Rule, list[str], list[str]]] = [
    (syntax.path, ["/", "/a", "/a/b/", "/a b", "/ü", "/..a"], ["", "a", "~/a", "//a", "/a//b", "/a/..", "/./a", "/a\n", "/a\0", "/" + "a" * 256]),
    (syntax.image, ["debian", "debian-12.5_x", "/srv/image"], ["", ".", "..", "a/b", "../a", "-a", "a b", "ü"]),
    (syntax.user, ["david", "_x", "a-1"], ["", "David", "1a", "a" * 32, "a b", "root:"]),
    (syntax.netvm, ["host", "sys-net"], ["Host", "", "images"]),
    (syntax.machine, ["q35", "pc-q35-7.2", "pc-q35-noble", "q35,accel=tcg", "q35,a=b=c,d=e,,f"], ["", "pc", "microvm", "none", "Q35", "q35 ", "pc-q35-", "pc-q35-7 2", "q35,", "q35,hpet", "q35,=off", "q35,a=\n", "q35,,a=b"]),
    (syntax.kernel_parameter, ["quiet", "a=b", 'a="b c"', "a=ü", 'a="b c"d'], ["", "a b", 'a="b', "a\n", "a\tb", 'a "b"', "vmsilo.overlay=none", '"vmsilo.overlay=none"']),
    (syntax.argument, ["", "a\n", "\x1b", "ü $%;\\\"'"], ["\0", "a" * 131072]),
    (syntax.disk_id, ["data", "a" * 20], ["", "a" * 21, "a b", "a,b", "vmsilo-root"]),
    (syntax.tag, ["data", "a.b-c_d"], ["", "-a", ".a", "a/b", "a b", "a" * 37]),
    (syntax.interface_name, ["wan", "br0", "vm-1.5"], ["", "a" * 16, "12", ".", "a/b", "all", "lo", "a b", "ü"]),
    (syntax.mac, ["52:54:00:12:34:56", "02:AB:cd:00:00:00"], ["", "52:54:00:12:34", "53:54:00:12:34:56", "5254:00", "0:0:0:0:0:0", "00:00:00:00:00:00"]),
    (syntax.pci, ["01:00.0", "0000:ff:1f.7", "0000:0A:00.0", "10000:01:00.0", "/sys/bus/pci/devices/0000:01:00.0/", "pci-0000:01:00.0"], ["", "1:00.0", "01:00", "01:00.8", "01:20.0", "gg:00.0", "01:00.0.0", "000:01:00.0", "/dev/01:00.0", ":01:00.0"]),
    (syntax.usb_id, ["17ef", "046D"], ["", "17e", "17efa", "0x17", "17eg"]),
    (syntax.id_map, [":0:1000:1:", ":1000:1000:65536:"], ["", "0:1000:1", ":0:1000:0:", ":a:0:1:", ":0:4294967295:1:", ":0:0:1"]),
    (syntax.translation, ["map:1000:0:1", "squash-host:0:1000:1", "forbid-guest:0:1000"], ["", "map", "map:1:2", "maps:1:2:3", "map:-1:2:3", "forbid-guest:0:1:2"]),
    (syntax.ipv4_network, ["10.200.0.0/16", "0.0.0.0/0", "1.2.3.4/32"], ["10.200.0.1/16", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/08"]),
    (syntax.ipv4_pool, ["10.200.0.0/16", "10.0.0.0/30"], ["10.0.0.0/31", "10.0.0.1/30"]),
    (syntax.ipv4_link, ["10.200.5.2/31"], ["10.200.5.3/31", "10.200.5.2/30", "10.200.5.2"]),
    (syntax.ipv4_destination, ["default", "10.0.0.0/8"], ["0", "10.0.0.1/8"]),
    (syntax.ipv6_destination, ["default", "fd00::/8"], ["fd00::", "10.0.0.0/8"]),
    (syntax.nameserver, ["9.9.9.9", "2620:fe::fe", "127.0.0.53", "::1"], ["", "9.9.9", "9.9.9.9/32", "dns.example", "::", "0.0.0.0", "ff02::1"]),
    (syntax.duration, ["2s", "250ms", "1m", "1h"], ["", "2", "0s", "s", "1.5s", "2 s", "2d", "1000000s", "-1s"]),
    (syntax.colour, ["red", "DarkRed", "#FF0000", "#f00", "rgb(255,0,0)", "rgb( 1, 2 ,3 )"], ["", "reddish", "#ff00", "#ggg", "rgb(256,0,0)", "rgb(1,2)", "rgb(1,2,³)"]),
]  # fmt: skip
PAIRS = [
    (rule, text, right)
    for rule, good, bad in GOOD_AND_BAD
    for right in (True, False)
    for text in (good if right else bad)
]


@pytest.mark.parametrize(("rule", "text", "right"), PAIRS)
def test_rule(rule: Rule, text: str, *, right: bool) -> None:
    expected = rule(text)
    assert (expected == "") is right
    assert not expected.startswith(" ")


def accepts(parse: type, text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@given(st.text("0123456789.", max_size=16) | st.ip_addresses(v=4).map(str))
def test_ipv4_as_the_standard_library(text: str) -> None:
    assert syntax.is_ipv4(text) == accepts(ipaddress.IPv4Address, text)


@given(
    st.text("0123456789abcF:.", max_size=24)
    | st.ip_addresses(v=6).map(str)
    | st.ip_addresses(v=6).map(lambda a: a.exploded)
)
def test_ipv6_as_the_standard_library(text: str) -> None:
    assert syntax.is_ipv6(text) == accepts(ipaddress.IPv6Address, text)


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    for rule, _good, _bad in GOOD_AND_BAD:
        assert isinstance(rule(text), str)
    colours.parse(text)


def test_colours() -> None:
    assert len(colours.NAMED) == 148
    assert colours.parse("Red") == colours.parse("#f00") == colours.parse("rgb(255,0,0)") == "ff0000"
    assert all(len(value) == 6 and int(value, 16) >= 0 for value in colours.NAMED.values())
