"""A VM's disks: what can't be together, and what they are. Loaded where a file has any."""

from typing import Any

from vmsilo.plan import Disk, Setting
from vmsilo_generator.options import DEFAULTS, UNSET
from vmsilo_generator.reader import Key, Reader, Values, shown

# What we know about a disk; any other key is crosvm's.
_KEYS = ("path", "format", "ro", "sparse", "block-size", "id", "direct")


def judge(values: Values, reader: Reader) -> None:
    """Note what is wrong between the keys of one disk and between the disks of one VM."""
    disks: list[tuple[Key, Values]] = []
    if disk := values.get("rootDisk"):
        _judge_root(disk, values, reader)
        disks.append((("rootDisk",), disk))
    for index, disk in enumerate(values.get("additionalDisks", ())):
        if disk is not UNSET:
            key: Key = ("additionalDisks", index)
            if disk.get("ro") and disk.get("sparse"):
                reader.fault((*key, "sparse"), "has no effect on a disk that is read-only: remove it", of_key=True)
            disks.append((key, disk))
    chosen = values.get("hypervisor", DEFAULTS["hypervisor"])
    for key, disk in disks:
        _judge_block_size(disk, key, chosen, reader)
        if chosen != "crosvm" and not reader.faulty("hypervisor"):
            _judge_further_keys(disk, key, chosen, reader)
    _judge_ids(disks, reader)
    _judge_paths([(key, disk, _readonly(disk, key, values)) for key, disk in disks], reader)


def _readonly(disk: Values, key: Key, values: Values) -> bool:
    return bool(values.get("rootDiskReadonly", True) if key == ("rootDisk",) else disk.get("ro", False))


def _judge_root(disk: Values, values: Values, reader: Reader) -> None:
    if values.get("rootDiskReadonly", True) and disk.get("sparse"):
        message = "has no effect on a disk that is read-only: remove it, or set rootDiskReadonly = false"
        reader.fault(("rootDisk", "sparse"), message, of_key=True)
    if "ro" in disk:
        reader.fault(("rootDisk", "ro"), "rootDiskReadonly says whether this disk is read-only", of_key=True)


def _judge_block_size(disk: Values, key: Key, chosen: str, reader: Reader) -> None:
    if "block-size" not in disk:
        return
    size = disk["block-size"]
    if size & (size - 1):
        reader.fault((*key, "block-size"), f"expected a power of two, like 4096, found {size}")
    elif chosen == "cloud-hypervisor" and not reader.faulty("hypervisor"):
        message = "cloud-hypervisor has no such setting: remove it, or set another hypervisor"
        reader.fault((*key, "block-size"), message, of_key=True)


def _judge_further_keys(disk: Values, key: Key, chosen: str, reader: Reader) -> None:
    for name in disk:
        if name not in _KEYS:
            from vmsilo_generator import where  # a module of the error path

            near = where.nearest(name, _KEYS)
            meant = f' (did you mean "{near}"?)' if near is not None else ""
            message = f"unknown option{meant}: further ones are only for crosvm, not for {chosen}"
            reader.fault((*key, name), message, of_key=True)


def _judge_ids(disks: list[tuple[Key, Values]], reader: Reader) -> None:
    seen: dict[str, Key] = {}
    for key, disk in disks:
        if "id" in disk:
            first = seen.setdefault(disk["id"], key)
            if first != key:
                message = f"{shown(disk['id'])} is the id of {_called(first)} already: choose another one"
                reader.fault((*key, "id"), message)


def _judge_paths(disks: list[tuple[Key, Values, bool]], reader: Reader) -> None:
    """One file may be two disks only if nobody writes it."""
    seen: dict[str, tuple[Key, bool]] = {}
    for key, disk, readonly in disks:
        first, first_readonly = seen.setdefault(disk["path"], (key, readonly))
        if first != key and not (readonly and first_readonly):
            message = f"this is {_called(first)} already: a disk that is written to can be in a VM only once"
            reader.fault((*key, "path"), message)


def _called(key: Key) -> str:
    return "rootDisk" if len(key) == 1 else f"number {int(key[1]) + 1} of {key[0]}"


def root(values: Values, *, readonly: bool) -> Disk:
    """The disk of a complete rootDisk."""
    return _disk(values, "rootDisk", readonly=readonly)


def additional(values: Values) -> Disk:
    """The disk of an item of additionalDisks."""
    return _disk(values, "additionalDisks[]", readonly=values.get("ro", False))


def _disk(values: Values, option: str, *, readonly: bool) -> Disk:
    def get(key: str) -> Any:
        return values.get(key, DEFAULTS[f"{option}.{key}"])

    return Disk(
        path=values["path"],
        format=get("format"),
        readonly=readonly,
        direct=get("direct"),
        sparse=get("sparse") and not readonly,
        block_size=values.get("block-size", 0),
        id=values.get("id", ""),
        settings=tuple([Setting(key, value) for key, value in values.items() if key not in _KEYS]),
    )
