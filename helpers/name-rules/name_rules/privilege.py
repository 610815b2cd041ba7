"""Giving up capabilities, for good (capabilities(7)). Each process has one thread when it does."""

import ctypes
import os
import signal

CAP_NET_ADMIN = 12

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522  # linux/capability.h

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def keep(*capabilities: int) -> None:
    """Keep of this process's capabilities *capabilities*, of those it has, and no way to more. Raises OSError."""
    header, found = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), found))
    for number, half in enumerate(found):
        wanted = sum(1 << capability % 32 for capability in capabilities if capability // 32 == number)
        half.effective = half.permitted = half.permitted & wanted
        half.inheritable = 0
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _check(_libc.capset(ctypes.byref(header), found))


def end_with(parent: int) -> None:
    """End this process when *parent*, which started it, does; and let no process of its user look into it."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    if os.getppid() != parent:  # it had ended already
        os._exit(1)


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
