"""What is configured, from the plans that the generator wrote beside the units."""

from vm_pci.place import Place, entries
from vmsilo import names
from vmsilo import plan as plans
from vmsilo.failure import EX_CONFIG, EX_NOINPUT, Failure
from vmsilo.plan import HostPlan, Plan

_SUFFIX = names.plan_file("")[len(names.PREFIX) :]


def of_host(place: Place) -> HostPlan | None:
    """What concerns all VMs; None where nothing is configured, or nothing that can be used."""
    try:
        return plans.loads_host(_read(f"{place.plans}/{names.HOST_PLAN_FILE}"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Failure(f"{place.plans}/{names.HOST_PLAN_FILE}: {error}", code=EX_CONFIG) from None


def of_vm(path: str) -> Plan:
    """The plan in file *path*. Raises PermissionError where another than root asks."""
    try:
        return plans.loads(_read(path))
    except PermissionError:
        raise
    except FileNotFoundError:
        raise Failure(f"there is no plan {path}", code=EX_NOINPUT) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Failure(f"{path}: {error}", code=EX_CONFIG) from None


def of_vms(place: Place) -> list[Plan]:
    """The plans of all VMs, by name; none for another than root, since what they tell a guest is a secret."""
    found = []
    for name in entries(place.plans):
        vm = name.removeprefix(names.PREFIX).removesuffix(_SUFFIX)
        if names.is_vm_name(vm) and names.plan_file(vm) == name:
            try:
                found.append(of_vm(f"{place.plans}/{name}"))
            except PermissionError:
                continue
    return found


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
