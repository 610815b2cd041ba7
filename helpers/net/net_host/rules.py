"""The VM's tables on the host, by nft(8): each call is one transaction, so there is no moment without rules."""

import os

from vmsilo.failure import EX_OSERR, EX_UNAVAILABLE, Failure
from vmsilo.nft import host_table, making_way

# Where it is, behind what the environment says.
_DIRECTORIES = ("/usr/sbin", "/sbin", "/run/current-system/sw/bin")
_ANSWER_MAX = 1 << 20  # bytes that are read of what nft says

FAMILIES = ("netdev", "inet")  # in which a VM may have tables


def apply(vm: str, text: str, *, anew: bool) -> None:
    """Put the VM's rules *text* in force, all of them or none. Raises Failure.

    Tables that are there stay, with the addresses that their sets have got from answers of name servers, unless
    *anew*. Chains and sets that *text* does not have go.
    """
    tables = [f"{family} {host_table(vm)}" for family in FAMILIES]
    before = _removal(tables) if anew else "".join([making_way(text, _listing(table)) for table in tables])
    status, said = _nft(before + text, "-f", "-")
    if status:
        raise Failure("nft refuses the VM's rules: " + in_short(said), code=EX_OSERR)


def remove(vm: str) -> None:
    """Remove the VM's tables, those that there are. Raises Failure."""
    status, said = _nft(_removal([f"{family} {host_table(vm)}" for family in FAMILIES]), "-f", "-")
    if status:
        raise Failure("nft does not remove the VM's rules: " + in_short(said), code=EX_OSERR)


def _removal(tables: list[str]) -> str:
    """A table that isn't there can't be deleted, and one that is there can be added."""
    return "".join([f"add table {table}\ndelete table {table}\n" for table in tables])


def _listing(table: str) -> str:
    """What is in the table, "" where there is none."""
    status, said = _nft("", "--terse", "list", "table", *table.split())
    return "" if status else said


def in_short(said: str) -> str:
    """What is wrong, of an nft's message, and the line that it is about.

    nft writes ``/dev/stdin:3:1-20: Error: Could not process rule: ...``, then that line, then where in it.
    """
    lines = said.splitlines()
    for number, line in enumerate(lines):
        _, found, what = line.partition("Error: ")
        if found:
            about = lines[number + 1].strip() if number + 1 < len(lines) else ""
            return f"{what}: {about}" if about else what
    return lines[0] if lines else "it says nothing"


def _nft(text: str, *arguments: str) -> tuple[int, str]:
    """Run nft with *text* as its input: its exit status and what it said."""
    program = _program()
    source = os.memfd_create("rules", os.MFD_CLOEXEC)
    answer = os.memfd_create("answer", os.MFD_CLOEXEC)
    try:
        with open(source, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.lseek(source, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), *[(os.POSIX_SPAWN_DUP2, answer, number) for number in (1, 2)]]
        child = os.posix_spawn(program, [program, *arguments], os.environ, file_actions=actions)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, os.pread(answer, _ANSWER_MAX, 0).decode(errors="replace")
    finally:
        os.close(source)
        os.close(answer)


def _program() -> str:
    for directory in [*os.environ.get("PATH", os.defpath).split(":"), *_DIRECTORIES]:
        if os.access(f"{directory}/nft", os.X_OK):
            return f"{directory}/nft"
    raise Failure("there is no nft", "install nftables", EX_UNAVAILABLE)
