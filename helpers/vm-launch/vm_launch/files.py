"""Small deeds with files."""

import os


def remove(path: str) -> None:
    """Remove *path* if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def write(path: str, text: str) -> None:
    """Write *text* to a file that only this user may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
