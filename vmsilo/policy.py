"""Policies: what a program may ask of the kernel, in the words of systemd.exec(5).

The generator writes what they say into units, for systemd to refuse everything else; sandbox(8) reads them where that
is to be logged. A policy only opens: of the settings here each allows more than there was without it.
vmsilo-security(7) describes them.
"""

from typing import NamedTuple

from vmsilo.failure import EX_CONFIG, EX_NOINPUT, Failure

SUFFIX = ".conf"
SIZE_MAX = 65536


class Policy(NamedTuple):
    """What is allowed."""

    calls: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset()  # of addresses: whose sockets may be made
    namespaces: frozenset[str] = frozenset()  # that may be made
    writes_code: bool = False  # memory may be writable and executable

    def __or__(self, other: "Policy") -> "Policy":
        return Policy(
            self.calls | other.calls,
            self.families | other.families,
            self.namespaces | other.namespaces,
            self.writes_code or other.writes_code,
        )


def read(path: str) -> Policy:
    """The policy in the file *path*. Raises Failure."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(SIZE_MAX), path)
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", code=EX_NOINPUT) from None


def parse(text: str, path: str) -> Policy:
    """The policy that *text* is. Raises Failure, which names *path* and the line."""
    policy = Policy()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#") or line == "[Service]":
            continue
        key, separator, value = line.partition("=")
        opened = _opened(key, value.split()) if separator else None
        if opened is None:
            raise Failure(f"{path}:{number}: {line!r} is no line of a policy", code=EX_CONFIG)
        policy |= opened
    return policy


def _opened(key: str, words: list[str]) -> Policy | None:
    """What one setting allows; None if policies don't have it."""
    if not words or not all(word.replace("_", "").isalnum() for word in words):
        return None
    if key == "SystemCallFilter":
        return Policy(calls=frozenset(words))
    if key == "RestrictAddressFamilies":
        return Policy(families=frozenset(words))
    if key == "RestrictNamespaces":
        return Policy(namespaces=frozenset(words))
    if key == "MemoryDenyWriteExecute" and words == ["no"]:
        return Policy(writes_code=True)
    return None
