"""The proposal head, a prediction and a training step at released sizes, with random weights and inputs.

The reference is the dense route in float32: plain convolutions, which cost what they cost in the released code.
"""

import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.timing import (
    Figures,
    in_turn,
    multiply_adds_per_second,
    relative_distance,
    relative_error,
    seconds,
)
from mrnet.config.recipes import load_recipe
from mrnet.config.run import RunConfig
from mrnet.losses import compute_losses, total_loss
from mrnet.model.head import ProposalHead
from mrnet.model.mrnet import Embeddings, MRNet
from mrnet.model.norm import MapNorm
from mrnet.retrieval.rank import rank
from mrnet.retrieval.trained import TrainedScorer
from mrnet.temporal import iou_map

_QUERIES = 3
_VIDEOS = 4
# Dense backward of its 17x17 convolutions takes hours on a CPU, whose libraries have no fast one.
_NO_DENSE_STEP_ON_CPU = frozenset({"charades"})


def bench_proposal_head(recipe: str, repeats: int, device: torch.device, budget: int | None) -> Figures:
    """One video through the stacked convolutions and the embeddings."""
    rate = multiply_adds_per_second(device)
    dense, fast = _make_models(load_recipe(recipe), device, budget)
    clips = torch.randn(1, fast.config.num_clips, fast.config.dim, device=device)
    with torch.inference_mode():
        proposal_map = fast.proposal_map(clips)

    def embed(model: MRNet) -> Tensor:
        return torch.cat([part for part in model.proposal_head(proposal_map) if part is not None])

    row = _both_routes(recipe, repeats, dense, fast, embed)
    assert isinstance(fast.proposal_head, ProposalHead)
    stack = fast.proposal_head.stack
    with torch.inference_mode():
        multiply_adds = stack.multiply_adds(stack.plan(proposal_map))
    return row | {
        "memory_mb": stack.memory_in_use() / 2**20,
        "fast_gmac": multiply_adds / 1e9,
        "roofline_seconds": multiply_adds / rate,
    }


def bench_predict(recipe: str, repeats: int, device: torch.device, budget: int | None) -> Figures:
    """A whole prediction: a video's features and three queries, asked jointly, to ranked moments."""
    config = load_recipe(recipe)
    dense, fast = _make_models(config, device, budget)
    video, queries, _ = _inputs(config, 1, device)

    def answer(model: MRNet) -> Tensor:
        scorer = TrainedScorer(model, config.decode, "joint")
        candidates = scorer.candidates(scorer.encode_video(video[0], 120.0), queries[0])
        rank(candidates, 5, config.decode.nms_threshold)
        return candidates.scores

    return _both_routes(recipe, repeats, dense, fast, answer)


def bench_train_step(recipe: str, repeats: int, device: torch.device, budget: int | None) -> Figures:
    """Forward and backward of a step of four videos with three queries each, one map a video.

    On a CPU each way is timed without a warm-up: the dense one takes a minute. Gradients are compared tensor by
    tensor, by the largest difference over the largest value, and by the length of the difference over that of the
    whole; the worst tensor counts. Once, untimed, the same proposal maps pass the convolutions in double precision:
    both routes err against it by rounding, whose steps across the zero of a ReLU switch gradients on and off.
    """
    config = load_recipe(recipe)
    dense, fast = (model.train() for model in _make_models(config, device, budget))
    inputs = _inputs(config, _VIDEOS, device)
    both = device.type != "cpu" or recipe not in _NO_DENSE_STEP_ON_CPU
    models = {"dense": dense, "fast": fast} if both else {"fast": fast}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            times[name].append(_step(model, config, inputs))
    gradients = {name: _gradients(model) for name, model in models.items()}
    row: Figures = {"recipe": recipe}
    for way, name in enumerate(("forward", "backward")):
        of_dense, of_fast = (
            statistics.median(pair[way] for pair in times[route]) if route in times else None
            for route in ("dense", "fast")
        )
        row |= {
            f"dense_{name}_seconds": of_dense,
            f"fast_{name}_seconds": of_fast,
            f"{name}_speedup": None if of_dense is None or of_fast is None else of_dense / of_fast,
        }
    by_dense, by_fast, exact = gradients.get("dense"), gradients["fast"], None
    if by_dense is not None:
        assert isinstance(dense.proposal_head, ProposalHead)
        dense.proposal_head = _InDouble(dense.proposal_head)  # type: ignore[assignment]
        _step(dense, config, inputs)
        exact = _gradients(dense)
    return row | {
        "max_relative_error": _worst(relative_error, by_fast, by_dense),
        "max_relative_distance": _worst(relative_distance, by_fast, by_dense),
        "dense_error_to_double": _worst(relative_error, by_dense, exact),
        "fast_error_to_double": _worst(relative_error, by_fast, exact),
    }


