"""``mrnet index``"""

import argparse
import sys
from pathlib import Path

from mrnet.cli.common import Parser, add_library, open_library
from mrnet.errors import visible
from mrnet.progress import Progress


def add_arguments(parser: Parser) -> None:
    parser.description = (
        "Takes the videos of a folder into a library, to be searched with `mrnet search`; run again, it brings the "
        "library up to date. What is in there already is not encoded again, so the same command goes on after an "
        "interruption. Exit status 1 if something could not be taken in."
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of videos, at any depth")
    add_library(parser)
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="encode on this machine, or on the Ray cluster of RAY_ADDRESS (default: local)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    library = open_library(arguments)
    with Progress(None, "encoding", "video") as progress:
        try:
            report = library.update(arguments.folder, progress.reach, engine=arguments.engine)
        except KeyboardInterrupt:
            print("mrnet: what is finished is kept; the same command goes on from there", file=sys.stderr)
            raise
    for path, reason in sorted(report.failed.items()):
        print(visible(f"{path}: {reason}"), file=sys.stderr)
    for before, now in report.moved:
        print(visible(f"{before}: is now {now}"), file=sys.stderr)
    counts = {
        "added": len(report.added),
        "changed": len(report.changed),
        "moved": len(report.moved),
        "deleted": len(report.deleted),
        "unchanged": report.unchanged,
        "failed": len(report.failed),
    }
    done = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    speed = f" ({report.media_s / max(report.wall_s, 1e-9):.3g}x real time)" if report.media_s else ""
    print(f"{done}{speed}: {library.uri}")
    return 1 if report.failed else 0
