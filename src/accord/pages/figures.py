"""Line charts as inline SVG. The page's own variables colour them, so that light, dark and print
all work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from accord.pages.plane import BOTTOM, TOP, Plane, frame
from accord.pages.thinned import Point, extremes, finite, not_finite

WIDTH, HEIGHT = 420, 200
POINTS = 240  # a line has no more: pixels would not show them

BROKEN = 40  # most marks of values that are not finite
__all__ = ["Line", "Mark", "Point", "chart", "smooth"]


@dataclass(frozen=True)
class Line:
    """One curve; `style` is a class of the stylesheet: raw, smooth, held, …"""

    name: str
    points: Sequence[Point]
    colour: int = 1  # index in the page's palette, from 1
    style: str = "line"
    keyed: bool = True  # True if the legend names it


@dataclass(frozen=True)
class Mark:
    """A vertical line on the time axis, with its meaning."""

    step: float
    label: str
    title: str
    kind: str = "warning"


def chart(
    title: str, lines: Sequence[Line], marks: Sequence[Mark] = (), zero: float | None = None
) -> Markup | None:
    """Draw a figure with axes; None if no line has two finite points.

    Args:
      zero: a value that gets a thin line of its own, such as chance or no change.
    """
    broken = [(line, not_finite(line.points, BROKEN)) for line in lines]
    lines = [replace(line, points=extremes(line.points, POINTS)) for line in lines]
    lines = [line for line in lines if line.points]
    if not any(len(line.points) > 1 for line in lines):
        return None
    scale = _around([p for line in lines for p in line.points], zero)
    level = Markup("") if zero is None else scale.across(zero, "level")
    parts = [
        scale.axes(_short, _whole),
        level,
        *(_mark(scale, mark) for mark in marks),
        *(_curve(scale, line) for line in lines),
        *(_broken(scale, line, step) for line, steps in broken for step in steps),
    ]
    named = [line for line in lines if line.keyed] if len(lines) > 1 else []
    keys = [(f"c{line.colour} {line.style}", line.name) for line in named]
    return frame(title, Markup("").join(parts), WIDTH, HEIGHT, keys)


def smooth(points: Sequence[Point], half_life: float) -> list[Point]:
    """Compute an exponential moving average, corrected for its start. The half-life is a number of
    points.
    """
    keep = 0.5 ** (1 / half_life)
    out, total, weight = [], 0.0, 0.0
    for step, value in finite(points):
        total, weight = keep * total + value, keep * weight + 1
        out.append((step, total / weight))
    return out


def _around(points: Sequence[Point], zero: float | None) -> Plane:
    steps = [s for s, _ in points]
    values = [v for _, v in points] + ([] if zero is None else [zero])
    low, high = min(values), max(values)
    # the rounding of a mean is no curve
    flat = high - low < 1e-9 * max(abs(high), abs(low))
    room = (0.0 if flat else 0.06 * (high - low)) or max(abs(high), 1.0) * 0.1
    right = max(steps) if max(steps) > min(steps) else min(steps) + 1
    return Plane(min(steps), right, low - room, high + room, WIDTH, HEIGHT)


def _whole(step: float) -> str | None:
    return f"{int(step):,}" if step == int(step) else None


def _mark(scale: Plane, mark: Mark) -> Markup:
    if not scale.left <= mark.step <= scale.right:
        return Markup("")
    x = f"{scale.x(mark.step):.1f}"
    return Markup(
        '<g class="mark {}"><title>{}</title><line x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}"'
        ' y="{}" text-anchor="middle">{}</text></g>'
    ).format(mark.kind, mark.title, x, x, TOP, HEIGHT - BOTTOM, x, TOP - 3, mark.label)


def _curve(scale: Plane, line: Line) -> Markup:
    dots = (
        [_dot(scale, line.name, point) for point in line.points]
        if len(line.points) == 1 or line.style == "held"
        else []
    )
    path = " ".join(f"{scale.x(s):.1f},{scale.y(v):.1f}" for s, v in line.points)
    return Markup('<g class="c{} {}"><title>{}</title><polyline points="{}"/>{}</g>').format(
        line.colour, line.style, line.name, path, Markup("").join(dots)
    )


def _dot(scale: Plane, name: str, point: Point) -> Markup:
    step, value = point
    return Markup(
        '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}: {} at step'
        " {:g}</title></circle>"
    ).format(scale.x(step), scale.y(value), name, _short(value), step)


def _broken(scale: Plane, line: Line, step: float) -> Markup:
    """Mark a value that has no place on the axis, at the upper edge."""
    if not scale.left <= step <= scale.right:
        return Markup("")
    return Markup(
        '<text class="broken" x="{:.1f}" y="{}" text-anchor="middle">×<title>{}: not a finite'
        " number at step {:g}</title></text>"
    ).format(scale.x(step), TOP + 10, line.name, step)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 10_000 else f"{value:,.0f}"
