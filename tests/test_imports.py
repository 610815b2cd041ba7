"""Who may import whom, and what each start costs.

The first half reads the imports of the source; the second starts the generator and looks at what was loaded: the
start-up budget without a stopwatch.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

GENERATOR = ROOT / "generators" / "vmsilo_generator"
HELPERS = {path.name: path for path in sorted(ROOT.glob("helpers/*/*")) if (path / "__init__.py").exists()}
OURS = {"vmsilo", "vmsilo_generator", *HELPERS}
# Debian packages that helpers may use.
THIRD_PARTY = {"cbor2", "nftables", "pyroute2", "seccomp"}

# The standard library's, by its names in different versions.
SHA256 = {"_sha2", "_sha256"}

# What may not run in the boot path, and what is not worth its start-up time.
NOT_IN_THE_GENERATOR = {
    "argparse", "asyncio", "concurrent", "ctypes", "dataclasses", "inspect", "logging", "multiprocessing", "pathlib",
    "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "urllib",
}  # fmt: skip


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module is not None
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", modules(ROOT / "vmsilo"), ids=lambda path: path.stem)
def test_the_common_library_needs_nothing(path: Path) -> None:
    assert tops(imported(path)) - {"vmsilo"} <= sys.stdlib_module_names


@pytest.mark.parametrize("package", HELPERS)
def test_helpers_stand_alone(package: str) -> None:
    for path in modules(HELPERS[package]):
        found = tops(imported(path))
        assert not found & (OURS - {"vmsilo", package}), path
        assert found - OURS <= sys.stdlib_module_names | THIRD_PARTY, path


@pytest.mark.parametrize("path", modules(GENERATOR), ids=lambda path: path.stem)
def test_the_generator_is_lean(path: Path) -> None:
    found = tops(imported(path))
    assert not found & NOT_IN_THE_GENERATOR
    assert not found & set(HELPERS)
    assert found - OURS <= sys.stdlib_module_names | SHA256


# Of the modules of the generator and of vmsilo, these and no others.
MAY_IMPORT = {
    "model": {"vmsilo.plan", "policies", "network"},  # of networks the types, for the type checker alone
    "unitfile": set(),
    "machine": {"vmsilo.plan", "model"},
    "log": set(),
    "output": {"unitfile"},
    "policies": {"vmsilo.failure", "vmsilo.paths", "vmsilo.policy"},
    "source": {"vmsilo.paths", "vmsilo.policy", "model", "policies"},
    "resolve": {
        "vmsilo.names", "vmsilo.paths", "vmsilo.plan", "vmsilo.ports", "derive", "machine", "model", "hypervisor",
        "network", "virtiofs",
    },
    "virtiofs": {"vmsilo.paths", "vmsilo.plan", "machine", "model"},
    "hypervisor": {"vmsilo.plan", "hypervisor"},
    "rules": {"vmsilo.names", "vmsilo.nft", "network", "rules"},
    "roles": {
        "vmsilo.names", "vmsilo.paths", "vmsilo.plan",
        "hypervisor", "machine", "model", "policies", "roles", "unitfile",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_data_goes_one_way(name: str) -> None:
    place = GENERATOR / name
    for path in modules(place) if place.is_dir() else [place.with_suffix(".py")]:
        ours = {module for module in imported(path) if module.partition(".")[0] in OURS and is_module(module)}
        short = {module.removeprefix("vmsilo_generator.") for module in ours}
        assert {one if one.startswith("vmsilo") else one.partition(".")[0] for one in short} <= MAY_IMPORT[name], path


def is_module(name: str) -> bool:
    """A module, not a name in one nor a mere package."""
    for root in (ROOT, ROOT / "generators"):
        path = root / name.replace(".", "/")
        if path.with_suffix(".py").exists() or (path.is_dir() and name.count(".") == 1):
            return True
    return False


# The start-up budget.

# Loaded by the bare interpreter, or part of what it has built in.
BARE = set(
    subprocess.run(
        [sys.executable, "-IS", "-c", "import sys; print(*sys.modules)"],
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout.split()
)

NOTHING_FOUND_OURS = {"vmsilo", "vmsilo.paths", "vmsilo_generator", "vmsilo_generator.main"}
NOTHING_FOUND = NOTHING_FOUND_OURS | {"gc"}  # built in

FOUND_OURS = NOTHING_FOUND_OURS | {
    f"vmsilo_generator.{name}"
    for name in (
        "across", "check", "derive", "hypervisor", "hypervisor.cloud_hypervisor", "log", "machine", "model",
        "options",
        "output", "policies", "reader", "resolve", "roles", "roles.command", "roles.console", "roles.home",
        "roles.refusal", "roles.sandbox", "roles.share", "roles.slices", "roles.vm", "roles.vsock", "run", "source",
        "syntax", "unitfile", "virtiofs",
    )
} | {f"vmsilo.{name}" for name in ("failure", "names", "plan", "policy", "ports")}  # fmt: skip

# By tomllib, enum, typing and json; nothing else may come.
FOUND_STDLIB = {
    "__future__", "_collections", "_collections_abc", "_datetime", "_functools", "_json", "_operator", "_sha2",
    "_sha256", "_sre", "_stat", "_string", "_typing", "abc", "collections", "collections.abc", "contextlib",
    "copyreg", "datetime", "enum", "errno", "functools", "gc", "genericpath", "itertools", "json", "json.decoder",
    "json.encoder", "json.scanner", "keyword", "math", "operator", "os", "os.path", "posixpath", "re", "re._casefix",
    "re._compiler", "re._constants", "re._parser", "reprlib", "stat", "string", "tomllib", "tomllib._parser",
    "tomllib._re", "tomllib._types", "types", "typing", "typing.io", "typing.re", "warnings",
}  # fmt: skip

NOT_ON_THE_WAY = (NOT_IN_THE_GENERATOR | {"selectors", "tomllib"}) - {"signal"}


def loaded(tmp_path: Path, **files: str) -> set[str]:
    """What a run as systemd's generator has loaded when it is done."""
    config = tmp_path / "vmsilo.d"
    config.mkdir()
    (tmp_path / "out").mkdir()
    for name, text in files.items():
        (config / f"{name}.toml").write_text(text)
    script = f"""if True:
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "generators")!r}]
        sys.argv = ["vmsilo-generator", {str(tmp_path / "out")!r}]
        from vmsilo_generator.main import main
        status = main()
        print(status, *sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-IS", "-c", script],
        env={"VMSILO_CONFIG_DIRS": str(config)},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    status, *found = done.stdout.split()
    assert status == "0", done.stderr
    return set(found) - BARE


def test_nothing_found_loads_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path) <= NOTHING_FOUND


def test_files_found_load_what_they_need(tmp_path: Path, host_user: str) -> None:
    found = loaded(tmp_path, host=f'user = "{host_user}"', work="")
    assert (tmp_path / "out" / "vmsilo-work-vm.service").exists()
    assert {name for name in found if name.partition(".")[0] in OURS} == FOUND_OURS
    assert {name for name in found if name.partition(".")[0] not in OURS} <= FOUND_STDLIB


def test_what_is_wrong_costs_only_those_who_see_it(tmp_path: Path) -> None:
    found = loaded(tmp_path, host="", bad="cpus = 0")
    assert {"vmsilo_generator.problems", "vmsilo_generator.where"} <= found


@pytest.fixture
def host_user() -> str:
    """Some user of this machine that has an id."""
    import pwd

    return pwd.getpwall()[-1].pw_name


@pytest.mark.parametrize("verb", ["start", "boot"])
def test_the_way_to_the_hypervisor_is_short(verb: str) -> None:
    """What the start of a QEMU loads; the other hypervisors need no less, but that is their affair."""
    script = f"""if True:
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "helpers/vm-launch")!r}]
        import vm_launch.main, vm_launch.{verb}, vm_launch.hypervisor.qemu
        print(*sys.modules)
    """
    done = subprocess.run([sys.executable, "-IS", "-c", script], check=True, stdout=subprocess.PIPE, encoding="utf-8")
    assert not set(done.stdout.split()) & NOT_ON_THE_WAY
