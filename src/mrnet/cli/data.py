"""``mrnet data``"""

import argparse
import shlex
from pathlib import Path

from mrnet.cli.common import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Commands on datasets."
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check",
        help="list what is wrong with annotations and features",
        description="Lists what is wrong with annotations and features. Exit status 1 if there are errors.",
    )
    check.add_argument("annotations", type=Path, help="annotation file, of any supported format")
    check.add_argument(
        "--features", type=Path, help="feature store, an HDF5 file or a folder; or the folder of videos"
    )
    check.add_argument("--dim", type=positive, help="width that the features should have")
    check.set_defaults(run=run_check)
    init = actions.add_parser(
        "init",
        help="make a folder of videos and annotations ready for `mrnet train --data`",
        description="Checks the videos (in DIR or DIR/videos) and their annotations, and writes DIR/train.jsonl, "
        "val.jsonl and test.jsonl, split by video, and DIR/dataset.yaml. Exit status 1, and nothing written, if "
        "there are errors.",
    )
    init.add_argument("folder", type=Path, metavar="DIR", help="folder with the videos")
    init.add_argument(
        "--moments",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="annotation files, of any supported format (default: those in DIR)",
    )
    init.add_argument("--video-backbone", default="color-hog-motion", metavar="NAME", help="default: %(default)s")
    init.add_argument("--text-backbone", default="hashed-words", metavar="NAME", help="default: %(default)s")
    init.add_argument("--seed", type=int, default=0, help="another one gives other splits (default: 0)")
    init.add_argument("--force", action="store_true", help="write over what this command wrote before")
    init.set_defaults(run=run_init)


def run_check(arguments: argparse.Namespace) -> int:
    from mrnet.data.check import check_dataset, format_report

    report = check_dataset(arguments.annotations, arguments.features, arguments.dim)
    print(format_report(report))
    return 0 if report.ok else 1


def run_init(arguments: argparse.Namespace) -> int:
    from mrnet.data.check import format_report
    from mrnet.data.own import init_dataset

    made = init_dataset(
        arguments.folder,
        arguments.moments,
        video_backbone=arguments.video_backbone,
        text_backbone=arguments.text_backbone,
        seed=arguments.seed,
        force=arguments.force,
    )
    print(format_report(made.report))
    if not made.report.ok:
        print("nothing was written: mend the errors, and run this again")
        return 1
    for split, records in made.splits.items():
        queries = sum(len(record.queries) for record in records)
        print(f"{arguments.folder / split}.jsonl: videos {len(records)}, queries {queries}")
    folder = str(arguments.folder)
    run = f"runs/{arguments.folder.resolve().name}"
    print(f"next: {shlex.join(['mrnet', 'train', '--data', folder, '--out', run])}")
    return 0
