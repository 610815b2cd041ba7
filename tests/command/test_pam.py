"""The agent's PAM session, with the machine's own libpam and a service of the test."""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from .conftest import CODE_PATH, PYTHON, ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root opens sessions")

# In a process of its own: modules change limits, keyrings and the login uid of whoever calls them.
_SESSION = """\
import os, resource, sys
sys.path[:0] = {path!r}
from vsock_cmd import pam
try:
    session = pam.open_session({user!r}, {confdir!r})
except pam.PamError as error:
    print("refused:", error)
    sys.exit()
if session is None:
    print("none")
    sys.exit()
print(*[item.decode() for item in session.environment()], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
session.close()
print("closed")
"""


def open_session(confdir: Path, service: str | None, user: str = "") -> str:
    """What a session with the service file says; the file may name itself as {dir}."""
    if service is not None:
        (confdir / "vmsilo").write_text(service.replace("{dir}", str(confdir)))
    script = _SESSION.format(
        path=list(CODE_PATH), user=user or pwd.getpwuid(os.getuid()).pw_name, confdir=str(confdir)
    )
    done = subprocess.run([PYTHON, "-IS", "-c", script], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def test_no_service_is_no_session(tmp_path: Path) -> None:
    assert open_session(tmp_path, None) == "none\n"


def test_environment_and_limits(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("COLOUR=blue\nLANG=C.UTF-8\n")
    (tmp_path / "limits").write_text("* - nofile 123\nroot - nofile 123\n")
    service = """\
account required pam_permit.so
session required pam_limits.so conf={dir}/limits
session required pam_env.so conffile=/dev/null envfile={dir}/env
"""
    assert open_session(tmp_path, service) == "COLOUR=blue LANG=C.UTF-8 123\nclosed\n"


def test_refusal(tmp_path: Path) -> None:
    service = "account required pam_permit.so\nsession required pam_deny.so\n"
    assert open_session(tmp_path, service).startswith("refused: PAM refuses root a session: ")
    service = "account required pam_deny.so\nsession required pam_permit.so\n"
    assert open_session(tmp_path, service).startswith("refused: PAM refuses root a session: ")


def test_our_service_file_is_accepted(tmp_path: Path) -> None:
    service = (ROOT / "units/guest/pam.d-vmsilo").read_text()
    assert open_session(tmp_path, service).endswith("closed\n")
