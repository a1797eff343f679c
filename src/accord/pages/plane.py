"""Coordinates of figures on an SVG, with the lines and words beside them. Every picture of the
pages uses them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 24
COLOURS = 8  # size of the stylesheet's palette


@dataclass(frozen=True)
class Plane:
    """A rectangle of figures, drawn `width` × `height` units large."""

    left: float
    right: float
    low: float
    high: float
    width: int
    height: int

    def x(self, value: float) -> float:
        return LEFT + (value - self.left) / (self.right - self.left) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (self.height - TOP - BOTTOM)

    def across(self, value: float, kind: str) -> Markup:
        """Draw a level line through the whole plane."""
        y = f"{self.y(value):.1f}"
        return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            kind, LEFT, self.width - RIGHT, y, y
        )

    def axes(self, up: Callable[[float], str], along: Callable[[float], str | None]) -> Markup:
        """Draw level lines with their values, and values below; `along` returns None for values
        that are not written.
        """
        parts = []
        for value in ticks(self.low, self.high):
            parts.append(self.across(value, "grid"))
            place = Markup(
                '<text class="tick" x="{}" y="{:.1f}" dy="3.5" text-anchor="end">{}</text>'
            )
            parts.append(place.format(LEFT - 5, self.y(value), up(value)))
        for value in ticks(self.left, self.right, 5):
            if (word := along(value)) is not None:
                place = Markup(
                    '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
                )
                parts.append(place.format(self.x(value), self.height - 7, word))
        return Markup("").join(parts)


def frame(
    title: str,
    body: Markup,
    width: int,
    height: int,
    keys: Sequence[tuple[str, str]] = (),
    *,
    says: str = "",
    below: str = "",
) -> Markup:
    """Put a picture under its title, with a legend.

    Args:
      keys: class of the stylesheet and name of each line of the legend.
      says: a sentence in place of a legend.
      below: label of the horizontal axis.
    """
    legend = Markup("").join(
        Markup('<span class="key"><i class="{}"></i>{}</span>').format(*key) for key in keys
    )
    axis = Markup("<figcaption>{}</figcaption>").format(below) if below else Markup("")
    return Markup(
        '<figure class="chart"><figcaption><b>{}</b> {}</figcaption><svg viewBox="0 0 {} {}"'
        ' role="img" aria-label="{}">{}</svg>{}</figure>'
    ).format(title, says + legend, width, height, title, body, axis)


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "tick") -> Markup:
    """Write words into a picture."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, words
    )


def colour_class(number: int) -> str:
    """Return the class of a colour, from 1; after its last colour the palette begins again."""
    return f"c{(number - 1) % COLOURS + 1}"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Choose round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
