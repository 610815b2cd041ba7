"""Modules in the order to load them, from files as depmod writes them."""

import lzma
from pathlib import Path

import pytest

from vm_image.modules import Modules, module_name
from vmsilo.failure import Failure

# depmod lists the dependencies to load last first: c needs b, which needs a.
DEP = """\
kernel/a.ko.xz:
kernel/b.ko.xz: kernel/a.ko.xz
kernel/c-d.ko.xz: kernel/b.ko.xz kernel/a.ko.xz
kernel/e.ko: kernel/a.ko.xz
"""


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    (tmp_path / "modules.dep").write_text(DEP)
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/a.ko.xz").write_bytes(lzma.compress(b"module a", check=lzma.CHECK_CRC32))
    (tmp_path / "kernel/e.ko").write_bytes(b"module e")
    return Modules(tmp_path)


def test_a_module_comes_after_what_it_needs(modules: Modules) -> None:
    assert modules.order(("c_d",)) == ["kernel/a.ko.xz", "kernel/b.ko.xz", "kernel/c-d.ko.xz"]


def test_what_two_need_is_there_once(modules: Modules) -> None:
    assert modules.order(("e", "c_d", "a")) == ["kernel/a.ko.xz", "kernel/e.ko", "kernel/b.ko.xz", "kernel/c-d.ko.xz"]


def test_built_in_and_optional_ones_need_no_file(modules: Modules) -> None:
    assert modules.order(("virtio_pci", "nowhere?", "a?")) == ["kernel/a.ko.xz"]


def test_a_missing_one_is_named(modules: Modules) -> None:
    with pytest.raises(Failure, match="no module nowhere"):
        modules.order(("nowhere",))


def test_reads_them_uncompressed(modules: Modules) -> None:
    assert modules.read("kernel/a.ko.xz") == b"module a"
    assert modules.read("kernel/e.ko") == b"module e"


def test_dashes_count_as_underscores() -> None:
    assert module_name("kernel/crypto/crc32c-intel.ko.xz") == "crc32c_intel"
