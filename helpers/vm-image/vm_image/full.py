"""The full guest."""

from pathlib import Path

from vm_image import guest

PACKAGES: tuple[str, ...] = ()


def shape(tree: Path, sources: guest.Sources, release: str, log: Path) -> None:
    pass


def finish(tree: Path) -> None:
    pass
