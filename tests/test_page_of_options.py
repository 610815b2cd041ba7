"""vmsilo.toml(5) is what the table of options says."""

import subprocess

from examples import by_file, of_mdoc
from project import ROOT

from vmsilo_generator import check, problems
from vmsilo_generator.options import OPTIONS
from vmsilo_generator.source import ConfigFile

PAGE = ROOT / "man" / "vmsilo.toml.5"


def test_page_is_what_the_table_says() -> None:
    rendered = subprocess.run([ROOT / "man" / "render-options"], check=True, stdout=subprocess.PIPE, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == rendered.stdout, "run: man/render-options >man/vmsilo.toml.5"


def test_every_option_has_one_entry() -> None:
    lines = PAGE.read_text(encoding="utf-8").split("\n")
    entries = [line.removeprefix(".It Ic ") for line in lines if line.startswith(".It Ic ")]
    for option in OPTIONS:
        twice = [other for other in OPTIONS if other.path == option.path]  # gpu.allowWX stands in both files
        assert entries.count(option.path.replace("-", "\\-")) == len(twice), option.path


def test_examples_are_a_configuration_without_problems() -> None:
    """All of them together, each read in full: a file that no example names would be a mistake here."""
    shown = by_file(of_mdoc(PAGE.read_text(encoding="utf-8")))
    assert {"host.toml", "work.toml", "vault.toml", "build.toml", "lab.toml"} < set(shown)
    files = [ConfigFile(name.removesuffix(".toml"), name, text) for name, text in shown.items()]
    config = check.load(files, "alice:x:1000:1000::/home/alice:/bin/sh\n")
    assert [problems.render(problem) for problem in config.problems] == []
    assert len(config.vms) == len(shown) - 1


def test_the_mistake_it_shows_is_what_is_printed() -> None:
    files = [
        ConfigFile("work", "/etc/vmsilo.d/work.toml", 'hypervisor = "qemu"\nmemory = "4G"\n'),
        ConfigFile("host", "/etc/vmsilo.d/host.toml", 'user = "alice"\n'),
    ]
    config = check.load(files, "alice:x:1000:1000::/home/alice:/bin/sh\n")
    assert problems.render(config.problems[0]) in PAGE.read_text(encoding="utf-8")
