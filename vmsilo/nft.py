"""What the makers of nftables rules and those who load, feed or show them agree on."""

GUEST_TABLE = "vmsilo"  # family inet, in a netvm

# Of all TAPs and bridges of links: a guest's packets are not forwarded to them. The number says "vm".
INTERFACE_GROUP = 0x766D

# Upper half of the conntrack mark: under which version of a firewall a flow was allowed. The lower half is others'.
GENERATION_MASK = 0xFFFF0000

_SET_NAME_MAX = 255  # the kernel's NFT_SET_MAXNAMELEN


def host_table(vm: str) -> str:
    """The VM's tables on the host: of family netdev what its TAPs let through, of family inet what its netvm does."""
    return "vmsilo-" + vm


def name_set(client: str, name: str, version: int) -> str:
    """The set of the addresses, of one version of IP, that *name* has for the VM *client*.

    It is in the table of the client's netvm: host_table(client) on the host, GUEST_TABLE in a guest. *name* is in
    lower case and has no dot at its end.
    """
    found = f"{client}.{name}.ip{version}".replace("*", "any")
    if len(found) <= _SET_NAME_MAX:
        return found
    from hashlib import sha256  # hardly any name is that long

    return f"{client}.{sha256(name.encode()).hexdigest()}.ip{version}"


def is_name_set(name: str) -> bool:
    """Whether name_set() made *name*: no other set of ours has a dot in its name."""
    return "." in name


def making_way(script: str, listing: str) -> str:
    """Commands for nft(8) that are to stand before *script*, where the table it makes is there already.

    *listing* is what ``nft --terse list table`` says of that table, "" if there is none. Without them the script
    would leave chains and sets of its predecessor. Sets of names that both know stay, with what is in them.
    """
    words = [line.split() for line in listing.splitlines()]
    heads = [line for line in words if len(line) == 3 and line[2] == "{" and line[0] in ("chain", "set", "map")]
    tables = [line for line in words if len(line) == 4 and line[0] == "table" and line[3] == "{"]
    if not tables:
        return ""
    table = " ".join(tables[0][1:3])
    kept = {name for kind, name in _declared(script) if kind == "set" and is_name_set(name)}
    gone = [(kind, name) for kind, name, _ in heads if kind != "set" or name not in kept]
    return f"flush table {table}\n" + "".join([f"delete {kind} {table} {name}\n" for kind, name in gone])


def _declared(script: str) -> list[tuple[str, str]]:
    words = [line.split() for line in script.splitlines()]
    return [(line[0], line[1]) for line in words if len(line) >= 3 and line[2] == "{"]