class _InDouble(nn.Module):
    """A copy of a proposal head that computes the same in double precision."""

    def __init__(self, head: ProposalHead) -> None:
        super().__init__()
        self.head = copy.deepcopy(head).double()

    def forward(self, proposal_map: Tensor) -> tuple[Tensor, Tensor | None]:
        iou, contrastive = self.head(proposal_map.double())
        return iou.to(proposal_map.dtype), None if contrastive is None else contrastive.to(proposal_map.dtype)


def _gradients(model: MRNet) -> list[Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def _worst(
    measure: Callable[[Tensor, Tensor], float], found: list[Tensor] | None, expected: list[Tensor] | None
) -> float | None:
    """Largest error of any tensor but those that are zero but for rounding."""
    if found is None or expected is None:
        return None
    rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in expected)
    pairs = zip(found, expected, strict=True)
    return max(measure(*pair) for pair in pairs if pair[1].abs().max() > rounding)


def _step(model: MRNet, config: RunConfig, inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[float, float]:
    """Seconds forward and back, the loss counted among the latter; gradients are left in the model."""
    for parameter in model.parameters():
        parameter.grad = None
    torch.manual_seed(1)  # the same dropout each time
    found: list[Embeddings] = []
    forward = seconds(lambda: found.append(model(*inputs, "joint")))
    embeddings = found[0]

    def learn() -> None:
        count = len(embeddings.map_of_query)
        starts = torch.linspace(5, 60, count, device=inputs[0].device)
        moments = torch.stack([starts, starts + torch.linspace(10, 50, count, device=starts.device)], dim=-1)[
            :, None
        ]
        duration_s = torch.full((count,), 120.0, device=starts.device)
        targets = iou_map(moments, duration_s, config.model.num_clips)[:, model.valid]
        losses = compute_losses(embeddings, targets, moments, duration_s, config.loss)
        loss = total_loss(losses, config.loss, full=True, batch_size=_VIDEOS)
        loss.backward()  # type: ignore[no-untyped-call]

    return forward, seconds(learn)


def _both_routes(recipe: str, repeats: int, dense: MRNet, fast: MRNet, work: Callable[[MRNet], Tensor]) -> Figures:
    """Seconds by the dense and by the fast route, and the error of the latter."""

    @torch.inference_mode()
    def by(model: MRNet) -> Tensor:
        return work(model)

    dense_seconds, fast_seconds = in_turn(repeats, lambda: by(dense), lambda: by(fast))
    return {
        "recipe": recipe,
        "dense_seconds": dense_seconds,
        "fast_seconds": fast_seconds,
        "speedup": dense_seconds / fast_seconds,
        "max_relative_error": relative_error(by(fast), by(dense)),
    }


def _make_models(config: RunConfig, device: torch.device, budget: int | None) -> tuple[MRNet, MRNet]:
    """One by the dense route and one by the fastest, with the same random weights; batch norm has seen such maps."""
    torch.manual_seed(0)
    fast = MRNet(config.model, memory_budget=budget).to(device)
    norms = [module for module in fast.modules() if isinstance(module, MapNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        fast.train()(*_inputs(config, 1, device), "joint")
    for norm in norms:
        norm.momentum = 0.1
    dense = MRNet(config.model, route="dense").to(device)
    dense.load_state_dict(fast.state_dict())
    return dense.eval(), fast.eval()


def _inputs(config: RunConfig, num_videos: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_videos)
    model = config.model
    video = torch.randn(num_videos, model.num_pre_clips, model.video_dim, generator=generator)
    queries = torch.randn(num_videos, _QUERIES, model.query_dim, generator=generator)
    mask = torch.ones(num_videos, _QUERIES, dtype=torch.bool)
    return video.to(device), queries.to(device), mask.to(device)
