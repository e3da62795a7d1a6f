"""Several networks that answer together."""

from torch import Tensor, nn

from mrnet.config import ModelConfig
from mrnet.model.fast.routes import Route
from mrnet.model.mrnet import Embeddings, MRNet
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


Network = MRNet | Ensemble


def make_network(config: ModelConfig, *, route: Route = "auto", memory_budget: int | None = None) -> Network:
    """One network, or as many as ``config.members`` says."""
    kind = MRNet if config.members == 1 else Ensemble
    return kind(config, route=route, memory_budget=memory_budget)


def members_of(network: Network) -> list[MRNet]:
    """The networks that answer: itself, or those of an ensemble."""
    return [network] if isinstance(network, MRNet) else list(network.members)  # type: ignore[arg-type]
