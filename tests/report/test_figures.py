"""Curves: where points land, what is left out, and that any text is only text."""

import math
import re

import pytest

from accord.pages.figures import HEIGHT, WIDTH, Line, Mark, chart, smooth
from accord.pages.plane import LEFT, RIGHT, TOP, ticks
from accord.pages.thinned import extremes, means, not_finite


def points_of(svg) -> list[tuple[float, float]]:
    return [
        tuple(map(float, pair.split(",")))
        for pair in re.search(r'points="([^"]+)"', svg).group(1).split()
    ]


def test_first_left_last_right_higher_up():
    found = points_of(chart("t", [Line("a", [(0, 1.0), (5, 3.0), (10, 2.0)])]))
    assert found[0][0] == LEFT and found[-1][0] == WIDTH - RIGHT
    assert found[1][1] < found[2][1] < found[0][1] and all(TOP <= y <= HEIGHT for _, y in found)


def test_what_is_not_finite_is_left_out():
    assert (
        len(points_of(chart("t", [Line("a", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)])])))
        == 2
    )
    assert chart("t", [Line("a", [(0, 1.0)])]) is None and chart("t", []) is None


def test_a_flat_line_has_a_scale():
    assert "nan" not in chart("t", [Line("a", [(0, 0.0), (1, 0.0)])]) and "nan" not in chart(
        "t", [Line("a", [(3, 7.0), (3, 7.0)])]
    )


def test_text_is_escaped():
    found = chart("<b>", [Line('"><script>', [(0, 1.0), (1, 2.0)])], [Mark(0.5, "1", "<i>")])
    assert (
        "<script" not in found
        and "<b><" not in found.replace("<b>&lt;b&gt;</b>", "")
        and "&lt;i&gt;" in found
    )


def test_a_mark_outside_is_left_out():
    line = Line("a", [(0, 1.0), (10, 2.0)])
    assert "mark" in chart("t", [line], [Mark(5, "1", "x")]) and "mark" not in chart(
        "t", [line], [Mark(11, "1", "x")]
    )


def test_smooth_starts_without_bias():
    """The first value is the first value; then halves of what is one half-life away."""
    assert smooth([(0, 4.0), (1, 4.0)], 1) == [(0, 4.0), (1, 4.0)]
    assert smooth([(0, 1.0), (1, 4.0)], 1)[1] == (1, pytest.approx(3.0))


def test_one_spike_among_five_thousand_updates_is_drawn():
    """A mean of 21 made 12 of a loss of 250."""
    points = [(step, 250.0 if step == 2_345 else 0.6) for step in range(1, 5_001)]
    for kept in (extremes(points, 240), extremes(points, 500)):
        assert (2_345, 250.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
        assert kept == sorted(kept)
    assert len(extremes(points, 240)) <= 240 and extremes(points[:240], 240) == points[:240]
    drawn = chart("t", [Line("loss", points)])
    assert ">200<" in drawn  # the axis reaches it


def test_a_trend_is_a_mean_of_equal_stretches():
    assert means([(0, 1.0), (1, 2.0)], 2) == [(0, 1.0), (1, 2.0)]
    many = means([(i, float(i)) for i in range(1000)], 100)
    assert len(many) == 100 and many[0] == (4.5, 4.5) and many[-1] == (994.5, 994.5)


def test_what_is_not_finite_is_marked():
    points = [(1, 1.0), (2, math.nan), (3, 2.0), (4, -math.inf), (5, 1.0)]
    assert not_finite(points, 10) == [2, 4] and extremes(points, 10) == points[::2]
    assert not_finite([(s, math.nan) for s in range(100)], 3) == [0, 49, 99]
    drawn = chart("t", [Line("loss", points)])
    assert drawn.count('class="broken"') == 2 and "loss: not a finite number at step 4" in drawn


@pytest.mark.parametrize(
    "low, high, expected",
    [(0, 1, [0, 0.5, 1.0]), (-0.3, 0.9, [0, 0.5]), (0, 100, [0, 50, 100]), (0.69, 0.7, None)],
)
def test_ticks_are_round(low, high, expected):
    found = ticks(low, high)
    assert all(low <= tick <= high + 1e-9 for tick in found) and 2 <= len(found) <= 6
    assert expected is None or found == pytest.approx(expected)
