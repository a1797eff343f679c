"""Estimates, settings and points as the pages show them."""

from accord.evaluate.intervals import format_short_interval
from accord.pages.comparison import settings
from accord.pages.page import told
from accord.pages.scatter import HEIGHT, WIDTH, Dot, scatter


def estimate(value, low, high) -> dict:
    return {"value": value, "low": low, "high": high, "n": 9}


def test_intervals_have_one_style():
    assert format_short_interval(estimate(0.5, 0.25, 0.75)) == "0.500 (0.250 to 0.750)"
    assert format_short_interval(estimate(0.5, -0.25, 0.75)) == "0.500 (-0.250 to 0.750)"
    assert format_short_interval(estimate(-12.0, -13.0, -11.0)) == "-12.0 (-13.0 to -11.0)"
    assert format_short_interval(None) == "–"


def test_a_line_may_break_before_an_interval_alone():
    """Squeezed cells broke numbers in two."""
    assert told(estimate(0.5, -0.25, 0.75)) == "<b>0.500</b> <small>(-0.250 to 0.750)</small>"
    assert told(None) == "–"


def test_settings_read_as_in_a_recipe():
    changes = {
        "objective": {"name": "dpo", "beta": 0.1},
        "train.learning_rate": None,
        "train.warmup": 0,
    }
    assert (
        settings(changes)
        == "objective.name = dpo, objective.beta = 0.1, train.learning_rate = its own,"
        " train.warmup = 0"
    )
    assert settings({}) == "none"


def test_points_lie_inside_and_names_are_text():
    dots = [
        Dot("<a>", estimate(0.0, -1.0, 2.0), estimate(5.0, 4.0, 6.0), 1),
        Dot("b", estimate(1.0, 1.0, 1.0), estimate(9.0, 9.0, 9.0), 2),
    ]
    drawn = scatter("t", dots, "KL")
    places = [
        float(part.split('"')[1])
        for part in drawn.replace("cy=", "|").replace("cx=", "|").split("|")[1:]
    ]
    assert (
        len(places) == 4
        and all(0 < x < WIDTH for x in places[::2])
        and all(0 < y < HEIGHT for y in places[1::2])
    )
    # more KL further right, more reward further up
    assert places[0] < places[2] and places[1] > places[3]
    assert "&lt;a&gt;" in drawn and "<a>" not in drawn
