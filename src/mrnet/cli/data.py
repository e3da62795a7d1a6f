"""``mrnet data``"""

import argparse
from pathlib import Path

from mrnet.cli.common import Subparsers, positive


def add_parser(commands: Subparsers) -> None:
    parser = commands.add_parser("data", help="look at a dataset", description="Commands on datasets.")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="list what is wrong with annotations and features",
        description="Lists what is wrong with annotations and features. Exit status 1 if there are errors.",
    )
    check.add_argument("annotations", type=Path, help="annotation file, of any supported format")
    check.add_argument("--features", type=Path, help="feature store: an HDF5 file or a folder")
    check.add_argument("--dim", type=positive, help="width that the features should have")
    check.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    from mrnet.data.check import check_dataset, format_report

    report = check_dataset(arguments.annotations, arguments.features, arguments.dim)
    print(format_report(report))
    return 0 if report.ok else 1
