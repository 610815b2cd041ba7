"""A PAM session, through libpam itself: what a login would give a user's processes (limits, environment, ...).

A guest without libpam or without the service file has no PAM; then commands start without a session.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SERVICE = "vmsilo"
_SERVICE_DIRS = ("/etc/pam.d", "/usr/lib/pam.d")
_LIBRARY = "libpam.so.0"

# security/_pam_types.h
_SUCCESS = 0
_CONV_ERR = 19
_ESTABLISH_CRED = 0x2
_DELETE_CRED = 0x4
_DATA_SILENT = 0x40000000
_SILENT = 0x8000


class PamError(Exception):
    """PAM refuses the session; the text says why."""


class Session:
    """An open session. Whoever opened it stays root and closes it once the user's processes have ended."""

    def __init__(self, library: "Any", handle: "Any", conversation: "Any") -> None:
        self._library = library
        self._handle = handle
        self._conversation = conversation  # libpam keeps a pointer to it

    def environment(self) -> list[bytes]:
        """What the modules want in the environment, as NAME=VALUE."""
        from ctypes import POINTER, c_char_p

        self._library.pam_getenvlist.restype = POINTER(c_char_p)
        listed = self._library.pam_getenvlist(self._handle)
        found: list[bytes] = []
        while listed and listed[len(found)] is not None:
            found.append(listed[len(found)])
        return found  # the list's few bytes live as long as this process, which serves one session

    def close(self) -> None:
        self._library.pam_close_session(self._handle, _SILENT)
        self._library.pam_setcred(self._handle, _DELETE_CRED | _SILENT)
        self._library.pam_end(self._handle, _SUCCESS)


def open_session(user: str, confdir: str | None = None) -> Session | None:
    """Open a session for *user*; None where the guest has no PAM. Raises PamError.

    The caller has taken the user's groups before: modules may add to them. *confdir* replaces the directories where
    the service file is looked for.
    """
    places = (confdir,) if confdir else _SERVICE_DIRS
    if not any(os.path.exists(f"{place}/{SERVICE}") for place in places):
        return None
    import ctypes  # only here: it costs as much as everything else the agent imports

    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    conversation = _conversation(ctypes)
    handle = ctypes.c_void_p()
    arguments = [SERVICE.encode(), user.encode(), ctypes.byref(conversation)]
    if confdir:
        code = library.pam_start_confdir(*arguments, confdir.encode(), ctypes.byref(handle))
    else:
        code = library.pam_start(*arguments, ctypes.byref(handle))
    if code != _SUCCESS:
        raise PamError(f"PAM can't be started for {user} (error {code})")
    _open(ctypes, library, handle, user)
    return Session(library, handle, conversation)


def _open(ctypes: "Any", library: "Any", handle: "Any", user: str) -> None:
    library.pam_strerror.restype = ctypes.c_char_p
    for step in (library.pam_acct_mgmt, library.pam_setcred, library.pam_open_session):
        code = step(handle, _SILENT | (_ESTABLISH_CRED if step is library.pam_setcred else 0))
        # Credentials are those of the auth stack, which a service without authentication need not have.
        if code != _SUCCESS and step is not library.pam_setcred:
            reason = library.pam_strerror(handle, code).decode(errors="replace")
            library.pam_end(handle, code | _DATA_SILENT)
            raise PamError(f"PAM refuses {user} a session: {reason}")


def _conversation(ctypes: "Any") -> "Any":
    """A struct pam_conv whose function answers nothing: nobody is there to be asked."""
    function = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p
    )

    class Conversation(ctypes.Structure):  # type: ignore[misc]
        _fields_ = [("conv", function), ("appdata", ctypes.c_void_p)]

    return Conversation(function(lambda *_: _CONV_ERR), None)
