"""The cases of tests/trees: vmsilo.d is what is configured, units.expected what is written for it.

The expected units name their policies, in the place of all the calls that these allow: what is in a policy is its own
affair, and changes no tree.
"""

from project import ROOT

from vmsilo.plan import Nic
from vmsilo.policy import Policy, parse
from vmsilo_generator import run, source
from vmsilo_generator.model import Facts
from vmsilo_generator.policies import Policies, written
from vmsilo_generator.roles import net
from vmsilo_generator.unitfile import File, Unit

TREES = ROOT / "tests" / "trees"
CASES = sorted(path.name for path in TREES.iterdir())
PASSWD = "root:x:0:0:root:/root:/bin/bash\ndavid:x:1000:1000::/home/david:/bin/bash\n"

_TEXTS = source.policies("")


def word(policy: str) -> str:
    """What stands for the calls of a policy."""
    return f"calls_of_{policy.replace('-', '_')}"


def _named(name: str, text: str) -> str:
    allowed: Policy = parse(text, name)._replace(calls=frozenset([word(name)]))
    return "".join(f"{key}={value}\n" for key, value in written(allowed))


REAL = Facts(policies=Policies(_TEXTS))
NAMED = Facts(policies=Policies({name: _named(name, text) for name, text in _TEXTS.items()}))


def make(case: str, host: Facts = NAMED) -> run.Made:
    """What the generator makes of a case, as if its files were where they are on a host."""
    found = source.find([str(TREES / case / "vmsilo.d")])
    files = [file._replace(path=f"/etc/vmsilo.d/{file.name}.toml") for file in found]
    return run.make(files, PASSWD, host)


def net_unit(host: Facts = NAMED) -> File:
    """What makes the network of the VM of the case "qemu", if it had one."""
    machine = make("qemu", host).machines[0]
    nic = Nic("lan", "52:00:00:00:00:01", "work-0", "lan", (), "")
    network = machine.plan.network._replace(nics=(nic,))
    (unit,) = net.units(machine._replace(plan=machine.plan._replace(network=network)))
    assert isinstance(unit, Unit)
    return unit.file()
