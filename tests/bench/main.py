"""Print what vmsilo costs beside its peers.

generator needs make and, for comparison, podman 4.4 or later; the others boot the lab and need root.
"""

import argparse
import os
import pwd
import tempfile
from pathlib import Path

from lab import tree

from bench import generator, guest

MEMORY = "/dev/shm"


def ordinary_user() -> str:
    """Some user of this machine that a host.toml may name."""
    own = os.environ.get("SUDO_USER", "") or pwd.getpwuid(os.getuid()).pw_name
    people = [entry.pw_name for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000]
    return own if own != "root" else next(iter(people), "nobody")


def quadlet() -> str | None:
    """podman's generator, 4.4 or later: this machine's, or the one in the lab's tree."""
    places = [os.environ.get("QUADLET", ""), "/usr/libexec/podman/quadlet"]
    if os.geteuid() == 0:
        places.append(str(tree.build() / "usr/libexec/podman/quadlet"))
    return next((place for place in places if place and os.access(place, os.X_OK)), None)


def bench_generator(options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory(
        prefix="vmsilo-bench-", dir=MEMORY if os.path.isdir(MEMORY) else None
    ) as scratch:
        return generator.report(Path(scratch), options.rounds, ordinary_user(), quadlet())


def bench_run(options: argparse.Namespace) -> str:
    return guest.run(options.rounds)


def bench_throughput(options: argparse.Namespace) -> str:
    return guest.throughput(options.size, options.long_rounds)


def bench_coldstart(options: argparse.Namespace) -> str:
    return guest.coldstart(options.rounds)


def bench_memory(options: argparse.Namespace) -> str:
    return guest.memory()


def bench_shares(options: argparse.Namespace) -> str:
    return guest.shares(options.file_size, options.long_rounds, options.starts)


BENCHES = {
    "generator": bench_generator,
    "run": bench_run,
    "throughput": bench_throughput,
    "coldstart": bench_coldstart,
    "memory": bench_memory,
    "shares": bench_shares,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", nargs="*", choices=[*BENCHES, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=21, metavar="N", help="runs of each contender (21)")
    parser.add_argument(
        "--long-rounds", type=int, default=3, metavar="N", help="the same for throughput and shares (3)"
    )
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="what throughput moves (1024)")
    parser.add_argument("--file-size", type=int, default=128, metavar="MIB", help="the large file of shares (128)")
    parser.add_argument("--starts", type=int, default=7, metavar="N", help="starts of each VM for shares (7)")
    options = parser.parse_args()
    for name in options.bench or BENCHES:
        print(BENCHES[name](options), flush=True)
    return 0
