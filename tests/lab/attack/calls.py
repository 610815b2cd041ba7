"""System calls that Python has no function for, by their numbers on x86-64 (asm/unistd_64.h)."""

import ctypes
import os

MPROTECT = 10
SHMGET = 29
SHMAT = 30
CLONE = 56
SEMGET = 64
MSGGET = 68
PTRACE = 101
SYSLOG = 103
CAPSET = 126
PERSONALITY = 135
VHANGUP = 153
MODIFY_LDT = 154
PIVOT_ROOT = 155
CHROOT = 161
ACCT = 163
SETTIMEOFDAY = 164
MOUNT = 165
UMOUNT2 = 166
SWAPON = 167
REBOOT = 169
SETHOSTNAME = 170
IOPL = 172
IOPERM = 173
INIT_MODULE = 175
DELETE_MODULE = 176
QUOTACTL = 179
CLOCK_SETTIME = 227
MQ_OPEN = 240
KEXEC_LOAD = 246
ADD_KEY = 248
REQUEST_KEY = 249
KEYCTL = 250
MIGRATE_PAGES = 256
UNSHARE = 272
PERF_EVENT_OPEN = 298
FANOTIFY_INIT = 300
NAME_TO_HANDLE_AT = 303
OPEN_BY_HANDLE_AT = 304
SETNS = 308
PROCESS_VM_READV = 310
PROCESS_VM_WRITEV = 311
KCMP = 312
FINIT_MODULE = 313
BPF = 321
USERFAULTFD = 323
IO_URING_SETUP = 425
OPEN_TREE = 428
FSOPEN = 430
CLONE3 = 435
PIDFD_GETFD = 438
MOUNT_SETATTR = 442
MEMFD_SECRET = 447

# The program itself, with which ctypes calls without making code at run time.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(
    number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None, past: tuple[int, ...] = ()
) -> int:
    """Make the system call. Raises OSError, but for an error in *past*, which only the privileged get to see."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    ctypes.set_errno(0)
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    failed = ctypes.get_errno()
    if result == -1 and failed not in past:
        raise OSError(failed, os.strerror(failed))
    return result


def buffer(size: int, content: bytes = b"") -> "ctypes.Array[ctypes.c_char]":
    return ctypes.create_string_buffer(content, size)
