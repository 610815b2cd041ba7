"""Work with files, the same wherever it runs: ``files.py DIRECTORY SIZE OPERATIONS FILES``, answer as JSON.

Nothing but the standard library and no import of ours: it runs on the host and, from its standard input, in guests.
Every step starts without what it reads in this kernel's page cache.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable

BLOCK = 1 << 20
SMALL = 4096


def forget(descriptor: int) -> None:
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sequential_write(path: str, size: int) -> None:
    data = os.urandom(BLOCK)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(size // BLOCK):
        os.write(descriptor, data)
    forget(descriptor)
    os.close(descriptor)


def sequential_read(path: str, size: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    while os.read(descriptor, BLOCK):
        pass
    forget(descriptor)
    os.close(descriptor)


def places(size: int, operations: int) -> list[int]:
    chance = random.Random(1)  # the same places every time
    return [chance.randrange(size // SMALL) * SMALL for _ in range(operations)]


def random_read(path: str, size: int, operations: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    for place in places(size, operations):
        os.pread(descriptor, SMALL, place)
    forget(descriptor)
    os.close(descriptor)


def random_write(path: str, size: int, operations: int) -> None:
    data = os.urandom(SMALL)
    descriptor = os.open(path, os.O_WRONLY)
    for place in places(size, operations):
        os.pwrite(descriptor, data, place)
    forget(descriptor)
    os.close(descriptor)


def create(directory: str, count: int) -> None:
    for number in range(count):
        os.close(os.open(f"{directory}/{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def stat(directory: str, count: int) -> None:
    for number in range(count):
        os.stat(f"{directory}/{number}")


def remove(directory: str, count: int) -> None:
    for number in range(count):
        os.unlink(f"{directory}/{number}")


def wall(work: Callable[[], None]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    top, size, operations, count = sys.argv[1], *map(int, sys.argv[2:5])
    directory = f"{top}/files"
    large = f"{top}/large"
    os.makedirs(directory, exist_ok=True)
    times = {
        "sequential write": wall(lambda: sequential_write(large, size)),
        "sequential read": wall(lambda: sequential_read(large, size)),
        "random read": wall(lambda: random_read(large, size, operations)),
        "random write": wall(lambda: random_write(large, size, operations)),
        "create": wall(lambda: create(directory, count)),
        "stat": wall(lambda: stat(directory, count)),
        "remove": wall(lambda: remove(directory, count)),
    }
    os.unlink(large)
    os.rmdir(directory)
    json.dump(times, sys.stdout)


main()
