"""Names of devices."""

from vm_pci.catalogue import kind, search

IDS = """\
# a list
10de  NVIDIA Corporation
\t1d01  GP108 [GeForce GT 1030]
\t\t1043 85f4  a board
\t1d10  GP108M
8086  Intel Corporation
\t1539  I211 Gigabit Network Connection
C 03  Display controller
\t1539  no device
"""


def test_search() -> None:
    found = search(IDS, {(0x10DE, 0x1D01), (0x8086, 0x1539), (0x8086, 0x1043)})
    assert found == {
        (0x10DE, 0x1D01): "NVIDIA Corporation GP108 [GeForce GT 1030]",
        (0x8086, 0x1539): "Intel Corporation I211 Gigabit Network Connection",
    }


def test_kind() -> None:
    assert kind(0x0C03) == "USB controller"
    assert kind(0xFF12) == "class ff12"
