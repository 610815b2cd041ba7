"""The command line of vm-image(8)."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from vm_image import bundle
from vm_image.archive import Source
from vm_image.build import Request, build
from vmsilo import paths
from vmsilo.failure import EX_NOPERM, EX_OSERR, EX_USAGE, Failure, complain, reason

PROGRAM = "vm-image"

USAGE = """\
%(prog)s build debian [--name NAME] [--suite SUITE] [--mirror URL] [--packages A,B] [--minimal] [--images-dir DIR]
       %(prog)s list [--json] [--images-dir DIR]
       %(prog)s remove [--force] [--images-dir DIR] NAME..."""


def main() -> int:
    """Run the command that sys.argv names; the exit status."""
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except Failure as failure:
        complain(PROGRAM, str(failure))
        return failure.code
    except OSError as error:
        complain(PROGRAM, reason(error))
        return EX_OSERR
    except KeyboardInterrupt:
        complain(PROGRAM, "interrupted")
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        complain(PROGRAM, f"{message} (see {PROGRAM} --help)")
        sys.exit(EX_USAGE)


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = _Parser(prog=PROGRAM, usage=USAGE, description="Build, list and remove guest images for vmsilo.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", prog=PROGRAM)

    command = commands.add_parser("build", help="build an image", description="Build an image.")
    command.add_argument("os", choices=["debian"], help="what to build from: the Debian archive")
    command.add_argument("--name", help='the name of the image (default: "debian", or "minimal" with --minimal)')
    command.add_argument("--suite", default="trixie", help="the Debian release (default: %(default)s)")
    command.add_argument("--mirror", default="", metavar="URL", help="take packages from this archive")
    command.add_argument("--packages", default="", metavar="A,B", help="add these packages to the guest")
    command.add_argument("--minimal", action="store_true", help="busybox, python3 and the agent, for tests")
    _images_dir(command)
    command.set_defaults(run=_build)

    command = commands.add_parser("list", help="list images", description="List images.")
    command.add_argument("--json", action="store_true", help="print JSON")
    _images_dir(command)
    command.set_defaults(run=_list)

    command = commands.add_parser("remove", help="remove images", description="Remove images no running VM uses.")
    command.add_argument("name", nargs="+", help="the name of an image")
    command.add_argument(
        "--force", action="store_true", help="even if a VM that is not running is configured with it"
    )
    _images_dir(command)
    command.set_defaults(run=_remove)
    return top


def _images_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--images-dir",
        type=Path,
        default=Path(paths.IMAGES),
        metavar="DIR",
        help="where the images are (default: %(default)s)",
    )


def _build(arguments: argparse.Namespace) -> int:
    if os.geteuid():
        raise Failure("only root can build an image", "it unpacks packages with their owners", EX_NOPERM)
    packages = tuple(name for name in arguments.packages.split(",") if name)
    if arguments.minimal and packages:
        raise Failure(
            "--packages does not go with --minimal", "its packages are unpacked but not configured", EX_USAGE
        )
    name = arguments.name or ("minimal" if arguments.minimal else "debian")
    build(
        Request(
            name,
            arguments.images_dir.absolute(),
            Source(arguments.suite, arguments.mirror),
            packages,
            arguments.minimal,
        )
    )
    return 0


def _list(arguments: argparse.Namespace) -> int:
    found = bundle.images(arguments.images_dir)
    if arguments.json:
        print(json.dumps([_as_json(image) for image in found], indent=2))
        return 0
    rows = [("IMAGE", "SYSTEM", "KERNEL", "DATE", "SIZE", "VMS"), *(_as_row(image) for image in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if found:
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for image in found:
        if image.problem:
            complain(PROGRAM, f"{image.name}: {image.problem}")
    return 0


def _as_row(image: bundle.Image) -> tuple[str, ...]:
    size = f"{image.size / 1e6:.0f}M"
    vms = ", ".join(
        [*(f"{vm} (running)" for vm in image.running), *(vm for vm in image.configured if vm not in image.running)]
    )
    if image.manifest is None:
        return image.name, "?", "?", "?", size, vms
    manifest = image.manifest
    system = f"{manifest.os} {manifest.suite}" + (" minimal" if manifest.variant == "minimal" else "")
    return image.name, system, manifest.kernel, time.strftime("%Y-%m-%d", time.gmtime(manifest.built)), size, vms


def _as_json(image: bundle.Image) -> dict[str, object]:
    return {
        "name": image.name,
        "path": str(image.path),
        "size": image.size,
        "problem": image.problem or None,
        "running": image.running,
        "configured": image.configured,
        "manifest": image.manifest._asdict() if image.manifest else None,
    }


def _remove(arguments: argparse.Namespace) -> int:
    for name in arguments.name:
        bundle.remove(arguments.images_dir, name, force=arguments.force)
    return 0
