"""A picture of variants as SVG, which needs no library: a dot a seed, a bar at their mean."""

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

_LINE_HEIGHT, _TOP, _BOTTOM = 24, 44, 34
_WIDTH, _LABELS, _MARGIN = 760, 220, 40
_STEPS = (1, 2, 5, 10, 20)


class Row(NamedTuple):
    """A variant: its name, a value a seed, their mean, and whether it is the one of reference."""

    title: str
    values: Sequence[float]
    mean: float
    reference: bool


def draw(title: str, rows: Sequence[Row]) -> str:
    """An SVG document of variants, one below the other, over one axis of percent."""
    values = [value for row in rows for value in row.values]
    span = max(values) - min(values)
    step = next((step for step in _STEPS if span / step <= 8), _STEPS[-1])
    low, high = math.floor(min(values) / step) * step, (math.floor(max(values) / step) + 1) * step
    height = _TOP + _LINE_HEIGHT * len(rows) + _BOTTOM
    floor = height - _BOTTOM

    def at(value: float) -> str:
        return f"{_LABELS + (value - low) / (high - low) * (_WIDTH - _LABELS - _MARGIN):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" fill="#1f2937">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="24" font-size="14" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in range(low, high + 1, step):
        parts.append(f'<path d="M{at(tick)} {_TOP}V{floor}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{at(tick)}" y="{floor + 18}" text-anchor="middle">{tick}</text>')
    for index, row in enumerate(rows):
        middle = _TOP + _LINE_HEIGHT * index + _LINE_HEIGHT // 2
        color = "#d95319" if row.reference else "#2563af"
        parts.append(f'<text x="{_LABELS - 12}" y="{middle + 4}" text-anchor="end">{escape(row.title)}</text>')
        parts.append(f'<path d="M{at(row.mean)} {middle - 8}v16" stroke="{color}" stroke-width="3"/>')
        parts += [f'<circle cx="{at(value)}" cy="{middle}" r="3.5" fill="{color}"/>' for value in row.values]
        if row.reference:
            parts.append(f'<path d="M{at(row.mean)} {_TOP}V{floor}" stroke="{color}" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>\n"])
