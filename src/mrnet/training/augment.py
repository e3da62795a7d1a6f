"""What training shows in place of the videos as they are."""

from dataclasses import replace

import torch

from mrnet.data.dataset import Batch
from mrnet.temporal import clip_middles


def paste_moments(batch: Batch, chance: float) -> Batch:
    """Show some queries their moments in other videos.

    All rows outside of a query's moments are replaced by those of another video of the batch, so that neither where the
    moment lies nor what surrounds it gives it away: what is left is what the query says.

    Args:
        batch: whose answers are known.
        chance: that a query is shown its moment so.

    Returns:
        the batch with one video a query. A video drawn as its own other stays as it is.

    Source: none in MRNet; see docs/evidence.md.
    """
    assert batch.moments is not None
    video_of_query = batch.query_mask.nonzero()[:, 0]
    videos = batch.video[video_of_query]  # (n, p, c)
    num_queries, num_rows, _ = videos.shape
    middles = clip_middles(num_rows, videos.device)
    moments = (batch.moments / batch.duration_s[:, None, None])[..., None]  # (n, w, 2, 1)
    kept = ((moments[:, :, 0] <= middles) & (middles <= moments[:, :, 1])).any(dim=1)  # (n, p)
    kept |= (torch.rand(num_queries, device=videos.device) >= chance)[:, None]
    others = videos[torch.randperm(num_queries, device=videos.device)]
    return replace(
        batch,
        video=torch.where(kept[..., None], videos, others),
        queries=batch.queries[batch.query_mask][:, None],
        query_mask=batch.query_mask.new_ones(num_queries, 1),
        records=tuple(batch.records[number] for number in video_of_query.tolist()),
    )
