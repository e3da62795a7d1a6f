"""What several commands share."""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mrnet.errors import ConfigError, in_a_line

if TYPE_CHECKING:
    from mrnet.library.library import Library
    from mrnet.predictor import Predictor

Subparsers = Any  # argparse's own type is private


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line.

    Attributes:
        late: an optional last positional argument that may come after options: of one that does, Python 3.11 says that
            it is not recognised.
    """

    late: str | None = None
    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of argparse."""
        self._words = args or ()
        found, rest = super().parse_known_args(args, namespace)
        if self.late and getattr(found, self.late) is None and len(rest) == 1 and not rest[0].startswith("-"):
            setattr(found, self.late, rest.pop())
        if rest:
            words = not any(word.startswith("-") for word in rest)
            hint = ": what holds spaces stands in quotes" if words else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """One line, without the usage that argparse prints before it; where something is missing that was perhaps
        spelt wrong, the line says that too."""
        names = [word.partition("=")[0] for word in self._words if word.startswith("--")]
        unknown = [
            name for name in names if not any(known.startswith(name) for known in self._option_string_actions)
        ]
        if "required" in message and unknown:
            message += f"; unrecognized: {' '.join(unknown)}"
        self.exit(2, f"{self.prog}: error: {in_a_line(message)} (see {self.prog} --help)\n")


def add_set(parser: argparse.ArgumentParser) -> None:
    """``--set KEY=VALUE``, any number of times."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a field of the configuration, e.g. --set model.layers=4 (repeatable)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """``--data DIR``, which :func:`data_overlay` reads."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder whose dataset.yaml says where annotations and features lie, e.g. one made by `mrnet data init`",
    )


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """``--encoder NAME``, any number of times."""
    parser.add_argument(
        "--encoder",
        dest="encoders",
        metavar="NAME",
        action="append",
        default=[],
        help="an encoder you trust that the checkpoint names, e.g. hf:/models/clip (repeatable; registered and "
        "well-known ones need no word)",
    )


def add_memory_budget(parser: argparse.ArgumentParser) -> None:
    """``--memory-budget SIZE``."""
    parser.add_argument(
        "--memory-budget",
        metavar="SIZE",
        type=memory_size,
        help="memory that the fast proposal convolutions may take beside the weights, e.g. 500MB or 2GB; with little, "
        "slower routes to the same numbers are taken (default: a quarter of this machine's)",
    )


def add_answered_by(parser: argparse.ArgumentParser) -> None:
    """What answers, for :func:`make_predictor`."""
    with_what = parser.add_argument_group("answered by")
    how = with_what.add_mutually_exclusive_group()
    how.add_argument("--checkpoint", type=Path, help="checkpoint or training run")
    how.add_argument(
        "--backbone",
        metavar="NAME",
        help="encoder to answer with, without training: see `mrnet backbones` (default: the packaged one)",
    )
    with_what.add_argument(
        "--runtime",
        choices=["torch", "onnx"],
        default="torch",
        help="what computes the checkpoint: PyTorch, or onnxruntime what `mrnet export` has written (default: torch)",
    )
    with_what.add_argument(
        "--recogniser",
        metavar="hf:MODEL",
        help="what turns speech into a sentence where no checkpoint hears, such as hf:openai/whisper-tiny.en",
    )
    add_encoder(parser)
    with_what.add_argument("--no-cache", action="store_true", help="encode the video anew, and keep nothing of it")
    with_what.add_argument(
        "--no-subtitles",
        dest="search_subtitles",
        action="store_false",
        help="do not search what is said, in subtitles beside the video or inside it",
    )
    add_memory_budget(parser)


def make_predictor(arguments: argparse.Namespace) -> "Predictor":
    """What answers, by the options of :func:`add_answered_by`.

    Raises:
        ConfigError, CheckpointError: as of :class:`mrnet.predictor.Predictor`.
    """
    from mrnet.features.cache import FeatureCache
    from mrnet.predictor import Predictor

    if arguments.runtime == "onnx" and arguments.checkpoint is None:
        raise ConfigError("--runtime onnx computes what `mrnet export` has written: give it with --checkpoint DIR")
    cache = None if arguments.no_cache else FeatureCache()
    if arguments.checkpoint is not None:
        return Predictor.load(
            arguments.checkpoint,
            runtime=arguments.runtime,
            trusted=arguments.encoders,
            memory_budget=arguments.memory_budget,
            cache=cache,
            recogniser=arguments.recogniser,
            subtitles=arguments.search_subtitles,
        )
    named = {} if arguments.backbone is None else {"backbone": arguments.backbone}
    return Predictor.auto(
        **named, cache=cache, recogniser=arguments.recogniser, subtitles=arguments.search_subtitles
    )


def add_library(parser: argparse.ArgumentParser) -> None:
    """``--library URI`` and ``--backbone NAME``, which :func:`open_library` reads."""
    parser.add_argument(
        "--library",
        metavar="URI",
        help="the library: a folder, or s3://, gs:// or az:// and a path (default: one folder for each person)",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="encoder, see `mrnet backbones` (default: that of the library; of a new one, the packaged one)",
    )


def open_library(arguments: argparse.Namespace) -> "Library":
    """The library of ``--library``, which need not be there yet.

    Raises:
        ConfigError: it cannot be opened.
    """
    from mrnet.features.cache import FeatureCache
    from mrnet.library.library import Library
    from mrnet.predictor import Predictor

    named = arguments.backbone
    predictor = None if named is None else Predictor.auto(named, cache=FeatureCache())
    return Library.open(arguments.library, predictor)


def memory_size(text: str) -> int:
    """Bytes of ``"500MB"`` or ``"2GB"``, for argparse."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([KMG])i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in KB, MB or GB, e.g. 500MB")
    return int(float(match[1]) * 1024 ** (1 + "KMG".index(match[2].upper())))


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def data_overlay(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The fields of the dataset in ``--data``; ``None`` without it.

    Raises:
        ConfigError, DataError: as of :func:`mrnet.data.own.load_dataset_overlay`.
    """
    if arguments.data is None:
        return None
    from mrnet.data.own import load_dataset_overlay

    return load_dataset_overlay(arguments.data)


def output_encoding() -> str:
    """Of standard output; there may be none at all."""
    return getattr(sys.stdout, "encoding", None) or "ascii"


def to_json(document: Mapping[str, Any]) -> str:
    """JSON to be printed; letters that standard output may lack are escaped as JSON has it."""
    return json.dumps(document, indent=2, ensure_ascii=output_encoding().lower() != "utf-8")
