"""The guest's network as it is, and how it becomes what is wanted.

What the guest was started with is in the directory of system credentials, which nobody can write to. What it has
been given since is in a directory of ours, which the units of the image look at first; an empty file there says
that what there was at the start is no more.
"""

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from guest_network.wanted import KINDS, Wanted, file_name
from vmsilo import guest_network
from vmsilo.failure import Failure, one_line
from vmsilo.nft import GUEST_TABLE, making_way

NFT = "/usr/sbin/nft"
SYSCTL = "/usr/lib/systemd/systemd-sysctl"

RULES_UNIT = "vmsilo-rules.service"
# What is started anew when its configuration has changed.
SERVERS = {
    guest_network.UNBOUND: "vmsilo-unbound.service",
    guest_network.NAMES: "vmsilo-name-rules.service",
}
NETWORKD = "systemd-networkd.service"
RESOLVED = "systemd-resolved.service"

Run = Callable[[Sequence[str]], str]


def run(command: Sequence[str]) -> str:
    """Run *command* to its end; its output. Raises Failure with the first line of its complaints."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().partition("\n")[0]
        raise Failure(f"{os.path.basename(command[0])} failed", one_line(said) or f"status {done.returncode}")
    return done.stdout.decode(errors="replace")


class Guest:
    """The guest that this runs in, or in tests one below *root*."""

    def __init__(self, root: Path = Path("/"), run: Run = run) -> None:
        self._given = root / "run/credentials/@system"
        self._ours = root / "run/vmsilo/network"
        self._networkd = root / "run/systemd/network"
        self._resolved = root / "run/systemd/resolved.conf.d/vmsilo.conf"
        self._units = root / "run/systemd/system"
        self._run = run

    def change(self, wanted: Wanted) -> None:
        """Bring the network to what is *wanted*.

        Rules that nft does not take leave all as it was. What fails after that does not keep the rest from being
        done; the first failure is raised at the end.
        """
        self._ours.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._change_rules(wanted)
            failures = []
            for step in (self._change_interfaces, self._change_resolved, self._change_servers):
                try:
                    step(wanted)
                except Failure as failure:
                    failures.append(failure)
            if failures:
                raise failures[0]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._ours / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _current(self, name: str) -> str:
        """The value of a credential that is in force; "" for none."""
        for directory in (self._ours, self._given):
            try:
                return (directory / name).read_text()
            except FileNotFoundError:
                continue
        return ""

    def _differs(self, wanted: Wanted, name: str) -> bool:
        return self._current(name) != wanted.single.get(name, "")

    # Rules, and what depends on them

    def _change_rules(self, wanted: Wanted) -> None:
        if self._differs(wanted, guest_network.RULES) or self._differs(wanted, guest_network.SYSCTL):
            if guest_network.RULES in wanted.single:
                self._enforce(wanted)
            else:
                self._cease()

    def _enforce(self, wanted: Wanted) -> None:
        """The rules first, then what is allowed because they are there."""
        rules = wanted.single[guest_network.RULES]
        if self._differs(wanted, guest_network.RULES):
            self._put(guest_network.RULES, rules, (NFT, "-f"), before=making_way(rules, self._rules_in_force()))
        if self._differs(wanted, guest_network.SYSCTL):
            self._put(guest_network.SYSCTL, wanted.single[guest_network.SYSCTL], (SYSCTL, "--strict"))
        self._run(["systemctl", "start", RULES_UNIT])

    def _put(self, name: str, text: str, command: Sequence[str], before: str = "") -> None:
        """Have *command* read *text*, with *before* before it; if it does, that is what is in force."""
        new = self._ours / (name + ".new")
        try:
            new.write_text(before + text)
            self._run([*command, str(new)])
        finally:
            new.unlink(missing_ok=True)
        self._write(self._ours / name, text)

    def _rules_in_force(self) -> str:
        try:
            return self._run([NFT, "--terse", "list", "table", "inet", GUEST_TABLE])
        except Failure:
            return ""  # there is no such table yet

    def _cease(self) -> None:
        """Nobody is behind this guest any more. The rules may stay: nothing passes."""
        self._write(self._ours / guest_network.SYSCTL, guest_network.sysctl(()))
        self._run([SYSCTL, "--strict", str(self._ours / guest_network.SYSCTL)])
        for name in (guest_network.RULES, guest_network.SYSCTL):
            self._write(self._ours / name, "")

    # Interfaces

    def _change_interfaces(self, wanted: Wanted) -> None:
        self._networkd.mkdir(parents=True, exist_ok=True)
        changed = [name for name, text in wanted.files.items() if self._text(self._networkd / name) != text]
        gone = [name for name in self._files() if name not in wanted.files]
        if not changed and not gone:
            return
        for name in changed:
            self._write(self._networkd / name, wanted.files[name])
        for name in gone:
            (self._networkd / name).unlink(missing_ok=True)
        self._write(self._ours / "files", "".join(f"{name}\n" for name in sorted(wanted.files)))
        if any(name.endswith(".link") for name in changed):
            # An interface that was plugged in before this gets its name now.
            self._run(["udevadm", "control", "--reload"])
            self._run(["udevadm", "trigger", "--action=add", "--subsystem-match=net", "--settle"])
        # Neither runs in a guest that was started without a network.
        self._run(["systemctl", "start", NETWORKD, RESOLVED])
        self._run(["networkctl", "reload"])

    def _files(self) -> list[str]:
        """Files in networkd's directory that are the host's. Others may have files there, too."""
        recorded = self._ours / "files"
        if recorded.exists():
            return recorded.read_text().split()
        names = [path.name for path in self._given.glob("network.*")]
        return [file_name(name) for name in names if name.startswith(tuple(KINDS))]

    @staticmethod
    def _text(path: Path) -> str | None:
        return path.read_text() if path.exists() else None

    @staticmethod
    def _write(path: Path, text: str) -> None:
        """Write a file all at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name("." + path.name)
        new.write_text(text)
        new.rename(path)

    # Names

    def _change_resolved(self, wanted: Wanted) -> None:
        names = (guest_network.DNS, guest_network.SEARCH_DOMAINS)
        if not any(self._differs(wanted, name) for name in names):
            return
        servers, domains = (wanted.single.get(name, "") for name in names)
        self._write(self._resolved, f"[Resolve]\nDNS={servers}\nDomains={domains}\n")
        for name, value in zip(names, (servers, domains), strict=True):
            self._write(self._ours / name, value)
        if any((self._given / name).exists() for name in names) and not servers:
            # It would look at the credentials that the guest was started with.
            self._write(self._units / f"{RESOLVED}.d/vmsilo.conf", "[Service]\nImportCredential=\n")
            self._run(["systemctl", "daemon-reload"])
            self._run(["systemctl", "try-restart", RESOLVED])
        else:
            self._run(["systemctl", "try-reload-or-restart", RESOLVED])

    def _change_servers(self, wanted: Wanted) -> None:
        changed = [name for name in SERVERS if self._differs(wanted, name)]
        for name in changed:
            self._write(self._ours / name, wanted.single.get(name, ""))
        # Those that end first, so that one which starts finds its addresses free.
        for name in changed:
            self._run(["systemctl", "stop", SERVERS[name]])
        for name in changed:
            if name in wanted.single:
                self._run(["systemctl", "start", SERVERS[name]])
