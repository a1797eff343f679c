"""Points with intervals on both axes, lines through some of them, and known bounds, as inline SVG
in the report's colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.pages.plane import Plane, colour_class, frame

# two fit beside each other on a wide page, so that words keep about their own size
WIDTH, HEIGHT = 620, 360


@dataclass(frozen=True)
class Dot:
    """One measured point; `across` and `up` are estimates: value, low, high."""

    name: str
    across: dict
    up: dict
    colour: int
    marked: bool = False  # drawn hollow
    line: int = 0  # its line among those of its colour, such as a seed


@dataclass(frozen=True)
class Curve:
    """A line through (x, y) points, such as a bound. It is solid as far as samples support it, then
    dotted.
    """

    name: str
    points: Sequence[tuple[float, float]]
    supported: Sequence[bool]
    colour: int = 0  # 0: the colour of text


def scatter(
    title: str,
    dots: Sequence[Dot],
    across: str,
    curves: Sequence[Curve] = (),
    joined: bool = False,
    names: Sequence[str] = (),
) -> Markup:
    """Draw a figure with axes.

    Args:
      across: label of the horizontal axis.
      joined: join dots of one colour and line in the order given.
      names: names of the colours, if several dots share one; else each dot has its own.
    """
    scale = _around(dots, curves)
    parts = [
        scale.axes("{:.3g}".format, "{:.3g}".format),
        *(_curve(scale, curve) for curve in curves),
    ]
    if joined:
        lines = sorted({(dot.colour, dot.line) for dot in dots})
        parts += [
            _path(scale, [dot for dot in dots if (dot.colour, dot.line) == line]) for line in lines
        ]
    parts += [_dot(scale, dot) for dot in dots]
    named = list(enumerate(names, 1)) or [(dot.colour, dot.name) for dot in dots]
    keys = [(colour_class(colour), name) for colour, name in named]
    keys += [(colour_class(c.colour) if c.colour else "", c.name) for c in curves]
    return frame(title, Markup("").join(parts), WIDTH, HEIGHT, keys, below=across)


def ends(estimate: Mapping) -> tuple[float, float]:
    """Return both ends of an estimate's bar. Without an interval both are its value."""
    low, high = (
        estimate["value"] if estimate[end] is None else estimate[end] for end in ("low", "high")
    )
    return low, high


def _around(dots: Sequence[Dot], curves: Sequence[Curve]) -> Plane:
    xs = [end for d in dots for end in ends(d.across)] + [x for c in curves for x, _ in c.points]
    ys = [end for d in dots for end in ends(d.up)] + [y for c in curves for _, y in c.points]
    spare_x, spare_y = (0.05 * (max(v) - min(v)) or 0.1 for v in (xs, ys))
    return Plane(
        min(xs) - spare_x, max(xs) + spare_x, min(ys) - spare_y, max(ys) + spare_y, WIDTH, HEIGHT
    )


def _curve(scale: Plane, curve: Curve) -> Markup:
    """Draw the supported part solid and the rest dotted. Both share the point where they meet."""
    parts = []
    for known in (True, False):
        shown = [has == known for has in curve.supported]
        if not known:  # from the last supported point on
            shown = [here or after for here, after in zip(shown, [*shown[1:], False], strict=True)]
        points = [point for point, here in zip(curve.points, shown, strict=True) if here]
        if len(points) > 1:
            style = "smooth" if known else "held"
            parts.append(
                Markup('<g class="{}"><polyline points="{}"/></g>').format(
                    style, _line(scale, points)
                )
            )
    colour = colour_class(curve.colour) if curve.colour else ""
    return Markup('<g class="{}"><title>{}</title>{}</g>').format(
        colour, curve.name, Markup("").join(parts)
    )


def _path(scale: Plane, dots: Sequence[Dot]) -> Markup:
    points = [(dot.across["value"], dot.up["value"]) for dot in dots]
    return Markup('<g class="{} raw"><polyline points="{}"/></g>').format(
        colour_class(dots[0].colour), _line(scale, points)
    )


def _line(scale: Plane, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)


def _dot(scale: Plane, dot: Dot) -> Markup:
    x, y = scale.x(dot.across["value"]), scale.y(dot.up["value"])
    (left, right), (low, high) = ends(dot.across), ends(dot.up)
    bars = Markup(
        '<path d="M{:.1f} {:.1f}H{:.1f}M{:.1f} {:.1f}V{:.1f}" stroke="currentColor"'
        ' stroke-opacity=".45" fill="none"/>'
    ).format(scale.x(left), y, scale.x(right), x, scale.y(low), scale.y(high))
    hollow = Markup(' style="fill:var(--card);stroke:currentColor"') if dot.marked else Markup("")
    return Markup(
        '<g class="{}"><title>{}: {:.3g} at {:.3g}</title>{}<circle class="dot" cx="{:.1f}"'
        ' cy="{:.1f}" r="3.2"{}/></g>'
    ).format(
        colour_class(dot.colour), dot.name, dot.up["value"], dot.across["value"], bars, x, y, hollow
    )
