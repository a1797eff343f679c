"""Figures of an audit as inline SVG: intervals beside names, stepped histograms, bars, and a curve
with its band.

Names stand on the left, in a margin of LABEL units; the colours are the stylesheet's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from accord.pages.plane import colour_class, frame, text

WIDTH = 640
LABEL = 210  # units left of the picture, for its names


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    low: float,
    high: float,
    mark: float | None,
    title: str,
    says: str = "",
) -> Markup:
    """Draw a point and its interval for each (name, value, low, high), on one axis."""

    def x(value: float) -> float:
        return LABEL + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LABEL - 60)

    height = 22 * len(rows) + 30
    parts = [_upright(x(0.5), height, "grid")] if low < 0.5 < high else []
    if mark is not None:
        parts += [_upright(x(mark), height, "limit"), text(x(mark), height - 8, f"{mark:g}")]
    for at, (name, value, left, right) in enumerate(rows):
        y = 20 + 22 * at
        parts.append(text(LABEL - 10, y + 4, name, "end", "name"))
        parts.append(
            Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}" class="interval"/>').format(
                x(left), x(right), y, y
            )
        )
        parts.append(_dot(x(value), y))
        parts.append(text(WIDTH - 52, y + 4, f"{value:.3f}", "start"))
    parts += [text(x(value), height - 8, f"{value:g}") for value in (low, 0.5, high)]
    return frame(title, _coloured(parts), WIDTH, height, says=says)


def histogram(
    edges: Sequence[float],
    series: Mapping[str, Sequence[int]],
    title: str,
    unit: str,
    says: str = "",
) -> Markup:
    """Draw counts as stepped outlines, over bins of equal width on the page."""
    height, left, bottom = 220, 30, 180
    used = [at for at in range(len(edges) - 1) if any(counts[at] for counts in series.values())]
    first, last = (min(used), max(used) + 1) if used else (0, 1)
    step = (WIDTH - left - 20) / (last - first)
    top = max((max(counts) for counts in series.values()), default=1) or 1
    parts = [_along(left, WIDTH - 20, bottom)]
    for number, counts in enumerate(series.values(), 1):
        corners = [
            (left + step * (at - first + side), bottom - 150 * counts[at] / top)
            for at in range(first, last)
            for side in (0, 1)
        ]
        parts.append(_coloured([_polyline(corners)], number))
    for at in range(first, last + 1, max(1, (last - first) // 6)):
        parts.append(text(left + step * (at - first), bottom + 18, f"{edges[at]:,}"))
    parts.append(text(WIDTH - 20, bottom + 34, unit, "end"))
    keys = [(colour_class(number), name) for number, name in enumerate(series, 1)]
    return frame(title, Markup("").join(parts), WIDTH, height, keys, says=says)


def bars(
    rows: Sequence[tuple[str, float]], title: str, form: str = "{:.1%}", says: str = ""
) -> Markup:
    """Draw horizontal bars with their values."""
    top = max((value for _, value in rows), default=1.0) or 1.0
    parts = []
    for at, (name, value) in enumerate(rows):
        y = 6 + 24 * at
        wide = max(1.0, (WIDTH - LABEL - 80) * value / top)
        parts.append(text(LABEL - 10, y + 14, name[:34], "end", "name"))
        parts.append(
            Markup('<rect x="{}" y="{}" width="{:.1f}" height="18" class="dot" rx="2"/>').format(
                LABEL, y, wide
            )
        )
        parts.append(text(WIDTH - 70, y + 14, form.format(value), "start"))
    return frame(title, _coloured(parts), WIDTH, 24 * len(rows) + 8, says=says)


def curve(
    points: Sequence[tuple[float, float, float, float]], title: str, says: str = ""
) -> Markup:
    """Draw a line through (x, value, low, high) on a logarithmic axis, with the intervals as a
    band.
    """
    height, left, right, bottom = 220, 50, WIDTH - 30, 180
    xs = [math.log(max(1.0, point[0])) for point in points]
    low, high = min(min(p[2] for p in points), 0.5), max(p[3] for p in points)

    def places(values: Sequence[float]) -> list[tuple[float, float]]:
        across = [(x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5 for x in xs]
        up = [(value - low) / (high - low or 1) for value in values]
        return [
            (left + a * (right - left), bottom - 150 * u) for a, u in zip(across, up, strict=True)
        ]

    value, lower, upper = (places([point[at] for point in points]) for at in (1, 2, 3))
    parts = [
        Markup('<polygon points="{}" class="band"/>').format(_pairs([*lower, *reversed(upper)])),
        _polyline(value),
    ]
    for (x, y), point in zip(value, points, strict=True):
        parts += [
            _dot(x, y),
            text(x, y - 10, f"{point[1]:.3f}"),
            text(x, bottom + 18, f"{int(point[0]):,}"),
        ]
    parts.append(text(right, bottom + 34, "rows fitted on", "end"))
    return frame(title, _coloured(parts), WIDTH, height, says=says)


def _coloured(parts: Sequence[Markup], colour: int = 1) -> Markup:
    inside = Markup("").join(parts)
    return Markup('<g class="{}">{}</g>').format(colour_class(colour), inside)


def _upright(x: float, height: int, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="6" y2="{}"/>').format(
        kind, x, x, height - 22
    )


def _along(left: float, right: float, y: float) -> Markup:
    return Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(left, right, y, y)


def _dot(x: float, y: float) -> Markup:
    return Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"/>').format(x, y)


def _polyline(points: Sequence[tuple[float, float]]) -> Markup:
    return Markup('<polyline points="{}"/>').format(_pairs(points))


def _pairs(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
