"""What `net up` makes, mends, leaves alone, and what `net down` leaves: nothing."""

import errno
import fcntl
import os
import random
import re
import time

import pytest

from net.world import MAC, World, bridge_of, downstream, guarding, own, plan_of, to_host, upstream
from net_host import bridge, rules, tap
from net_host.rtnetlink import Kernel, Link
from vmsilo.nft import INTERFACE_GROUP

CLIENT = plan_of("work", upstream("work", "vpn"), rules=guarding("work", "work_up", bridge_of("vpn", "work")))
NETVM = plan_of(
    "vpn",
    downstream("vpn", "work"),
    to_host("vpn", "10.1.2.3/31", "fd00::1/127"),
    rules=guarding("vpn", "vpn.work", "vpn_up"),
    forward=(4, 6),
)


def test_link_of_two(world: World) -> None:
    assert world.up(CLIENT) == 0
    assert world.up(NETVM) == 0
    seen = world.seen()
    assert {name: (each.kind, each.alias, each.port_of, each.up) for name, each in seen.items()} == {
        "work_up": ("tun", "vmsilo work upstream", "br_vpn.work", True),
        "vpn.work": ("tun", "vmsilo vpn work", "br_vpn.work", True),
        "vpn_up": ("tun", "vmsilo vpn upstream", "", True),
        "br_vpn.work": ("bridge", "vmsilo vpn work", "", True),
    }
    assert {name: each.addresses for name, each in seen.items() if each.addresses} == {
        "vpn_up": ("10.1.2.3/31", "fd00::1/127")
    }
    assert world.tables() == ["table netdev vmsilo-work", "table netdev vmsilo-vpn"]
    assert world.down("work") == 0
    assert world.tables() == ["table netdev vmsilo-vpn"]
    assert set(world.seen()) == {"vpn.work", "vpn_up", "br_vpn.work"}
    assert world.down("vpn") == 0
    assert (world.seen(), world.tables()) == ({}, [])


def test_tap_is_root_s_and_stays(world: World) -> None:
    world.up(NETVM)
    for name in ("vpn.work", "vpn_up"):
        found = world.details(name)
        data = found["linkinfo"]["info_data"]
        assert (data["type"], data["user"], data["persist"], data["vnet_hdr"], data["multi_queue"]) == (
            "tap",
            "root",
            True,
            True,
            False,
        )
        assert int(found["group"]) == INTERFACE_GROUP
        assert found["address"].startswith("02:")
    data = world.details("br_vpn.work")["linkinfo"]["info_data"]
    assert (data["stp_state"], data["mcast_snooping"]) == (0, 0)
    addresses = {world.details(name)["address"] for name in world.seen()}
    assert len(addresses) == 3
    world.down("vpn")
    world.up(NETVM)
    assert addresses == {world.details(name)["address"] for name in world.seen()}


def test_settings(world: World) -> None:
    world.up(NETVM)
    for name in ("vpn.work", "br_vpn.work"):
        assert world.setting(f"ipv6/conf/{name}/disable_ipv6") == "1"
        assert world.setting(f"ipv4/conf/{name}/arp_ignore") == "8"
        assert world.setting(f"ipv4/conf/{name}/rp_filter") == "1"
    assert world.setting("ipv6/conf/vpn_up/disable_ipv6") == "0"
    assert world.setting("ipv6/conf/vpn_up/accept_ra") == "0"
    assert world.setting("ipv4/conf/vpn_up/arp_ignore") == "1"
    assert world.setting("ipv4/conf/vpn_up/forwarding") == "1"


def test_no_ipv6_where_none_is_planned(world: World) -> None:
    world.up(plan_of("vpn", to_host("vpn", "10.1.2.3/31")))
    assert world.setting("ipv6/conf/vpn_up/disable_ipv6") == "1"


def test_only_from_a_link_is_forwarded(world: World) -> None:
    world.up(plan_of("vpn", to_host("vpn", "10.1.2.3/31"), own("lan", "vpn-0", "", "192.0.2.1/24"), forward=(4,)))
    assert world.setting("ipv4/conf/vpn_up/forwarding") == "1"
    assert world.setting("ipv4/conf/vpn-0/forwarding") == "0"


