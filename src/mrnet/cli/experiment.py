"""``mrnet experiment``"""

import argparse
import logging
from pathlib import Path

from mrnet.cli.common import add_data, add_set, data_overlay, positive
from mrnet.errors import ConfigError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Compares settings: variants of a recipe, each trained with several seeds."
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    run = actions.add_parser(
        "run",
        help="train and score every variant with every seed",
        description="Trains every variant of an experiment with every seed, on the CPU, and scores it on the "
        "validation split. What is done already is left out, so that the same command goes on after an "
        "interruption. Exit status 1 if a run failed.",
    )
    run.add_argument("experiment", type=Path, metavar="FILE", help="YAML file of the experiment")
    add_data(run)
    add_set(run)
    run.add_argument("--out", type=Path, required=True, help="folder of its runs")
    run.add_argument(
        "--only", nargs="+", default=[], metavar="VARIANT", help="these variants (default: all of them)"
    )
    run.add_argument("--test", action="store_true", help="score the test split too")
    run.add_argument(
        "--jobs", type=positive, help="processes, each with one thread (default: as many as there are cores)"
    )
    run.set_defaults(run=run_experiment)

    report = actions.add_parser(
        "report",
        help="gather results, and make tables and a picture of them",
        description="Gathers the results of experiments into one file, or makes tables and a picture of them.",
    )
    report.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE", help="folder of an experiment, or a file of results"
    )
    report.add_argument("--results", type=Path, metavar="FILE.jsonl", help="file to gather the results in")
    report.add_argument("--out", type=Path, metavar="DIR", help="folder for NAME.md, NAME.csv and NAME.svg")
    report.set_defaults(run=run_report)


def run_experiment(arguments: argparse.Namespace) -> int:
    from mrnet.experiments.definition import plan, read_experiment

    experiment = read_experiment(arguments.experiment)
    planned = plan(experiment, arguments.overrides, data_overlay(arguments), arguments.only)
    from mrnet.experiments.run import run_experiment

    failures = run_experiment(experiment, planned, arguments.out, test=arguments.test, jobs=arguments.jobs)
    for failure in failures:
        log.error("failed: %s", failure)
    print(f"results: {arguments.out}")
    return 1 if failures else 0


def run_report(arguments: argparse.Namespace) -> int:
    if arguments.results is None and arguments.out is None:
        raise ConfigError("say what to make: --results FILE.jsonl gathers results, --out DIR makes tables of them")
    from mrnet.experiments.report import gather, write_report
    from mrnet.experiments.result import write_results

    results = gather(arguments.sources)
    if arguments.results is not None:
        write_results(arguments.results, results)
        print(f"{len(results)} results: {arguments.results}")
    if arguments.out is not None:
        for path in write_report(results, arguments.out):
            print(path)
    return 0
