"""The devices of the machine that a VM could be given, by address, and how the kernel groups them.

A device at the root bus is a group of its own, the functions of one device are one group, and so is everything behind
a bridge without access control (a conventional PCI bridge). The addresses are those QEMU is told here.
"""

TAKEN_AT_BOOT = "0000:00:10.0"  # a network card that the machine is told to leave alone
NETWORK = "0000:00:11.0"  # one that its driver has when the machine has booted
FUNCTIONS = ("0000:00:12.0", "0000:00:12.1")  # one device with two functions
BRIDGED = ("0000:01:01.0", "0000:01:02.0")  # two devices behind a conventional bridge
PLAIN = "0000:00:14.0"  # QEMU's teaching device, which no driver wants

BRIDGE = "0000:00:13.0"

ARGUMENTS = (
    *("-device", "e1000e,addr=10.0", "-device", "e1000e,addr=11.0"),
    *("-device", "e1000,addr=12.0,multifunction=on", "-device", "e1000,addr=12.1"),
    *("-device", "pci-bridge,id=bridge,chassis_nr=1,shpc=off,addr=13.0"),
    *("-device", "e1000,bus=bridge,addr=1.0", "-device", "e1000,bus=bridge,addr=2.0"),
    *("-device", "edu,addr=14.0"),
)
