"""What goes into a unit file comes out of systemd's parser, or does not go in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systemd_parser import VALUES, load, need_systemd, probe, split, values

from vmsilo_generator.unitfile import HEADER, File, Link, Unit, command, text, wants, words


def service(*assignments: tuple[str, str], name: str = "t.service", **about: str) -> Unit:
    lines = (("ExecStart", "/bin/true"), *assignments)
    return Unit(name, (("Unit", tuple(about.items())), ("Service", lines)))


def test_a_unit_reads_like_one() -> None:
    unit = Unit("a.service", (("Unit", (("Description", "A"),)), ("Service", (("Type", "exec"), ("User", "u")))))
    assert unit.file() == File(
        "a.service",
        f"{HEADER}\n[Unit]\nDescription=A\n\n[Service]\nType=exec\nUser=u\n",
    )


def test_wants() -> None:
    assert wants("sockets.target", "a.socket") == Link("sockets.target.wants/a.socket", "../a.socket")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain-Word_1./=,", "plain-Word_1./=,"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("$HOME", '"$HOME"'),
        ("a:b", '"a:b"'),  # a colon separates source and destination of BindPaths=
    ],
)
def test_words(value: str, written: str) -> None:
    assert words(value) == written
    assert words("x", value) == f"x {written}"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a:b", "a:b"),
        ("$HOME", '"$$HOME"'),
        ("50%n", '"50%%n"'),
        (";", '";"'),
        ("two\nlines\t\x7f", r'"two\x0alines\x09\x7f"'),
        ("é", '"é"'),
    ],
)
def test_command(value: str, written: str) -> None:
    assert command("/bin/echo", value) == f"/bin/echo {written}"


@pytest.mark.parametrize("program", ["", "-x", "@/bin/sh", "/a b", "$X", "/50%", "+/bin/sh", ":x", "!x", "|x", "a;b"])
def test_a_program_is_a_plain_word(program: str) -> None:
    with pytest.raises(ValueError, match="program"):
        command(program)


@pytest.mark.parametrize("write", [text, words, lambda value: command("/bin/echo", value)])
@pytest.mark.parametrize("value", ["a\0b", "\ud800", "\ufdd0", "\ufffe", "\U0010ffff", "x" * (1 << 17)])
def test_what_no_unit_can_say(write: object, value: str) -> None:
    assert callable(write)
    with pytest.raises(ValueError, match=r"NUL|no character|longer"):
        write(value)


@pytest.mark.parametrize("value", ["two\nlines", "tab\t", "\r", "\x1b[31m"])
def test_control_characters_only_in_commands(value: str) -> None:
    for write in (text, words):
        with pytest.raises(ValueError, match="control"):
            write(value)


@pytest.mark.parametrize("value", [" x", "x ", "x\\", "\u2003x"])
def test_text_that_would_be_changed(value: str) -> None:
    with pytest.raises(ValueError, match="lost"):
        text(value)


@need_systemd
@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=20), min_size=1, max_size=20))
def test_systemd_reads_commands_as_written(lists: list[list[str]]) -> None:
    lists = [[value for value in arguments if writable(value, command_line=True)] for arguments in lists]
    units = [service(("ExecStartPre", command("/bin/echo", *arguments)), name=f"t{i}.service")
             for i, arguments in enumerate(lists)]  # fmt: skip
    loaded = load(units)
    for unit, arguments in zip(units, lists, strict=True):
        line = values(loaded[unit.name], "Command Line")[0]
        # The expansion of variables comes later, when the service starts; $$ is how it leaves a $ alone.
        assert split(line)[1:] == [argument.replace("$", "$$") for argument in arguments]


@need_systemd
@settings(max_examples=15, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40))
def test_systemd_reads_words_as_written(given_values: list[str]) -> None:
    kept = [value for value in given_values if writable(value)]
    variables = [f"V{i}={value}" for i, value in enumerate(kept)]
    # Path are normalized: no doubled or closing slash, no dots.
    paths = ["/p" + value.replace("/", "") + "q" for value in kept]
    loaded = load(
        [
            service(
                ("Environment", words(*variables)),
                ("BindReadOnlyPaths", words(*["-" + path for path in paths])),
                ("ReadWritePaths", words(*paths)),
            )
        ]
    )["t.service"]
    assert values(loaded, "Environment") == variables
    assert values(loaded, "BindReadOnlyPaths") == [f"-{path}:{path}:rbind" for path in paths]
    assert values(loaded, "ReadWritePaths") == ([" ".join(paths)] if paths else [])


@need_systemd
@settings(max_examples=15, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40))
def test_systemd_reads_text_as_written(given_values: list[str]) -> None:
    kept = [value for value in given_values if value and accepts(text, value)]
    units = [service(name=f"t{i}.service", Description=text(value)) for i, value in enumerate(kept)]
    loaded = load([*units, service()])
    assert [values(loaded[unit.name], "Description")[0] for unit in units] == kept


def test_a_probe_for_a_manager() -> None:
    line = dict(probe("p.service", ["$X"], "/tmp/out").sections[0][1])["ExecStart"]
    assert line.endswith(' /tmp/out "$$X"')


def writable(value: str, *, command_line: bool = False) -> bool:
    return accepts(lambda one: command("/bin/echo", one) if command_line else words(one), value)


def accepts(write: object, value: str) -> bool:
    assert callable(write)
    try:
        write(value)
    except ValueError:
        return False
    return True
