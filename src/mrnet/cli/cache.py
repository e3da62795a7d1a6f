"""``mrnet cache``"""

import argparse
import time

from mrnet.errors import visible
from mrnet.features.cache import MOST_BYTES, FeatureCache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the videos and subtitles that `mrnet find` has encoded and keeps for the next question, the last used "
        f"first. The least recently used go beyond {MOST_BYTES >> 30} GB; MRNET_CACHE names another folder."
    )
    parser.add_argument("--clear", action="store_true", help="remove them all")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    cache = FeatureCache()
    if arguments.clear:
        print(f"{cache.clear()} removed from {cache.folder}")
        return 0
    entries = cache.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used_s))
        print(f"{used}  {entry.num_bytes / 2**20:8.1f} MB  {entry.backbone}  {visible(entry.name)}")
    total = sum(entry.num_bytes for entry in entries)
    print(f"{len(entries)} kept, {total / 2**20:.1f} MB in {cache.folder}")
    return 0
