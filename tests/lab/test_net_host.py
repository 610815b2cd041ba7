"""The units that make the host's end of VMs' networks, within their walls."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from net.world import bridge_of, downstream, guarding, own, to_host, upstream
from project import ROOT

from lab import config
from lab.host import Host
from lab.networks import interfaces, plan_of, planned, replan, tables
from lab.tree import USER
from vmsilo import names, paths, policy
from vmsilo.plan import Plan


def client(vm: str, netvm: str) -> Plan:
    return plan_of(vm, upstream(vm, netvm), rules=guarding(vm, f"{vm}_up", bridge_of(netvm, vm)))


def netvm(vm: str, *clients: str) -> Plan:
    nics = [downstream(vm, each) for each in clients]
    return plan_of(
        vm,
        to_host(vm, "10.200.5.3/31", "fd00::1/127"),
        *nics,
        rules=guarding(vm, f"{vm}_up", *[nic.tap for nic in nics]),
        forward=(4, 6),
    )


def test_units_make_networks_and_leave_nothing(lab: Host) -> None:
    before = interfaces(lab)
    with planned(lab, [client("nhc", "nhn"), netvm("nhn", "nhc")]) as units:
        lab.systemctl("start", *units)
        found = interfaces(lab)
        assert set(found) - set(before) == {"nhc_up", "nhn.nhc", "nhn_up", "br_nhn.nhc"}
        assert found["nhc_up"]["ifalias"] == "vmsilo nhc upstream"
        assert {found[name]["master"] for name in ("nhc_up", "nhn.nhc")} == {"br_nhn.nhc"}
        assert set(tables(lab)) >= {"table netdev vmsilo-nhc", "table netdev vmsilo-nhn"}
        assert lab.read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
        assert lab.read("/proc/sys/net/ipv6/conf/all/forwarding").strip() == "1"
        said = lab.journal("-b", "-o", "cat", *[f"--unit={unit}" for unit in units])
        assert not [line for line in said.splitlines() if line.startswith("net:")]
        lab.systemctl("stop", *units)
        assert set(interfaces(lab)) == set(before)
        assert not [table for table in tables(lab) if "vmsilo-nh" in table]


def test_policy_is_what_is_asked_for(lab: Host) -> None:
    """A call that is refused, and done without, would be seen in no other test."""
    own_calls = policy.read(str(ROOT / "units/seccomp/net.conf")).calls
    with planned(lab, [netvm("nhp", "nhq")]) as (unit,):
        trace = f"/run/{unit}.trace"
        for words in (("up", f"{paths.GENERATOR_DIR}/{names.plan_file('nhp')}"), ("down", "nhp")):
            lab.run("strace", "-f", "-qq", "-A", "-o", trace, f"{paths.LIBEXEC}/net", *words)
        allowed = set(lab.show(unit, "SystemCallFilter")["SystemCallFilter"].split())
        made = set(re.findall(r"^\d+ +(\w+)\(", lab.read(trace), re.MULTILINE))
        lab.run("rm", trace)
    print(sorted(own_calls - made), sorted(made))
    assert made <= allowed
    assert own_calls - made <= {"vfork", "clone", "clone3", "sysinfo"}  # as the C library likes


def test_interface_of_somebody_else(lab: Host) -> None:
    """It stays as it is, and the unit's status says so."""
    lab.run("ip", "link", "add", "nhf_up", "type", "bridge")
    try:
        before = interfaces(lab)["nhf_up"]
        with planned(lab, [client("nhf", "nhg")]) as (unit,):
            started = lab.systemctl("start", unit, check=False)
            assert started.code
            message = "nhf_up is there already and was not made by vmsilo (bridge) (rename one)"
            status = lab.systemctl("status", unit, check=False).out
            assert f'Status: "{message}"' in status
            assert f"net: {message}" in lab.journal("-b", "-o", "cat", "-u", unit)
        assert interfaces(lab)["nhf_up"] == before
        assert "br_nhg.nhf" not in interfaces(lab)
    finally:
        lab.run("ip", "link", "delete", "nhf_up")


def test_who_starts_the_vm_is_told(lab: Host) -> None:
    vm = "nhv"
    drop_in = f"/run/systemd/system/{names.vm_unit(vm)}.d"
    lab.run("ip", "link", "add", f"{vm}_up", "type", "bridge")
    needs = names.net_unit(vm)
    lab.write(f"{drop_in}/network.conf", f"[Unit]\nRequires={needs}\nAfter={needs}\n")
    try:
        with lab.configured({vm: config.vm()}), planned(lab, [client(vm, "nhw")]):
            started = lab.run("vm-start", vm, user=USER, check=False)
            assert started.code
            assert f"{needs} failed: {vm}_up is there already and was not made by vmsilo" in started.err
            assert lab.state(names.vm_unit(vm)) == "inactive"
    finally:
        lab.run("ip", "link", "delete", f"{vm}_up")
        lab.run("rm", "-r", drop_in)
        lab.reload()