def test_forwarding_is_switched_on_where_asked_and_never_off(world: World) -> None:
    world.space.ip("link add other type bridge")
    assert world.setting("ipv4/ip_forward") == "0"
    assert world.setting("ipv6/conf/other/accept_ra") == "1"
    world.up(CLIENT)
    assert (world.setting("ipv4/ip_forward"), world.setting("ipv6/conf/all/forwarding")) == ("0", "0")
    world.up(NETVM._replace(network=NETVM.network._replace(forward=(4,))))
    assert (world.setting("ipv4/ip_forward"), world.setting("ipv6/conf/all/forwarding")) == ("1", "0")
    assert world.setting("ipv6/conf/other/accept_ra") == "1"
    world.up(NETVM)
    assert (world.setting("ipv4/ip_forward"), world.setting("ipv6/conf/all/forwarding")) == ("1", "1")
    assert world.setting("ipv6/conf/other/accept_ra") == "2"  # as before, though the host forwards now
    assert world.setting("ipv6/conf/vpn_up/accept_ra") == "0"
    world.down("vpn")
    assert (world.setting("ipv4/ip_forward"), world.setting("ipv6/conf/all/forwarding")) == ("1", "1")


def test_a_second_time_changes_nothing(world: World) -> None:
    for plan in (CLIENT, NETVM):
        world.up(plan)
    before = world.state()
    indexes = [world.details(name)["ifindex"] for name in world.seen()]
    for plan in (CLIENT, NETVM, CLIENT):
        assert world.up(plan) == 0
    assert world.state() == before
    assert [world.details(name)["ifindex"] for name in world.seen()] == indexes


# What may have become of the host's end of a link, and what then has to be mended.
HARM = {
    "a TAP is gone": "link delete work_up",
    "a TAP is down": "link set work_up down",
    "a TAP is no port": "link set work_up nomaster",
    "a TAP is a port of another bridge": "link add elsewhere type bridge\nlink set work_up master elsewhere",
    "a TAP has another name": "link set work_up down\nlink set work_up name lost",
    "a TAP has another address": "link set work_up address 02:00:00:00:00:99",
    "a TAP is in another group": "link set work_up group 7",
    "a TAP has an address of IP": "address add 192.0.2.1/24 dev work_up",
    "the bridge is gone": "link delete br_vpn.work",
    "the bridge is down": "link set br_vpn.work down",
    "the host's TAP lacks an address": "address delete 10.1.2.3/31 dev vpn_up",
    "the host's TAP lacks all": "address flush dev vpn_up",
    "the host's TAP has another address": "address add 192.0.2.1/24 dev vpn_up",
    "the host's TAP is a port": "link add elsewhere type bridge\nlink set vpn_up master elsewhere",
    "a TAP is half made": "tuntap add dev half mode tap\nlink set half alias 'vmsilo work upstream'",
    "a bridge is half made": "link add vmsilo0123abcd type bridge",
    "a bridge is half removed": "link set br_vpn.work down\nlink set br_vpn.work name vmsilo0123abcd",
    "a TAP is of another plan": "tuntap add dev old mode tap user root\nlink set old alias 'vmsilo work old'",
}  # fmt: skip
OTHERS = {"elsewhere"}


@pytest.mark.parametrize("harm", HARM)
def test_what_is_half_done_is_mended(world: World, harm: str) -> None:
    for plan in (CLIENT, NETVM):
        world.up(plan)
    whole = world.state()
    damage(world, HARM[harm])
    assert world.state() != whole
    for plan in (CLIENT, NETVM):
        assert world.up(plan) == 0
    for name in OTHERS & set(world.seen()):
        world.space.ip(f"link delete {name}")
    assert world.state() == whole


def damage(world: World, lines: str) -> None:
    for line in lines.splitlines():
        world.space.run("sh", "-c", f"ip {line}")


