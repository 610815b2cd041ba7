"""A guest of a few dozen bytes: a PVH kernel that answers on the first serial port.

It prints its command line and a newline, then echoes each byte it is sent; ``!`` resets the machine. When the power
button is pressed it prints ``off`` and powers off. That is enough to drive a real hypervisor through a whole
start and stop where no distribution's kernel is at hand.

Ports are those of a PC with an ICH9 (QEMU q35): 0x3f8 serial, 0x600 ACPI power management, 0xcf9 reset control.
"""

import struct

_LOAD = 0x100000  # where the kernel lies in guest memory
_NOTE_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY: the PVH entry point

# 32-bit protected mode; ebx points to struct hvm_start_info, whose word at 24 is the command line's address.
_CODE = bytes.fromhex(
    "8b7318"  # mov esi,[ebx+24]
    "66ba0206 66b80001 66ef"  # outw 0x602, 0x100: let the power button set its status bit
    "66baf803"  # mov dx,0x3f8
    "8a06 46 84c0 7403 ee ebf6"  # print until NUL
    "b00a ee"  # newline
    # poll:
    "66ba0006 66ed f6c401 751c"  # inw 0x600; bit 8: goto off
    "66bafd03 ec a801 74ec"  # no byte waiting: goto poll
    "66baf803 ec ee 3c21 75e2"  # echo; not "!": goto poll
    "66baf90c b006 ee ebfe"  # outb 0xcf9, 6
    # off:
    "66baf803 b06f ee b066 ee ee b00a ee"  # "off\n"
    "66ba0406 66b80020 66ef ebfe"  # outw 0x604, 0x2000: soft off
)


def kernel() -> bytes:
    """The kernel: an ELF executable with one loaded segment and the note that makes it a PVH kernel."""
    headers = 64 + 2 * 56
    note = struct.pack("<III4sI", 4, 4, _NOTE_ENTRY, b"Xen\0", _LOAD)
    note_at = headers
    code_at = headers + len(note)
    elf = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1", 2, 62, 1, _LOAD, 64, 0, 0, 64, 56, 2, 0, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIQQQQQQ", 1, 7, code_at, _LOAD, _LOAD, len(_CODE), len(_CODE), 1)
    notes = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(note), len(note), 4)
    return elf + load + notes + note + _CODE
