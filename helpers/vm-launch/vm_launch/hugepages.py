"""Huge pages, which the host must have reserved before a VM can have its memory from them."""

from vmsilo.failure import EX_UNAVAILABLE, Failure

SIZE = 2  # MiB, what vm.nr_hugepages counts on x86-64

# Not /proc/meminfo, which the hypervisor's unit does not show.
_COUNTS = f"/sys/kernel/mm/hugepages/hugepages-{SIZE << 10}kB"


def check(memory: int, counts: str = _COUNTS) -> None:
    """Raise Failure unless so many MiB of huge pages are free; *counts* is the kernel's directory about them."""
    needed = -(-memory // SIZE)
    try:
        reserved, free, promised = (_read(f"{counts}/{name}_hugepages") for name in ("nr", "free", "resv"))
    except (OSError, ValueError):
        raise Failure("this kernel has no huge pages of 2 MiB", "see cloud-hypervisor.hugepages") from None
    missing = needed - (free - promised)
    if missing > 0:
        raise Failure(
            f"{needed} huge pages of {SIZE} MiB are needed and {max(free - promised, 0)} are free",
            f"sysctl vm.nr_hugepages={reserved + missing}",
            EX_UNAVAILABLE,
        )


def _read(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())
