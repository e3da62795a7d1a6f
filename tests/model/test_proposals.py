"""The proposal map, by hand and against plain loops."""

from typing import Any

import pytest
import torch

from mrnet.model.proposals import ProposalMap
from mrnet.temporal import valid_cells

CLIPS = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])[None, :, None].expand(1, 8, 2).contiguous()


def proposals(**changes: Any) -> ProposalMap:
    settings: dict[str, Any] = {
        "num_clips": 8, "pooling_counts": [3, 2], "dim": 2, "features": "pool", "boundary": "none",
        "boundary_replaces_conv": False,
    }  # fmt: skip
    torch.manual_seed(0)
    return ProposalMap(**(settings | changes))


def test_pooled_proposal_is_the_maximum_of_its_clips() -> None:
    found = proposals()(CLIPS)[0, 0]
    valid = valid_cells(8, [3, 2])
    values = CLIPS[0, :, 0]
    for i in range(8):
        for j in range(8):
            expected = values[i : j + 1].max() if valid[i, j] else 0.0
            assert found[i, j] == expected, (i, j)


def test_added_boundary_leaves_the_diagonal_alone() -> None:
    found = proposals(boundary="add")(CLIPS)[0, 0]
    assert found[2, 2] == 4.0
    assert found[2, 5] == 9.0 + 4.0 + 9.0
    assert found[0, 5] == 9.0 + 3.0 + 9.0  # stride 2
    assert found[1, 6] == 0.0  # not a proposal


def test_concatenated_boundary_is_start_inner_end() -> None:
    proposal_map = proposals(boundary="concat")
    assert proposal_map.fuse is not None
    proposal_map.fuse.weight.data = torch.tensor([[1.0, 0, 10, 0, 100, 0], [0, 0, 0, 1.0, 0, 0]])[..., None, None]
    proposal_map.fuse.bias.data = torch.tensor([0.5, 0.0])
    found = proposal_map(CLIPS)[0]
    assert found[0, 2, 5] == 4 + 10 * 9 + 100 * 9 + 0.5
    assert found[0, 3, 3] == 111 * 1 + 0.5
    assert found[1, 2, 5] == 9
    assert found[0, 7, 0] == 0.5  # as released, the convolution's bias reaches invalid cells


def test_learned_proposals_chain_convolutions() -> None:
    proposal_map = proposals(features="conv")
    assert proposal_map.convs is not None
    found = proposal_map(CLIPS)[0]
    x = CLIPS.transpose(1, 2)
    for conv, (offset, stride) in zip(proposal_map.convs, [(1, 1), (2, 1), (3, 1), (5, 2), (7, 2)], strict=True):
        x = conv(x)
        starts = torch.arange(0, 8 - offset, stride)
        torch.testing.assert_close(found[:, starts, starts + offset], x[0])


def test_released_quirk_of_learned_proposals_with_added_boundary() -> None:
    found = proposals(features="conv", boundary="add", boundary_replaces_conv=True)(CLIPS)[0, 0]
    assert found[2, 2] == 4.0
    assert found[2, 5] == 4.0 + 9.0
    assert found[0, 7] == 3.0 + 6.0


def test_the_mean_of_a_proposal_is_that_of_its_clips() -> None:
    found = proposals(features="mean")(CLIPS)[0, 0]
    valid = valid_cells(8, [3, 2])
    for i in range(8):
        for j in range(8):
            expected = CLIPS[0, i : j + 1, 0].mean() if valid[i, j] else torch.zeros(())
            torch.testing.assert_close(found[i, j], expected)


def test_means_are_fused_with_the_ends_as_anything_else_is() -> None:
    """Against the convolution of start, mean and end side by side; the bias does not reach invalid cells."""
    fused = proposals(features="mean", boundary="concat")
    assert fused.fuse is not None
    clips = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(0))
    means, valid = proposals(features="mean")(clips), valid_cells(8, [3, 2])
    starts, ends = clips.transpose(1, 2)[..., :, None], clips.transpose(1, 2)[..., None, :]
    joined = torch.cat([starts.expand_as(means), means, ends.expand_as(means)], dim=1)
    torch.testing.assert_close(fused(clips), fused.fuse(joined) * valid)


@pytest.mark.parametrize("features", ["pool", "mean"])
@pytest.mark.parametrize("boundary", ["none", "add", "concat"])
def test_cells_are_those_of_the_map_row_by_row(features: str, boundary: str) -> None:
    proposal_map = proposals(features=features, boundary=boundary)
    clips = torch.randn(3, 8, 2)
    expected = proposal_map(clips)[:, :, valid_cells(8, [3, 2])].transpose(1, 2)
    torch.testing.assert_close(proposal_map.cells(clips), expected)
