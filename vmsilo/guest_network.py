"""What the host and a guest agree on about the guest's network: credentials, and the program that takes changed ones.

A guest with systemd gets its network as system credentials at its start, and as the same ones in a JSON object
({"name": "value", ...}, all of them) at the standard input of PROGRAM while it runs.
"""

PROGRAM = "/usr/libexec/vmsilo/guest-network"  # in the guest; vm-run starts it as root

# systemd's own, see systemd.system-credentials(7). Behind these is the stem of a file in /run/systemd/network.
LINK = "network.link."
NETWORK = "network.network."

# systemd-resolved's: servers and domains, separated by spaces.
DNS = "network.dns"
SEARCH_DOMAINS = "network.search_domains"

# Ours, for a guest that others reach the network through.
RULES = "vmsilo.rules"  # for nft(8): makes the guest's tables anew, in one transaction
SYSCTL = "vmsilo.sysctl"  # for sysctl.d(5): what is set once the rules are in force, such as forwarding
UNBOUND = "vmsilo.unbound"  # unbound.conf(5)
NAMES = "vmsilo.names"  # see vmsilo.name_rules

SYSCTL_FORWARD = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def sysctl(versions: tuple[int, ...]) -> str:
    """The value of SYSCTL for a guest that forwards these *versions* of IP, and not the other."""
    return "".join(f"{key} = {int(version in versions)}\n" for version, key in SYSCTL_FORWARD.items())
