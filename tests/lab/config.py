"""Texts of /etc/vmsilo.d for the lab."""

import json

from lab.tree import USER

HOST = f'user = "{USER}"\n'


def vm(image: str = "minimal", /, *tables: str, **options: str | int | bool | list[str]) -> str:
    """A VM's file: *options* at the top level, then *tables* as they are.

    Guests run emulated, several at once on few cores, so they get ample time to start. They have no home on the
    host: the smallest guest would not mount it.
    """
    values: dict[str, str | int | bool | list[str]] = {
        "hypervisor": "qemu",
        "image": image,
        "memory": 256,
        "cpus": 1,
        "startTimeout": 300,
        "sharedHome": False,
        **options,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]  # JSON's strings are TOML's as well
    return "\n".join([*lines, *tables]) + "\n"


def share(tag: str, path: str, **options: str | int | bool) -> str:
    """A table of a VM's file: a shared directory."""
    values = {"path": path, **options}
    return "\n".join(
        [f"[sharedDirectories.{tag}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    )
