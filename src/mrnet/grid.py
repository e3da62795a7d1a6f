"""Integer geometry of the proposal map, without torch."""

from mrnet.errors import ConfigError, brief


def map_diagonals(num_clips: int, pooling_counts: list[int]) -> list[tuple[int, int]]:
    """Diagonals of the proposal map above the main one, as (offset, stride) in order of offset.

    Raises:
        ConfigError: the diagonals do not fit into ``num_clips``.

    Source: docs/method.md, section 3.
    """
    reach = sum(count << level for level, count in enumerate(pooling_counts))
    if reach >= num_clips:
        raise ConfigError(
            f"pooling_counts {brief(pooling_counts)} reach {reach} clips past the start clip, "
            f"but num_clips is {num_clips}: lower the counts or raise num_clips"
        )
    diagonals, offset = [], 0
    for level, count in enumerate(pooling_counts):
        stride = 2**level
        for _ in range(count):
            offset += stride
            diagonals.append((offset, stride))
    return diagonals


def count_cells(num_clips: int, pooling_counts: list[int]) -> int:
    """How many cells of the proposal map hold a proposal, those of the main diagonal among them.

    Raises:
        ConfigError: as :func:`map_diagonals`.
    """
    above = map_diagonals(num_clips, pooling_counts)
    return num_clips + sum(-(-(num_clips - offset) // stride) for offset, stride in above)
