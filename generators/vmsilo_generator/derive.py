"""What is derived from names, so that it is the same at every boot and whatever else there is."""

try:
    from _sha2 import sha256  # type: ignore[import-not-found]  # Python 3.12
except ImportError:
    # hashlib has the same function behind 2 ms of looking for OpenSSL, at every boot.
    from _sha256 import sha256  # type: ignore[import-not-found]

# Without vowels no word comes of it, and without what is easily mistaken for another one.
_LETTERS = "23456789bcdfghjkmnpqrstvwxz"


def digest(text: str) -> int:
    """A number of 256 bits."""
    return int.from_bytes(sha256(text.encode()).digest(), "big")


def number(text: str, first: int, end: int) -> int:
    """A number from *first* up to before *end* that depends on nothing but *text*."""
    return first + digest(text) % (end - first)


def letters(text: str, count: int) -> str:
    """As many letters and digits that depend on nothing but *text*."""
    rest = digest(text)
    found = ""
    for _ in range(count):
        rest, index = divmod(rest, len(_LETTERS))
        found += _LETTERS[index]
    return found
