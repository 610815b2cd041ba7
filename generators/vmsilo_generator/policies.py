"""Policies as units have them: in the unit's own lines, which systemd reads at once.

As drop-ins they would be thousands of files on a host with many VMs, each of which systemd looks for at every reload.
"""

from collections.abc import Mapping

from vmsilo import paths, policy
from vmsilo.failure import Failure
from vmsilo.policy import Policy

Lines = tuple[tuple[str, str], ...]


class Policies:
    """The policies of a host, by the names of their files. Each is understood when a unit first needs it."""

    __slots__ = ("_read", "_texts", "_written")

    def __init__(self, texts: Mapping[str, str]) -> None:
        """*texts* of those files that can be read, by name without suffix."""
        self._texts = texts
        self._read: dict[str, Policy] = {}
        self._written: dict[tuple[str, ...], Lines] = {}

    def lines(self, names: tuple[str, ...]) -> Lines:
        """What a unit says that all these policies together are for.

        Raises Failure for one that is not there or is none: to leave it out would be safe, and its program would be
        refused a call at some time or other, without a word of why.
        """
        if names not in self._written:
            together = Policy()
            for name in names:
                together |= self._policy(name)
            self._written[names] = written(together)
        return self._written[names]

    def _policy(self, name: str) -> Policy:
        if name not in self._read:
            path = file(name)
            if name not in self._texts:
                raise Failure(f"there is no policy {path}, or it can't be read", "install vmsilo anew")
            self._read[name] = policy.parse(self._texts[name], path)
        return self._read[name]


def file(name: str) -> str:
    """The file of the policy *name*, as units name it."""
    return f"{paths.POLICIES}/{name}{policy.SUFFIX}"


def written(allowed: Policy) -> Lines:
    """*allowed* in the settings of a unit. Their values add to those that stand before them."""
    lists = (
        ("RestrictAddressFamilies", allowed.families),
        ("RestrictNamespaces", allowed.namespaces),
        ("SystemCallFilter", allowed.calls),
    )
    more = (("MemoryDenyWriteExecute", "no"),) if allowed.writes_code else ()
    return (*more, *((key, " ".join(sorted(words))) for key, words in lists if words))
