"""Several networks that answer together."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mrnet.config.model import ModelConfig
from mrnet.model.fast.routes import Route
from mrnet.model.mrnet import Answers, Embeddings, MRNet, Proposals
from mrnet.types import QueryProtocol


class Ensemble(nn.Module):
    """Networks of one architecture that begin with other weights and are dropped out by themselves.

    Args:
        config: architecture of each; ``config.members`` is how many.
        route: as of :class:`MRNet`, as for the next.
        memory_budget: bytes that speed may cost, of all of them.

    Source: none in MRNet; see docs/evidence.md.
    """

    def __init__(self, config: ModelConfig, *, route: Route = "auto", memory_budget: int | None = None) -> None:
        super().__init__()
        self.config = config
        each = None if memory_budget is None else memory_budget // config.members
        self.members = nn.ModuleList(MRNet(config, route=route, memory_budget=each) for _ in range(config.members))

    @property
    def valid(self) -> Tensor:
        """``(t, t)`` bool, as of every member."""
        return members_of(self)[0].valid

    def forward(
        self, video: Tensor, queries: Tensor, query_mask: Tensor, protocol: QueryProtocol
    ) -> list[Embeddings]:
        """As :meth:`MRNet.forward`, of every member."""
        return [member(video, queries, query_mask, protocol) for member in self.members]

    def encode_once(self, video: Tensor) -> tuple[Tensor, Proposals | None]:
        """As of :class:`MRNet`, of every member."""
        clips, proposals = zip(*(member.encode_once(video) for member in members_of(self)), strict=True)
        kept = [pair for pair in proposals if pair is not None]
        return torch.cat(clips), _joined(kept) if kept else None

    def answer(
        self, clips: Tensor, proposals: Proposals | None, queries: Tensor, protocol: QueryProtocol
    ) -> Answers:
        """As of :class:`MRNet`, of every member."""
        return _together(
            [member.answer(*kept, queries, protocol) for member, kept in self._parts(clips, proposals)]
        )

    def ask(self, clips: Tensor, proposals: Proposals | None, queries: Tensor) -> Answers:
        """As of :class:`MRNet`, of every member."""
        return _together([member.ask(*kept, queries) for member, kept in self._parts(clips, proposals)])

    def _parts(
        self, clips: Tensor, proposals: Proposals | None
    ) -> Iterator[tuple[MRNet, tuple[Tensor, Proposals | None]]]:
        """Every member with what it keeps of a video."""
        for number, member in enumerate(members_of(self)):
            own = slice(number, number + 1)
            kept = None if proposals is None else (proposals[0][own], _cut(proposals[1], own))
            yield member, (clips[own], kept)


def _cut(tensor: Tensor | None, own: slice) -> Tensor | None:
    return None if tensor is None else tensor[own]


def _joined(members: Sequence[Proposals]) -> Proposals:
    contrastive = [second for _, second in members if second is not None]
    return torch.cat([first for first, _ in members]), torch.cat(contrastive) if contrastive else None


def _together(members: Sequence[Answers]) -> Answers:
    iou, contrastive, inside, reach = (
        None if part[0] is None else torch.cat(part, dim=1) for part in zip(*members, strict=True)
    )
    assert iou is not None
    assert contrastive is not None
    return Answers(iou, contrastive, inside, reach)


Network = MRNet | Ensemble


def make_network(config: ModelConfig, *, route: Route = "auto", memory_budget: int | None = None) -> Network:
    """One network, or as many as ``config.members`` says."""
    kind = MRNet if config.members == 1 else Ensemble
    return kind(config, route=route, memory_budget=memory_budget)


def members_of(network: Network) -> list[MRNet]:
    """The networks that answer: itself, or those of an ensemble."""
    return [network] if isinstance(network, MRNet) else list(network.members)  # type: ignore[arg-type]
