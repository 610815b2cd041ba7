"""The image bundle: a directory with a kernel, an initramfs, a root file system and a manifest.

The manifest is the one TOML file that a helper reads, since it is not known when units are made: generators run
before /var is mounted.
"""

import os
from typing import NamedTuple

from vmsilo import paths
from vmsilo.failure import EX_CONFIG, EX_NOINPUT, Failure

_MANIFEST_MAX = 1 << 20  # bytes


class Bundle(NamedTuple):
    """What a hypervisor needs of an image."""

    kernel: str
    initramfs: str
    root: str
    cmdline: str  # kernel parameters that the image wants


def read(directory: str) -> Bundle:
    """The bundle in *directory*.

    Raises Failure if there is none, or one that this version does not understand.
    """
    manifest = os.path.join(directory, paths.BUNDLE_MANIFEST)
    try:
        with open(manifest, "rb") as file:
            text = file.read(_MANIFEST_MAX + 1)
    except FileNotFoundError:
        raise Failure(f"there is no image at {directory}", _hint(directory), EX_NOINPUT) from None
    except OSError as error:
        raise Failure(f"cannot read {manifest}: {error.strerror}", code=EX_NOINPUT) from None
    return Bundle(
        kernel=os.path.join(directory, paths.BUNDLE_KERNEL),
        initramfs=os.path.join(directory, paths.BUNDLE_INITRAMFS),
        root=os.path.join(directory, paths.BUNDLE_ROOT),
        cmdline=parse(text, manifest),
    )


def parse(text: bytes, where: str) -> str:
    """The kernel parameters that the manifest *text* states."""
    import tomllib  # here, because a test of the rest should not need it

    if len(text) > _MANIFEST_MAX:
        raise Failure(f"{where}: larger than {_MANIFEST_MAX} bytes", code=EX_CONFIG)
    try:
        manifest = tomllib.loads(text.decode())
    except ValueError as error:
        raise Failure(f"{where}: {error}", code=EX_CONFIG) from None
    found = manifest.get("format")
    if found != paths.BUNDLE_FORMAT:
        raise Failure(
            f"{where}: format {found!r}, but this version of vmsilo reads format {paths.BUNDLE_FORMAT}",
            "build the image again",
            EX_CONFIG,
        )
    cmdline = manifest.get("cmdline")
    if not isinstance(cmdline, str):
        raise Failure(f"{where}: cmdline: expected a string", code=EX_CONFIG)
    return cmdline


def _hint(directory: str) -> str:
    parent, _, name = directory.rpartition("/")
    return f"build it: vm-image build {name}" if parent == paths.IMAGES else ""
