"""What may pass a VM's TAPs: a guest speaks for itself alone, and hears only what is for it.

One table of the family netdev per VM, with two base chains per TAP: at ingress is what the guest sends, at egress
what it gets. They see every frame, before the host's bridges and network stack do anything with it. What is not
allowed in so many words is dropped, and counted.
"""

from vmsilo.nft import host_table
from vmsilo_generator.network.facts import Link, Tap
from vmsilo_generator.rules import ends, stations
from vmsilo_generator.rules.text import table


def guard(vm: str, links: tuple[Link, ...], taps: tuple[Tap, ...]) -> str:
    """The script that makes the VM's table netdev anew; "" if it has no TAP.

    *links* are those of which the VM is an end, *taps* those of the interfaces that the user described.
    """
    parts = [ends.chains(vm, link) for link in links] + [stations.chains(tap) for tap in taps]
    if not parts:
        return ""
    name = host_table(vm)
    return f"table netdev {name}\ndelete table netdev {name}\n" + table("netdev", name, parts)