@pytest.mark.parametrize("seed", range(8))
def test_any_sequence_of_harm_is_mended(world: World, seed: int) -> None:
    """Several at once, in any order, some of which hit what is gone by then; then either VM comes first."""
    chance = random.Random(seed)
    plans = [CLIENT, NETVM]
    for plan in plans:
        world.up(plan)
    whole = world.state()
    for _ in range(4):
        for harm in chance.sample(sorted(HARM), 5):
            for line in HARM[harm].splitlines():
                try:
                    damage(world, line)
                except RuntimeError:
                    break
        chance.shuffle(plans)
        if chance.random() < 0.3:
            assert world.down(plans[0].vm) == 0
        for plan in plans:
            assert world.up(plan) == 0
        for name in OTHERS & set(world.seen()):
            world.space.ip(f"link delete {name}")
        assert world.state() == whole
    for plan in plans:
        world.down(plan.vm)
    assert (world.seen(), world.tables()) == ({}, [])


@pytest.mark.parametrize("name", ["work_up", "br_vpn.work"])
@pytest.mark.parametrize("kind", ["bridge", "veth peer name other", "bridge altname"])
def test_interface_of_somebody_else_stays_and_is_named(
    world: World, name: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "bridge altname":
        world.space.ip("link add foreign type bridge", f"link property add dev foreign altname {name}")
    else:
        world.space.ip(f"link add {name} type {kind}")
    before = world.state()
    assert world.up(CLIENT) == 71
    said = capfd.readouterr().err
    assert said.startswith(f"net: {name} is there already")
    assert said.count("\n") == 1
    assert world.down("work") == 0
    assert world.state() == before


def test_user_s_bridge_is_made_and_removed(world: World) -> None:
    plans = [plan_of(vm, own("lan", f"{vm}-0", "lan")) for vm in ("one", "two")]
    for plan in plans:
        assert world.up(plan) == 0
    assert world.seen()["lan"].alias == "vmsilo bridge"
    world.down("one")
    assert set(world.seen()) == {"lan", "two-0"}
    world.down("two")
    assert world.seen() == {}


def test_user_s_own_bridge_is_joined_and_left(world: World) -> None:
    world.space.ip(
        "link add lan address 02:00:00:00:00:09 type bridge", "address add 192.0.2.1/24 dev lan", "link set lan up"
    )
    before, settings = world.state(), world.setting("ipv4/conf/lan/arp_ignore")
    assert world.up(plan_of("one", own("lan", "one-0", "lan"))) == 0
    assert world.seen()["one-0"].port_of == "lan"
    assert world.seen()["lan"].alias == ""
    assert world.setting("ipv4/conf/lan/arp_ignore") == settings
    world.down("one")
    assert world.state() == before


def test_bridge_of_ours_that_others_use_stays(world: World) -> None:
    world.up(plan_of("one", own("lan", "one-0", "lan")))
    world.space.ip("link add foreign type veth peer name other", "link set foreign master lan")
    world.down("one")
    assert {"lan", "foreign"} <= set(world.seen())


def test_a_link_is_for_two(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither by a bridge of the user's that has its name, nor by another port, does a third one get into it."""
    world.up(CLIENT)
    assert world.up(plan_of("spy", own("lan", "spy-0", bridge_of("vpn", "work")))) == 71
    assert "br_vpn.work is there already and was not made" in capfd.readouterr().err
    assert set(world.seen()) == {"work_up", "br_vpn.work"}
    world.space.ip("link add spy type veth peer name other", "link set spy master br_vpn.work")
    assert world.up(NETVM) == 71
    assert capfd.readouterr().err == "net: spy is a port of br_vpn.work, which is for vpn and work alone\n"
    assert "vpn.work" not in world.seen()


def test_plan_that_changes_takes_along_what_it_can(world: World) -> None:
    """A TAP keeps its guest when it gets another name or another bridge."""
    world.up(plan_of("one", own("lan", "one-0", "lan"), own("dmz", "one-1")))
    index = world.details("one-0")["ifindex"]
    world.up(plan_of("one", own("lan", "renamed", "other")))
    seen = world.seen()
    assert seen["renamed"].port_of == "other"
    assert "one-1" not in seen
    assert world.details("renamed")["ifindex"] == index
    world.up(plan_of("one", own("lan", "renamed")))
    assert world.seen()["renamed"].port_of == ""
    world.down("one")
    assert world.seen() == {}


def test_tap_that_is_the_user_s_is_left_to_him(world: World) -> None:
    plan = plan_of("one", own("lan", "one-0"))
    world.up(plan)
    assert world.setting("ipv6/conf/one-0/disable_ipv6") == "1"
    world.space.ip("address add 192.0.2.1/24 dev one-0")
    world.up(plan)
    assert world.seen()["one-0"].addresses == ("192.0.2.1/24",)


def test_rules_come_before_the_interface_is_up(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Rules that nft refuses leave no interface."""
    text = guarding("work", "work_up").replace("policy drop", "policy perhaps")
    assert world.up(plan_of("work", upstream("work", "vpn"), rules=text)) == 71
    said = capfd.readouterr().err
    assert re.match(r"net: nft refuses the VM's rules: syntax error.*: type filter hook ingress.*perhaps", said)
    assert said.count("\n") == 1
    assert "work_up" not in world.seen()
    world.down("work")
    assert (world.seen(), world.tables()) == ({}, [])


def test_interface_is_down_until_its_rules_are_in_force(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, bool]] = []
    apply = rules.apply

    def look(vm: str, text: str, *, anew: bool) -> None:
        seen.append({name: each.up for name, each in world.seen().items()})
        apply(vm, text, anew=anew)

    monkeypatch.setattr(rules, "apply", look)
    world.up(NETVM)
    world.space.ip("link set vpn.work nomaster")
    world.up(NETVM)
    before, moved = seen
    assert before == {"vpn.work": False, "vpn_up": False, "br_vpn.work": False}
    assert moved == {"vpn.work": False, "vpn_up": True, "br_vpn.work": True}
    assert all(each.up for each in world.seen().values())


def test_rules_are_made_anew_and_what_names_had_is_kept(world: World) -> None:
    text = (
        "table inet vmsilo-work\ntable inet vmsilo-work {\n"
        "\tset work.example.org.ip4 {\n\t\ttype ipv4_addr\n\t\tflags timeout\n\t}\n"
        "\tchain old {\n\t}\n}\n"
    )
    plan = plan_of("work", to_host("work", "10.0.0.1/31"), rules=text)
    world.up(plan)
    world.space.nft("add element inet vmsilo-work work.example.org.ip4 { 192.0.2.7 timeout 1h }")
    changed = text.replace("chain old", "chain new")
    world.up(plan._replace(network=plan.network._replace(rules=changed)))
    listed = world.space.run("nft", "list", "table", "inet", "vmsilo-work")
    assert "192.0.2.7" in listed
    assert "chain new" in listed
    assert "chain old" not in listed
    world.down("work")
    assert world.tables() == []


def test_table_of_somebody_else_stays(world: World) -> None:
    world.space.nft("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }")
    world.up(CLIENT)
    world.down("work")
    assert world.tables() == ["table inet filter"]


def test_down_knows_names_that_begin_alike(world: World) -> None:
    for vm in ("work", "work-2"):
        world.up(plan_of(vm, own("lan", f"{vm}-0", "lan"), rules=guarding(vm, f"{vm}-0")))
    world.down("work")
    assert set(world.seen()) == {"work-2-0", "lan"}
    assert world.tables() == ["table netdev vmsilo-work-2"]


def test_running_guest_keeps_its_tap(world: World) -> None:
    """What holds the TAP open sees nothing of a second `up`."""
    world.up(CLIENT)
    with world.space.entered():
        held = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(held, tap.TUNSETIFF, tap.REQUEST.pack(b"work_up", tap.IFF_TAP | tap.IFF_NO_PI | tap.IFF_VNET_HDR))
    try:
        world.up(CLIENT)
        os.write(held, bytes(10) + bytes.fromhex("ffffffffffff") + bytes.fromhex(MAC.replace(":", "")) + bytes(48))
        assert "LOWER_UP" in world.details("work_up")["flags"]
    finally:
        os.close(held)


def test_only_root_opens_a_tap(world: World) -> None:
    world.up(CLIENT)
    child = os.fork()
    if not child:
        os.setresgid(65534, 65534, 65534)
        with world.space.entered():
            held = os.open("/dev/net/tun", os.O_RDWR)
            os.setresuid(65534, 65534, 65534)
            try:
                fcntl.ioctl(held, tap.TUNSETIFF, tap.REQUEST.pack(b"work_up", tap.IFF_TAP | tap.IFF_NO_PI))
            except OSError as error:
                os._exit(error.errno or 255)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EPERM


def test_what_is_missing_is_told(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    with world.space.entered():
        from net_host.main import main

        assert main(["up", "/nonexistent.plan"]) == 66
        assert capfd.readouterr().err == "net: there is no plan /nonexistent.plan\n"
        (world.directory / "bad.plan").write_text("{}")
        assert main(["up", str(world.directory / "bad.plan")]) == 78
        assert "run systemctl daemon-reload" in capfd.readouterr().err
        for wrong in ([], ["up"], ["down", "Not-A-VM"], ["down", "host"], ["up", "--force"]):
            assert main(wrong) == 64


def test_what_the_kernel_refuses_is_told_in_its_words(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    assert world.up(plan_of("vpn", to_host("vpn", "10.1.2.3/31", "ff02::1/127"))) == 71
    expected = "net: the kernel refuses: vpn_up: adding ff02::1/127: Cannot assign requested address"
    assert capfd.readouterr().err.startswith(expected)
    assert world.seen() == {}
    assert world.up(plan_of("vpn", to_host("v/n", "10.1.2.3/31"))) == 71
    said = capfd.readouterr().err
    assert said.startswith("net: the kernel refuses: vmsilo")
    assert "naming it v/n_up: Invalid argument" in said


def test_the_kernel_says_why(world: World) -> None:
    """Beyond the number of an error."""
    world.space.ip("link add lan type bridge")
    with world.space.entered():
        kernel = Kernel()
        one = kernel.link("lan")
        assert one
        with pytest.raises(
            OSError, match=r"Too many levels of symbolic links \(.+\): 'lan: making it a port of lan'"
        ):
            kernel.make_port(one, one)


# Several at once.


def at_once(world: World, *commands: tuple[str, str]) -> list[tuple[int, str]]:
    running = [world.start(*command) for command in commands]
    return [(process.wait(timeout=60), process.communicate()[1]) for process in running]


def test_both_ends_of_a_link_at_once(world: World) -> None:
    plans = [world.file(plan) for plan in (CLIENT, NETVM)]
    for _ in range(10):
        assert at_once(world, *[("up", plan) for plan in plans]) == [(0, ""), (0, "")]
        assert {world.seen()[name].port_of for name in ("work_up", "vpn.work")} == {"br_vpn.work"}
        assert at_once(world, ("down", "work"), ("down", "vpn")) == [(0, ""), (0, "")]
        assert (world.seen(), world.tables()) == ({}, [])


def test_one_comes_while_the_other_goes(world: World) -> None:
    client = world.file(CLIENT)
    netvm = world.file(NETVM)
    for _ in range(6):
        assert at_once(world, ("up", client))[0] == (0, "")
        assert at_once(world, ("down", "work"), ("up", netvm)) == [(0, ""), (0, "")]
        assert world.seen()["vpn.work"].port_of == "br_vpn.work"
        assert at_once(world, ("down", "vpn"), ("up", client)) == [(0, ""), (0, "")]
        assert world.seen()["work_up"].port_of == "br_vpn.work"
        assert world.seen()["br_vpn.work"].up
        assert at_once(world, ("down", "work"))[0] == (0, "")
        assert world.seen() == {}


def test_who_joins_a_bridge_that_is_being_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each point of the removal: the bridge has no port, loses its name, and another one comes."""
    rename = bridge._rename
    for point in ("before it loses its name", "after that", "when another one has it"):
        world.up(CLIENT)
        world.down("work")
        with world.space.entered():
            kernel = Kernel()
            made = bridge.find_or_make(kernel, "lan", "vmsilo bridge")
            assert made
        world.space.ip("tuntap add dev port mode tap", "tuntap add dev second mode tap")

        def interfere(kernel: Kernel, link: Link, name: str, point: str = point) -> None:
            if point == "before it loses its name":
                world.space.ip("link set port master lan")
            rename(kernel, link, name)
            if point != "before it loses its name":
                world.space.ip(f"link set port master {name}")
            if point == "when another one has it":
                world.space.ip("link add lan type bridge", "link set second master lan")

        monkeypatch.setattr(bridge, "_rename", interfere)
        with world.space.entered():
            bridge.remove(kernel, made)
        monkeypatch.undo()
        assert world.seen()["port"].port_of == "lan", point
        assert [name for name, each in world.seen().items() if each.kind == "bridge"] == ["lan"]
        world.space.ip("link delete lan", "link delete port", "link delete second")


def test_bridge_that_loses_its_name_before_the_tap_is_in_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on its way out then, and no place for a TAP."""
    world.up(NETVM)
    world.space.ip("link set vpn.work nomaster")
    make_port = Kernel.make_port

    def interfere(kernel: Kernel, link: Link, to: Link) -> None:
        monkeypatch.undo()
        world.space.ip("link set br_vpn.work name vmsilo0123abcd")
        make_port(kernel, link, to)

    monkeypatch.setattr(Kernel, "make_port", interfere)
    assert world.up(NETVM) == 0
    assert world.seen()["vpn.work"].port_of == "br_vpn.work"
    assert "vmsilo0123abcd" not in world.seen()


def test_bridge_that_was_half_done_a_moment_ago(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sweeps has seen it without a name of its own, and then it gets that, and a port."""
    world.space.ip(f"link add vmsilo0123abcd group {INTERFACE_GROUP} type bridge", "tuntap add dev port mode tap")
    ports = Kernel.ports

    def interfere(kernel: Kernel, link: Link) -> list[Link]:
        found = ports(kernel, link)
        world.space.ip("link set vmsilo0123abcd name lan", "link set port master lan")
        return found

    monkeypatch.setattr(Kernel, "ports", interfere)
    with world.space.entered():
        bridge.sweep(Kernel())
    assert world.seen()["port"].port_of == "lan"


def test_bridge_that_its_remover_has_left(world: World) -> None:
    """The other VM's TAP is in it still, and that VM does not notice."""
    world.up(CLIENT)
    world.up(NETVM)
    world.down("work")
    world.space.ip("link set br_vpn.work down", "link set br_vpn.work name vmsilo0123abcd")
    assert world.up(CLIENT) == 0
    seen = world.seen()
    assert {seen[name].port_of for name in ("work_up", "vpn.work")} == {"br_vpn.work"}
    assert "vmsilo0123abcd" not in seen


def test_crowd_on_one_bridge(world: World) -> None:
    plans = [plan_of(f"vm{number}", own("lan", f"vm{number}-0", "lan")) for number in range(12)]
    files = [world.file(plan) for plan in plans]
    assert at_once(world, *[("up", file) for file in files]) == [(0, "")] * 12
    assert {each.port_of for each in world.seen().values() if each.kind == "tun"} == {"lan"}
    half = [("down", plan.vm) for plan in plans[:6]]
    again = [("up", file) for file in files[6:]]
    assert at_once(world, *half, *again) == [(0, "")] * 12
    assert {each.port_of for each in world.seen().values() if each.kind == "tun"} == {"lan"}
    assert at_once(world, *[("down", plan.vm) for plan in plans]) == [(0, "")] * 12
    assert world.seen() == {}


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.03, 0.035, 0.04, 0.05])
def test_killed_at_any_moment(world: World, moment: float) -> None:
    """No interface stays that is not complete, and the next one makes everything good."""
    file = world.file(NETVM)
    process = world.start("up", file)
    time.sleep(moment)
    process.kill()
    process.wait()
    for name, each in world.seen().items():
        assert each.kind != "tun" or each.alias.startswith("vmsilo vpn "), name
    assert world.up(NETVM) == 0
    assert set(world.seen()) == {"vpn.work", "vpn_up", "br_vpn.work"}
    assert world.down("vpn") == 0
    assert (world.seen(), world.tables()) == ({}, [])
