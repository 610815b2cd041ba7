"""What the generator does, in each of its modes."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import vmsilo
from vmsilo import names, paths, plan
from vmsilo.failure import EX_SOFTWARE, EX_USAGE, Failure
from vmsilo_generator import across, check, output, roles, source
from vmsilo_generator.log import PROGRAM, Log, run_by_systemd, write_error
from vmsilo_generator.machine import Machine, Refusal
from vmsilo_generator.model import Broken, Facts, Host, Problem, Vm
from vmsilo_generator.resolve import cid_problems, host_plan, resolve
from vmsilo_generator.source import ConfigFile
from vmsilo_generator.unitfile import File, Link, Unit

USAGE = f"""\
usage: {PROGRAM} [--root DIR] NORMAL-DIR [EARLY-DIR LATE-DIR]
       {PROGRAM} [--root DIR] --check [-v | --verbose] [FILE...]
       {PROGRAM} [--root DIR] --dry-run | --list
       {PROGRAM} --help | --version
"""

Entries = list[File | Link]


class Usage(Exception):
    """The command line can't be understood: what is wrong with it."""


class Call(NamedTuple):
    """What the command line asks for."""

    mode: str  # write, or the name of an option
    root: str
    operands: tuple[str, ...]
    verbose: bool


class Made(NamedTuple):
    """What becomes of the configuration."""

    machines: tuple[Machine, ...]
    entries: Entries
    problems: tuple[Problem, ...]  # all of them, located and sorted


def run(arguments: Sequence[str]) -> int:
    try:
        return perform(arguments)
    except Exception:
        if not run_by_systemd():
            raise
        import traceback  # late: a fault of ours, which would be printed where nobody looks

        Log(by_systemd=True).error(traceback.format_exc().rstrip())
        return EX_SOFTWARE


def perform(arguments: Sequence[str]) -> int:
    try:
        call = parse(arguments)
    except Usage as error:
        write_error(f"{PROGRAM}: {error}\n{USAGE.rstrip()}")
        return EX_USAGE
    if call.mode == "--help":
        return say(USAGE)
    if call.mode == "--version":
        return say(f"{PROGRAM} {vmsilo.__version__}\n")
    dirs = source.directories(call.root, os.environ.get(paths.CONFIG_DIRECTORIES_VARIABLE, ""))
    files = source.find(dirs)
    if call.mode == "--check":
        files = replaced(files, [given(path) for path in call.operands])
    made = make(files, source.passwd(call.root), source.facts(call.root))
    if call.mode == "write":
        return write(made, call.operands[0])
    report = made.problems
    status = 0
    if call.mode == "--check":
        report = of_files(report, call.operands)
        status = say(explained(made.machines, call.operands)) if call.verbose else 0
    else:
        status = say(dry_run(made.entries) if call.mode == "--dry-run" else listing(made.machines))
    tell(report, Log(by_systemd=False))
    return 1 if report else status


def say(text: str) -> int:
    """Print, whatever the locale, and return the exit status."""
    data = text.encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except BrokenPipeError:
        pass  # whoever read has seen enough
    except OSError as error:
        write_error(f"{PROGRAM}: can't print: {error.strerror}")
        return 1
    return 0


def parse(arguments: Sequence[str]) -> Call:
    """Raises Usage."""
    mode = root = ""
    verbose = False
    operands: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            operands += rest
            break
        if argument == "--root":
            if not rest:
                raise Usage("--root needs a directory")
            root = rest.pop(0)
        elif argument.startswith("--root="):
            root = argument.removeprefix("--root=")
        elif argument in ("--check", "--dry-run", "--list", "--help", "--version"):
            if mode and mode != argument:
                raise Usage(f"{mode} and {argument} exclude each other")
            mode = argument
        elif argument in ("-v", "--verbose"):
            verbose = True
        elif argument.startswith("-"):
            raise Usage(f"there is no option {argument}")
        else:
            operands.append(argument)
    if root and not os.path.isdir(root):
        raise Usage(f"--root: there is no directory {root}")
    if verbose and mode != "--check":
        raise Usage("--verbose goes with --check")
    if not mode and len(operands) not in (1, 3):
        raise Usage("expected one directory to write to, or three")
    if mode not in ("", "--check") and operands:
        raise Usage(f"{mode} takes no arguments")
    return Call(mode or "write", root, tuple(operands), verbose)


def given(path: str) -> ConfigFile:
    """A file named on the command line, which is to be there."""
    file = source.read(path)
    return file if file is not None else ConfigFile("", path, "", "a link to /dev/null configures nothing")


def replaced(files: Sequence[ConfigFile], others: Sequence[ConfigFile]) -> list[ConfigFile]:
    """*files* with *others* in the places of those with their names."""
    by_name = {file.name: file for file in others}
    kept = [file for file in files if file.name not in by_name]
    return sorted(kept + list(by_name.values()), key=lambda file: file.name)


