"""Kernel modules: which files a module needs, in the order to load them, and their uncompressed bytes.

The files are depmod's and the kernel's own: modules.dep names a module's dependencies, the ones to load last first;
modules.builtin names what the kernel has without a module.
"""

import bz2
import gzip
import lzma
import subprocess
from pathlib import Path

from vmsilo.failure import EX_DATAERR, Failure


class Modules:
    """The modules below one /usr/lib/modules/<release>."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._needs: dict[str, list[str]] = {}  # path -> paths it depends on, the ones to load last first
        self._path: dict[str, str] = {}  # module -> path
        for line in (directory / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._needs[path] = needs.split()
            self._path[module_name(path)] = path
        self._builtin = {module_name(path) for path in (directory / "modules.builtin").read_text().split()}

    def order(self, wanted: tuple[str, ...]) -> list[str]:
        """Paths of the modules *wanted* and all they depend on, each before the first that needs it.

        A name that ends in "?" may be missing: another kernel has the function built in, or elsewhere. Raises Failure
        for any other name that is neither a module nor built in.
        """
        paths: dict[str, None] = {}
        for name in wanted:
            path = self._path.get(name.removesuffix("?"))
            if path is not None:
                paths |= dict.fromkeys([*reversed(self._needs[path]), path])
            elif not name.endswith("?") and name not in self._builtin:
                raise Failure(f"the kernel has no module {name}", f"looked in {self._directory}", EX_DATAERR)
        return list(paths)

    def read(self, path: str) -> bytes:
        """The module at *path*, uncompressed."""
        content = (self._directory / path).read_bytes()
        match path.rpartition(".")[2]:
            case "xz":
                return lzma.decompress(content)
            case "gz":
                return gzip.decompress(content)
            case "bz2":
                return bz2.decompress(content)
            case "zst":
                return subprocess.run(
                    ("zstd", "-q", "-d", "-c"), input=content, capture_output=True, check=True
                ).stdout
        return content


def module_name(path: str) -> str:
    """The name modprobe knows the module file *path* by: dashes count as underscores."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
