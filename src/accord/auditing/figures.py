"""Figures as inline SVG: bars, interval plots, curves. Numbers and our own words only; texts are
escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH = 640
LABEL = 210  # pixels left of an interval plot, for its names
COLOURS = ("#2563eb", "#d97706", "#059669", "#7c3aed")


def _svg(height: int, body: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-label="{escape(title, quote=True)}">{body}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", cls: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{cls}">{escape(text)}</text>'
    )


def intervals(
    rows: Sequence[tuple[str, float, float, float]],
    low: float,
    high: float,
    mark: float | None,
    title: str,
) -> str:
    """Names with a point and its interval each, (name, value, low, high), on a common axis from
    `low` to `high`.
    """

    def x(value: float) -> float:
        return LABEL + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LABEL - 60)

    height = 22 * len(rows) + 30
    parts = (
        [f'<line x1="{x(0.5):.1f}" y1="6" x2="{x(0.5):.1f}" y2="{height - 22}" class="axis"/>']
        if low < 0.5 < high
        else []
    )
    if mark is not None:
        parts.append(
            f'<line x1="{x(mark):.1f}" y1="6" x2="{x(mark):.1f}" y2="{height - 22}" class="limit"/>'
        )
        parts.append(_text(x(mark), height - 8, f"{mark:g}", "middle", "small"))
    for at, (name, value, left, right) in enumerate(rows):
        y = 20 + 22 * at
        parts.append(_text(LABEL - 10, y + 4, name, "end"))
        parts.append(
            f'<line x1="{x(left):.1f}" y1="{y}" x2="{x(right):.1f}" y2="{y}" class="bar"/>'
        )
        parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4" class="dot"/>')
        parts.append(_text(WIDTH - 52, y + 4, f"{value:.3f}", "start", "small"))
    for value in (low, 0.5, high):
        parts.append(_text(x(value), height - 8, f"{value:g}", "middle", "small"))
    return _svg(height, "".join(parts), title)


def histogram(
    edges: Sequence[float], series: dict[str, Sequence[int]], title: str, unit: str
) -> str:
    """Stepped outlines of counts over bins of equal width on the page (edges in geometric
    order).
    """
    height, left, bottom = 220, 30, 180
    used = [at for at in range(len(edges) - 1) if any(counts[at] for counts in series.values())]
    first, last = (min(used), max(used) + 1) if used else (0, 1)
    step = (WIDTH - left - 20) / (last - first)
    top = max((max(counts) for counts in series.values()), default=1) or 1
    parts = [f'<line x1="{left}" y1="{bottom}" x2="{WIDTH - 20}" y2="{bottom}" class="axis"/>']
    for number, (name, counts) in enumerate(series.items()):
        points = []
        for at in range(first, last):
            y = bottom - 150 * counts[at] / top
            points += [
                f"{left + step * (at - first):.1f},{y:.1f}",
                f"{left + step * (at - first + 1):.1f},{y:.1f}",
            ]
        colour = COLOURS[number % len(COLOURS)]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"'
            ' stroke-width="2"/>'
        )
        parts.append(
            f'<rect x="{left + 130 * number}" y="8" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(_text(left + 130 * number + 18, 18, name))
    for at in range(first, last + 1, max(1, (last - first) // 6)):
        parts.append(
            _text(left + step * (at - first), bottom + 18, f"{edges[at]:,}", "middle", "small")
        )
    parts.append(_text(WIDTH - 20, bottom + 34, unit, "end", "small"))
    return _svg(height, "".join(parts), title)


def bars(rows: Sequence[tuple[str, float]], title: str, form: str = "{:.1%}") -> str:
    """Horizontal bars with their values."""
    height = 24 * len(rows) + 8
    top = max((value for _, value in rows), default=1.0) or 1.0
    parts = []
    for at, (name, value) in enumerate(rows):
        y = 6 + 24 * at
        parts.append(_text(LABEL - 10, y + 14, name[:34], "end"))
        parts.append(
            f'<rect x="{LABEL}" y="{y}" width="{max(1.0, (WIDTH - LABEL - 80) * value / top):.1f}"'
            f' height="18" fill="{COLOURS[0]}" rx="2"/>'
        )
        parts.append(_text(WIDTH - 70, y + 14, form.format(value), "start", "small"))
    return _svg(height, "".join(parts), title)


def curve(points: Sequence[tuple[float, float, float, float]], title: str) -> str:
    """(x, value, low, high) joined by a line, on a logarithmic axis,
    with the interval as a band.
    """
    from math import log

    height, left, right, bottom = 220, 50, WIDTH - 30, 180
    xs = [log(max(1.0, p[0])) for p in points]
    low, high = min(min(p[2] for p in points), 0.5), max(p[3] for p in points)

    def at(x: float, y: float) -> str:
        across = (x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5
        up = (y - low) / (high - low or 1)
        return f"{left + across * (right - left):.1f},{bottom - up * 150:.1f}"

    band = [at(x, p[2]) for x, p in zip(xs, points, strict=True)] + [
        at(x, p[3]) for x, p in reversed(list(zip(xs, points, strict=True)))
    ]
    line = [at(x, p[1]) for x, p in zip(xs, points, strict=True)]
    parts = [
        f'<polygon points="{" ".join(band)}" class="band"/>',
        f'<polyline points="{" ".join(line)}" fill="none" stroke="{COLOURS[0]}" stroke-width="2"/>',
    ]
    for place, p in zip(line, points, strict=True):
        x, y = map(float, place.split(","))
        parts += [
            f'<circle cx="{x}" cy="{y}" r="4" class="dot"/>',
            _text(x, y - 10, f"{p[1]:.3f}", "middle", "small"),
            _text(x, bottom + 18, f"{int(p[0]):,}", "middle", "small"),
        ]
    parts.append(_text(right, bottom + 34, "rows fitted on", "end", "small"))
    return _svg(height, "".join(parts), title)