def of_files(problems: Sequence[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    return tuple(problem for problem in problems if not files or problem.file in files)


def make(files: Sequence[ConfigFile], passwd: str, host: Facts) -> Made:
    """From the text of the configuration to that of the units. Pure."""
    config = check.load(files, passwd)
    if faults := cid_problems(config.vms):
        config = across.refuse(config, files, faults)
    machines = resolve(config, host)
    rendered, faults = render(machines, config.broken)
    if faults:
        config = across.refuse(config, files, faults)
        machines = resolve(config, host)
        rendered, _ = render(machines, config.broken)
    entries = [entry for name in sorted(rendered) for entry in rendered[name]]
    if config.host is not None:
        try:
            entries += entries_of_host(config.host, config.vms, host)
        except Failure as failure:
            fault = Problem(config.host.file, (), f"the host's own units are missing: {failure}")
            config = across.refuse(config, files, [fault])
    return Made(machines, entries, config.problems)


def render(
    machines: Sequence[Machine], broken: Sequence[Broken]
) -> tuple[dict[str, list[File | Link]], list[Problem]]:
    """The files of each VM, by its name, and what is wrong about them."""
    made: dict[str, list[File | Link]] = {}
    problems = []
    owners = Owners()
    for machine in machines:
        name = machine.plan.vm
        try:
            made[name] = entries_of(machine)
        except ValueError as error:
            problems.append(Problem(machine.file, (), f"can't be written into a unit: {error}"))
            continue
        except Failure as failure:
            problems.append(Problem(machine.file, (), str(failure)))
            continue
        problems += owners.claim(name, machine.file, made[name])
    for refused in broken:
        made[refused.name] = refusal_of(refused)
        problems += owners.claim(refused.name, refused.file, made[refused.name])
    return made, problems


class Owners:
    """Which VM each file of the output is for.

    Two can meet: the console socket of a VM "a" has the name of the command socket of a VM "a-console".
    """

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, str]] = {}

    def claim(self, vm: str, file: str, entries: Entries) -> list[Problem]:
        """For each other VM that has one of these names already a problem of both: neither comes first."""
        met: dict[tuple[str, str], str] = {}
        this = (vm, file)
        for entry in entries:
            other = self._of.setdefault(entry.name, this)
            if other is not this:
                met.setdefault(other, entry.name)
        return [clash(*pair, name) for other, name in met.items() for pair in ((this, other), (other, this))]


def clash(one: tuple[str, str], other: tuple[str, str], name: str) -> Problem:
    message = f'VM "{other[0]}" ({other[1]}) has a unit of the same name, {name}: rename one of the two files'
    return Problem(one[1], (), message)


def entries_of(machine: Machine) -> Entries:
    """Raises ValueError for a value that can't be written into a unit, Failure for a policy that is missing."""
    made = [entry.file() if isinstance(entry, Unit) else entry for entry in roles.units(machine)]
    # Not for everybody: the guest's credentials are in there, and what else somebody passes to his VM.
    made.append(File(names.plan_file(machine.plan.vm), plan.dumps(machine.plan), mode=0o600))
    if told := plan.guest_network(machine.plan):
        made.append(File(names.guest_network_file(machine.plan.vm), told, mode=0o600))
    return made


def entries_of_host(host: Host, vms: Sequence[Vm], facts: Facts) -> Entries:
    """Raises Failure for a policy that is missing."""
    decided = host_plan(host, vms)
    made = [entry.file() if isinstance(entry, Unit) else entry for entry in roles.of_host(decided, host.file, facts)]
    if any(vm.home for vm in vms):
        made += [entry.file() if isinstance(entry, Unit) else entry for entry in roles.of_homes(host, facts)]
    made.append(File(names.HOST_PLAN_FILE, plan.dumps(decided)))
    return made


def refusal_of(broken: Broken) -> Entries:
    lines = tuple(line for message in broken.messages for line in message.split("\n"))
    refusal = Refusal(broken.name, broken.file, lines)
    return [entry.file() if isinstance(entry, Unit) else entry for entry in roles.refusing(refusal)]


def tell(problems: Sequence[Problem], log: Log) -> None:
    if problems:
        from vmsilo_generator.problems import render as told  # late: only needed when something is wrong

        for problem in problems:
            log.problem(told(problem))


def write(made: Made, directory: str) -> int:
    """As systemd wants it: a VM that can't be is told about, and no reason to fail."""
    log = Log(by_systemd=run_by_systemd())
    tell(made.problems, log)
    try:
        output.write(directory, made.entries)
    except output.OutputError as error:
        log.error(str(error))
        return 1
    return 0


def explained(machines: Sequence[Machine], files: Sequence[str]) -> str:
    """Of each shared directory, who serves it and why."""
    return "".join(
        f"{machine.file}: sharedDirectories.{server.tag}: served by {server.user}: {server.reason}\n"
        for machine in machines
        for server in machine.servers
        if not files or machine.file in files
    )


def dry_run(entries: Entries) -> str:
    """The files and links with their names, in the order they would be written."""
    return "".join(
        f"# {entry.name}\n{entry.text}\n" if isinstance(entry, File) else f"# {entry.name} -> {entry.target}\n\n"
        for entry in entries
    )


def listing(machines: Sequence[Machine]) -> str:
    """One line for each VM that can be: name, hypervisor, context id and file, separated by tabs."""
    return "".join(
        f"{machine.plan.vm}\t{machine.plan.hypervisor}\t{machine.plan.cid}\t{machine.file}\n" for machine in machines
    )
