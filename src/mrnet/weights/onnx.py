"""A trained network as ONNX: exported, checked against PyTorch, and run by onnxruntime.

    FOLDER/mrnet.json              as in a checkpoint (:mod:`mrnet.weights.native`), as are the next two
    FOLDER/recipe.yaml
    FOLDER/video.pca.safetensors   where the video features went through one
    FOLDER/video.onnx              a video once
    FOLDER/queries.onnx            its queries, each asked alone

docs/hub.md has the inputs and outputs of both graphs.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.errors import CheckpointError, ConfigError
from mrnet.files import new_directory
from mrnet.model.ensemble import Ensemble
from mrnet.model.mrnet import Answers, MRNet, Proposals
from mrnet.temporal import valid_cells
from mrnet.types import QueryProtocol
from mrnet.weights.native import ONNX_FILES, PCA_FILE, RECIPE_FILE, SPEC_FILE, load_checkpoint

if TYPE_CHECKING:
    import onnxruntime

TOLERANCE = 1e-4
"""Largest difference from PyTorch, of logits above 1 as a fraction, with which a network is exported."""

_OPSET = 20
_PROPOSALS = ("iou_proposals", "contrastive_proposals")
_SCORES = ("iou_logits", "cosines")
_CLIP_OUTPUTS = ("inside", "reach")


def export_checkpoint(path: Path, directory: Path) -> float:
    """Write a checkpoint as ONNX, once it gives what PyTorch gives.

    Args:
        path: a checkpoint folder, or a training run.
        directory: new folder.

    Returns:
        the largest difference from PyTorch, on random videos and queries: of logits above 1 as a fraction.

    Raises:
        CheckpointError: nothing there, or damaged; or what is exported differs by more than ``TOLERANCE``.
        ConfigError: a package that it takes is not installed.
        OutputError: the folder already holds something, or cannot be written.
    """
    checkpoint = load_checkpoint(path)
    _refuse(checkpoint.spec.model, checkpoint.folder)
    network = checkpoint.build(route="dense").requires_grad_(False)
    with new_directory(directory) as temporary:
        for file in (SPEC_FILE, RECIPE_FILE, PCA_FILE):
            if (checkpoint.folder / file).is_file():
                shutil.copyfile(checkpoint.folder / file, temporary / file)
        for file, content in zip(ONNX_FILES, _export(network), strict=True):
            (temporary / file).write_bytes(content)
        difference = _difference(network, OnnxNetwork.load(temporary, network.config))
        if not difference <= TOLERANCE:
            raise CheckpointError(
                f"{path}: exported, it differs from PyTorch by {difference:.1e}, where {TOLERANCE:.0e} is allowed: "
                "nothing is written; ask it with PyTorch"
            )
    return difference


class OnnxNetwork:
    """What :class:`mrnet.retrieval.trained.TrainedScorer` asks of a network, computed by onnxruntime on the processor.

    Args:
        config: architecture.
        video: session of ``video.onnx``.
        queries: session of ``queries.onnx``.
    """

    def __init__(
        self, config: ModelConfig, video: "onnxruntime.InferenceSession", queries: "onnxruntime.InferenceSession"
    ) -> None:
        self.config = config
        self.valid = valid_cells(config.num_clips, config.pooling_counts)
        self._video, self._queries = video, queries

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> Self:
        """The network that :func:`export_checkpoint` has written.

        Args:
            folder: with the files.
            config: architecture.

        Raises:
            CheckpointError: they are missing, damaged, or of another architecture.
            ConfigError: onnxruntime is not installed.
        """
        video, queries = (_open(folder / file) for file in ONNX_FILES)
        expected = _signature(config)
        for file, session in zip(ONNX_FILES, (video, queries), strict=True):
            found = {value.name: value.shape[1:] for value in (*session.get_inputs(), *session.get_outputs())}
            if found != expected[file]:
                raise CheckpointError(
                    f"{folder / file} does not belong to {SPEC_FILE} beside it: make both anew with `mrnet export`"
                )
        return cls(config, video, queries)

    def eval(self) -> Self:
        """Nothing: it was exported as it answers."""
        return self

    def encode_once(self, video: Tensor) -> tuple[Tensor, Proposals | None]:
        """As of :class:`mrnet.model.mrnet.MRNet`."""
        clips, *proposals = _run(self._video, {"video": video})
        return clips, _pair(proposals) if proposals else None

    def answer(
        self, clips: Tensor, proposals: Proposals | None, queries: Tensor, protocol: QueryProtocol
    ) -> Answers:
        """As of :class:`mrnet.model.mrnet.MRNet`, under protocol ``single`` alone."""
        if protocol != "single":
            raise ValueError("what is exported asks every query alone")
        given = {"clips": clips} if proposals is None else dict(zip(_PROPOSALS, _present(proposals), strict=False))
        logits, cosines, *clip_outputs = _run(self._queries, given | {"queries": queries})
        inside, reach = clip_outputs or (None, None)
        return Answers(logits, cosines, inside, reach)


class _Once(nn.Module):
    """``video.onnx``"""

    def __init__(self, network: MRNet | Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        clips, proposals = self.network.encode_once(video)
        return (clips, *_present(proposals or ()))


class _Asked(nn.Module):
    """``queries.onnx``, of a network whose clips meet the query; its other argument is the clips."""

    def __init__(self, network: MRNet | Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        return tuple(_present(self.network.ask(clips, None, queries)))


class _AskedOfProposals(nn.Module):
    """``queries.onnx``, of a network whose proposals no query touches."""

    def __init__(self, network: MRNet | Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, iou: Tensor, contrastive: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        config = self.network.config
        unused = iou.new_zeros(
            config.members, config.num_clips, config.dim
        )  # of no influence, no part of the graph
        return tuple(_present(self.network.ask(unused, (iou, contrastive), queries)))


def _present(values: Sequence[Tensor | None]) -> list[Tensor]:
    return [value for value in values if value is not None]


def _pair(proposals: Sequence[Tensor]) -> Proposals:
    return proposals[0], proposals[1]


def _refuse(config: ModelConfig, path: Path) -> None:
    """What cannot be exported."""
    if not config.video_depends_on_query and (config.clip_head or not config.contrastive_head):
        raise CheckpointError(
            f"{path}: a model whose clips meet no query is exported only with a contrastive head and without a "
            "clip head: answer with PyTorch, without --runtime onnx"
        )


def _signature(config: ModelConfig) -> dict[str, dict[str, list[int]]]:
    """File -> name of an input or output -> its shape, but for the first axis."""
    cells = int(valid_cells(config.num_clips, config.pooling_counts).sum())
    clips = {"clips": [config.num_clips, config.dim]}
    proposals = {} if config.video_depends_on_query else {name: [cells, config.dim] for name in _PROPOSALS}
    video = {"video": [config.num_pre_clips, config.video_dim]}
    queries = {"queries": [config.query_dim]} | {name: [config.members, cells] for name in _SCORES}
    if config.clip_head:
        inside, reach = _CLIP_OUTPUTS
        queries |= {inside: [config.members, config.num_clips], reach: [config.members, config.num_clips, 2]}
    return dict(zip(ONNX_FILES, (video | clips | proposals, (proposals or clips) | queries), strict=True))


def _export(network: MRNet | Ensemble) -> tuple[bytes, bytes]:
    """Both graphs."""
    config = network.config
    once = _Once(network)
    video = torch.zeros(1, config.num_pre_clips, config.video_dim)
    queries = torch.zeros(2, config.query_dim)  # one would be taken for a fixed number
    clips, *proposals = once(video)
    asked = _AskedOfProposals(network) if proposals else _Asked(network)
    given = dict(zip(_PROPOSALS, proposals, strict=False)) or {"clips": clips}
    of_video = _graph(once, {"video": video}, ["clips", *_PROPOSALS[: len(proposals)]])
    outputs = [*_SCORES, *(_CLIP_OUTPUTS if config.clip_head else ())]
    return of_video, _graph(asked, given | {"queries": queries}, outputs, several="queries")


def _graph(
    module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], several: str | None = None
) -> bytes:
    """A module as ONNX; of the input named ``several`` there may be any number."""
    try:
        import onnxscript  # noqa: F401
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError:
        raise _missing("onnxscript") from None
    free = tuple({0: torch.export.Dim.DYNAMIC} if name == several else None for name in inputs)
    with _quiet(), torch.no_grad():
        traced = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=free)
        program = torch.onnx.export(
            traced,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # which names files of this machine
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that are not needed, and of its own future."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _difference(network: MRNet | Ensemble, exported: OnnxNetwork) -> float:
    """The largest there is, on random videos with one and with several queries each; NaN counts as one."""
    config = network.config
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for count in (1, 2, 7):
        video = torch.randn(1, config.num_pre_clips, config.video_dim, generator=generator)
        queries = torch.randn(count, config.query_dim, generator=generator)
        with torch.inference_mode():
            expected, found = (of.answer(*of.encode_once(video), queries, "single") for of in (network, exported))
        for one, other in zip(_present(expected), _present(found), strict=True):
            difference = ((one - other).abs() / one.abs().clamp(min=1)).max()
            worst = max(worst, float(difference.nan_to_num(nan=float("inf"))))
    return worst


def _open(path: Path) -> "onnxruntime.InferenceSession":
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnxruntime") from None
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: make it with `mrnet export CHECKPOINT --out NEW`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each of its own is an Exception, and has no other base
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} is no ONNX file or damaged ({reason}): make it anew with `mrnet export`"
        ) from None


def _run(session: "onnxruntime.InferenceSession", inputs: dict[str, Tensor]) -> list[Tensor]:
    arrays: list[Any] = session.run(None, {name: np.asarray(tensor) for name, tensor in inputs.items()})
    return [torch.from_numpy(array) for array in arrays]


def _missing(package: str) -> ConfigError:
    return ConfigError(f"ONNX needs {package}: pip install 'mrnet[onnx]'")