def test_what_the_kernel_refuses(lab: Host) -> None:
    with planned(lab, [plan_of("nhk", to_host("nhk", "10.0.0.1/31", "ff02::1/127"))]) as (unit,):
        assert lab.systemctl("start", unit, check=False).code
        status = lab.systemctl("status", unit, check=False).out
        assert 'Status: "the kernel refuses: nhk_up: adding ff02::1/127: Cannot assign requested address' in status
        assert "nhk_up" not in interfaces(lab)


def test_what_nft_refuses(lab: Host) -> None:
    rules = guarding("nhx", "nhx_up").replace("policy drop", "policy perhaps")
    with planned(lab, [plan_of("nhx", to_host("nhx", "10.0.0.1/31"), rules=rules)]) as (unit,):
        assert lab.systemctl("start", unit, check=False).code
        status = lab.systemctl("status", unit, check=False).out
        assert "Status: \"nft refuses the VM's rules: syntax error" in status
        assert "nhx_up" not in interfaces(lab)


def test_both_ends_at_the_same_moment(lab: Host) -> None:
    with planned(lab, [client("nhc", "nhn"), netvm("nhn", "nhc")]) as units, ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            for started in pool.map(lambda unit: lab.systemctl("start", unit, check=False), units):
                assert started.code == 0, started.err
            found = interfaces(lab)
            assert {found[name].get("master") for name in ("nhc_up", "nhn.nhc")} == {"br_nhn.nhc"}
            for stopped in pool.map(lambda unit: lab.systemctl("stop", unit, check=False), units):
                assert stopped.code == 0, stopped.err
            assert not [name for name in interfaces(lab) if "nhc" in name]


def test_twenty_come_and_go_ten_times(lab: Host) -> None:
    """Nineteen clients of one netvm, which are also on a bridge that all share."""
    clients = [f"nh{number}" for number in range(19)]
    plans = [netvm("nhn", *clients[:14])]
    for vm in clients:
        nic = own("lan", f"{vm}-0", "nhlan")
        plans.append(plan_of(vm, nic, *client(vm, "nhn").network.nics, rules=guarding(vm, f"{vm}-0", f"{vm}_up")))
    before = interfaces(lab), tables(lab), lab.run("ip", "route", "show", "table", "all").out
    with planned(lab, plans) as units:
        for _ in range(10):
            lab.systemctl("start", *units)
            found = interfaces(lab)
            assert len(found) - len(before[0]) == 1 + 14 + 19 + 19 + 19 + 1  # TAPs, and bridges
            assert {found[f"{vm}-0"]["master"] for vm in clients} == {"nhlan"}
            assert {found[f"nhn.{vm}"]["master"] for vm in clients[:14]} == {f"br_nhn.{vm}" for vm in clients[:14]}
            lab.systemctl("stop", *units)
            after = interfaces(lab), tables(lab), lab.run("ip", "route", "show", "table", "all").out
            assert after == before
        assert [lab.state(unit) for unit in units] == ["inactive"] * 20


def test_reload_mends_and_follows_the_plan(lab: Host) -> None:
    with planned(lab, [client("nhr", "nhs")]) as (unit,):
        lab.systemctl("start", unit)
        index = interfaces(lab)["nhr_up"]["ifindex"]
        lab.run("nft", "delete", "table", "netdev", "vmsilo-nhr")
        lab.run("ip", "link", "set", "nhr_up", "nomaster")
        replan(lab, client("nhr", "nht"))
        lab.systemctl("reload", unit)
        found = interfaces(lab)
        assert (found["nhr_up"]["master"], found["nhr_up"]["ifindex"]) == ("br_nht.nhr", index)
        assert "table netdev vmsilo-nhr" in tables(lab)


def test_rules_come_again_after_a_firewall_has_flushed_them(lab: Host) -> None:
    lab.write("/run/nhl.conf", "flush ruleset\ntable inet filter {\n}\n")
    lab.write(
        "/run/systemd/system/nftables.service.d/lab.conf",
        "[Service]\nExecStart=\nExecStart=nft -f /run/nhl.conf\nExecReload=\nExecReload=nft -f /run/nhl.conf\n",
    )
    try:
        with planned(lab, [client("nhl", "nhm")]) as (unit,):
            lab.systemctl("start", "nftables.service", unit)
            lab.systemctl("reload", "nftables.service")
            lab.wait_for(lambda: "table netdev vmsilo-nhl" in tables(lab), timeout=20)
            assert "table inet filter" in tables(lab)
    finally:
        lab.systemctl("stop", "nftables.service", check=False)
        lab.run("rm", "-rf", "/run/systemd/system/nftables.service.d", "/run/nhl.conf")
        lab.run("nft", "flush", "ruleset")
        lab.reload()


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_tap_driver_may_be_root_s_alone(lab: Host, mode: str) -> None:
    before = lab.run("stat", "-c", "%a", "/dev/net/tun").out.strip()
    lab.run("chmod", mode, "/dev/net/tun")
    try:
        with planned(lab, [client("nhd", "nhe")]) as (unit,):
            lab.systemctl("start", unit)
            assert "nhd_up" in interfaces(lab)
    finally:
        lab.run("chmod", before, "/dev/net/tun")
