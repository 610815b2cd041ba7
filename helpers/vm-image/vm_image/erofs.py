"""The root file system: a tree as erofs, the same bytes for the same tree."""

from pathlib import Path

from vm_image.archive import run_logged

# Of no consequence, as disks are found by their serial numbers, but it must not be random.
UUID = "76d51100-0000-4000-8000-000000000001"


def make(tree: Path, image: Path, epoch: int, log: Path) -> None:
    """Write *tree* to *image*, every file's times being *epoch*.

    Not compressed: the host caches the image once for all VMs that run it, and a start reads a tenth of it.
    """
    command = ["mkfs.erofs", "--quiet", f"-T{epoch}", f"-U{UUID}", str(image), str(tree)]
    run_logged(command, log, "mkfs.erofs cannot make the root file system")
