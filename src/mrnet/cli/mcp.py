"""``mrnet mcp``"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serves find, search and cut to a program that talks to a language model, by the Model Context Protocol over "
        "standard input and output. It reads videos below the folders of --root alone, and writes clips to --out alone."
    )
    parser.add_argument(
        "--root",
        dest="roots",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder whose videos may be read (repeatable; default: the current one)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write clips to; without it none are cut"
    )
    parser.add_argument(
        "--library", metavar="URI", help="library to search, see `mrnet index` (default: one for each person)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from mrnet.errors import ConfigError
    from mrnet.mcp_server import Tools, make_server

    roots = arguments.roots or [Path()]
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"--root {root}: is no folder; name one that holds videos")
    make_server(Tools(roots, arguments.out, arguments.library)).run("stdio")
    return 0
