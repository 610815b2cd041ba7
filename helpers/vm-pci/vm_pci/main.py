"""The command line of vm-pci(8)."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from vm_pci import isolation, plans
from vm_pci.place import Place
from vmsilo.failure import EX_NOINPUT, EX_NOPERM, EX_OSERR, EX_USAGE, Failure, complain, one_line, reason
from vmsilo.notify import notify
from vmsilo.pci import EXPECTED, full_address

PROGRAM = "vm-pci"
USAGE = """\
usage: vm-pci list [--json]
       vm-pci isolate
       vm-pci release [--all | DEVICE...]
       vm-pci attach PLAN
       vm-pci detach VM
"""


def main(argv: Sequence[str] | None = None, place: Place | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    try:
        status = run(place or Place(), arguments[0] if arguments else "", arguments[1:])
        sys.stdout.flush()
        return status
    except Failure as failure:
        complain(PROGRAM, str(failure))
        notify("STATUS=" + one_line(str(failure)))
        return failure.code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)  # what is still buffered has nowhere to go
        return 141  # 128 + SIGPIPE, as a shell has it
    except OSError as error:
        complain(PROGRAM, reason(error))
        return EX_OSERR


def run(place: Place, verb: str, operands: list[str]) -> int:
    match verb, operands:
        case "list", [] | ["--json"]:
            return show(place, json=bool(operands))
        case "isolate", []:
            return isolate(place)
        case "release", ["--all"]:
            return release(place, [], everything=True)
        case "release", _ if not any(operand.startswith("-") for operand in operands):
            return release(place, operands, everything=False)
        case "attach", [path]:
            return attach(place, path)
        case "detach", [vm]:
            from vm_pci.grant import detach

            detach(place, vm)
            return 0
        case _:
            sys.stderr.write(USAGE)
            return EX_USAGE


def show(place: Place, *, json: bool) -> int:
    from vm_pci import listing  # the boot does without

    found = listing.rows(place, plans.of_vms(place))
    sys.stdout.write(listing.as_json(found) if json else listing.as_table(found))
    return 0


def isolate(place: Place) -> int:
    """Isolate what is configured. A device that is not there, or not yet, is no failure."""
    need_root()
    plan = plans.of_host(place)
    wanted = plan.isolated if plan else ()
    if not wanted:
        complain(PROGRAM, "no device is configured: see isolatedPciDevices in vmsilo.toml(5)")
    by_address = {device.address: device for device in wanted}
    outcome = each(by_address, lambda address: isolation.isolate(place, by_address[address]), forgiven=EX_NOINPUT)
    return outcome.status


def release(place: Place, texts: Sequence[str], *, everything: bool) -> int:
    """Give back the devices named, or those that the configuration no longer lists, or all."""
    from vm_pci import release as releases  # the boot does without

    need_root()
    plan = plans.of_host(place)
    addresses = [address_of(text) for text in texts] or releases.chosen(place, plan, everything=everything)
    if not addresses:
        what = "no device is isolated" if everything else "no device is isolated that the configuration doesn't list"
        complain(PROGRAM, what)
    outcome = each(addresses, lambda address: releases.release(place, address))
    listed = {device.address for device in plan.isolated} if plan else set()
    if listed.intersection(outcome.done):
        complain(PROGRAM, "a device that is still in isolatedPciDevices is isolated again at the next boot")
    return outcome.status


def attach(place: Place, path: str) -> int:
    from vm_pci.grant import attach as hand_over

    need_root()
    host = plans.of_host(place)
    for line in hand_over(place, plans.of_vm(path), host.isolated if host else ()):
        print(line)
    return 0


class Outcome(NamedTuple):
    done: list[str]  # the addresses of the devices that nothing failed with
    status: int  # 0, or the exit status of the last failure


def each(addresses: Iterable[str], deed: Callable[[str], str], forgiven: int = 0) -> Outcome:
    """Do *deed* to each and say what came of it. A failure with the status *forgiven* is told, but doesn't count."""
    done, status = [], 0
    for address in addresses:
        try:
            print(f"{address}: {deed(address)}", flush=True)
            done.append(address)
        except Failure as failure:
            complain(PROGRAM, str(failure))
            if failure.code != forgiven:
                status = failure.code
    return Outcome(done, status)


def address_of(text: str) -> str:
    address = full_address(text)
    if address is None:
        raise Failure(f"{text!r} is no device: expected {EXPECTED}", code=EX_USAGE)
    return address


def need_root() -> None:
    if os.geteuid():
        raise Failure("not allowed", "only root binds devices to drivers", EX_NOPERM)
