"""Sizes and times, as people read them."""


def size(count: int | None) -> str:
    """Bytes in binary units, such as ``1.5G``."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "K", "M"):
        if amount < 1024:
            return f"{amount:.0f}{unit}"
        amount /= 1024
    return f"{amount:.1f}G"


def duration(seconds: float | None) -> str:
    """The two largest units, such as ``3d 4h`` or ``5min 2s``."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}min {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}min"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"
