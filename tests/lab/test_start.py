"""A VM starts on demand, once, and what runs in it gets what it was given."""

from collections.abc import Iterator

import pytest

from lab import config
from lab.host import Host
from lab.tree import USER
from vmsilo import names

VM = "start"

# systemd's message id for "unit has finished starting" (systemd's catalog).
STARTED = "39f53479d3a045ac8e11786248231fbf"


@pytest.fixture(scope="module", autouse=True)
def vm(lab: Host) -> Iterator[None]:
    with lab.configured({VM: config.vm()}):
        yield


def boot_id(lab: Host) -> str:
    return lab.vm_run(VM, "cat", "/proc/sys/kernel/random/boot_id").out


def test_the_first_command_starts_the_vm(lab: Host) -> None:
    assert lab.state(names.vm_unit(VM)) == "inactive"
    done = lab.vm_run(VM, "echo", "hello", "  world")
    assert done.out == "hello   world\n"
    assert lab.state(names.vm_unit(VM)) == "active"


def test_later_commands_find_it_running(lab: Host) -> None:
    assert boot_id(lab) == boot_id(lab)


def test_two_first_commands_start_one_vm(lab: Host) -> None:
    lab.run("vm-stop", VM, user=USER)
    before = lab.now()
    both = [lab.start("vm-run", VM, "cat", "/proc/sys/kernel/random/boot_id", user=USER) for _ in range(2)]
    answers = [process.wait() for process in both]
    assert [answer.code for answer in answers] == [0, 0], answers
    assert answers[0].out == answers[1].out != ""
    started = lab.journal(f"MESSAGE_ID={STARTED}", f"UNIT={names.vm_unit(VM)}", since=before)
    assert len(started.splitlines()) == 1


def test_ten_commands_at_once(lab: Host) -> None:
    numbers = range(10)
    all_ten = [lab.start("vm-run", VM, "sh", "-c", f"cat; echo {n} >&2; exit {n}", user=USER) for n in numbers]
    for number, process in zip(numbers, all_ten, strict=True):
        process.write(f"input {number}".encode())
    for number, process in zip(numbers, all_ten, strict=True):
        answer = process.wait()
        assert (answer.code, answer.out, answer.err) == (number, f"input {number}", f"{number}\n")


def test_one_word_is_for_the_shell(lab: Host) -> None:
    assert lab.vm_run(VM, "echo $((6 * 7)) | tr 2 3").out == "43\n"


def test_more_words_are_the_argv(lab: Host) -> None:
    words = ["", " ", "$HOME", "a'b\"c", "line\nline", "*", "é ü", "\\"]
    assert lab.vm_run(VM, "printf", "<%s>", *words).out == "".join(f"<{word}>" for word in words)


def test_exit_status(lab: Host) -> None:
    assert lab.vm_run(VM, "exit 7", check=False).code == 7
    assert lab.vm_run(VM, "kill -TERM $$", check=False).code == 128 + 15


def test_a_command_that_is_not_there(lab: Host) -> None:
    done = lab.vm_run(VM, "no-such-command", "x", check=False)
    assert done.code == 127
    assert "no-such-command" in done.err


def test_who_and_where(lab: Host) -> None:
    assert lab.vm_run(VM, "id -u; pwd; hostname; echo $HOME").out == f"1000\n/home/user\n{VM}\n/home/user\n"
    assert lab.vm_run("--user", "root", "--cwd", "/usr", VM, "id -u; pwd").out == "0\n/usr\n"


def test_environment(lab: Host) -> None:
    assert lab.vm_run("--env", "GREETING=a b$c", VM, 'echo "$GREETING"').out == "a b$c\n"


def test_left_running(lab: Host) -> None:
    lab.vm_run("-d", VM, "sleep 1; echo was here >/tmp/left-running; sleep 300")
    lab.wait_for(lambda: lab.vm_run(VM, "cat /tmp/left-running", check=False).out == "was here\n")


def test_list(lab: Host) -> None:
    (listed,) = [vm for vm in lab.listed() if vm["name"] == VM]
    assert listed["state"] == "running"
    assert listed["hypervisor"] == "qemu"


def test_start_and_stop_by_the_user(lab: Host) -> None:
    lab.run("vm-stop", VM, user=USER)
    assert lab.state(names.vm_unit(VM)) == "inactive"
    lab.run("vm-start", VM, user=USER)
    assert lab.state(names.vm_unit(VM)) == "active"
    assert lab.vm_run(VM, "echo", "again").out == "again\n"


def test_no_process_of_ours_but_vm_run(lab: Host) -> None:
    """The hypervisor and the vsock device are others' programs; ours are Python."""
    session = lab.start("vm-run", VM, "echo ready; cat", user=USER)
    assert session.read_line() == b"ready\n"
    ours = [line for line in lab.processes() if "python" in line or "vmsilo" in line.split()[0]]
    session.popen.communicate(b"")
    assert len(ours) == 1
    assert "vm-run" in ours[0]
