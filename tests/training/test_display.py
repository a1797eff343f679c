"""What a terminal shows: sparklines, flags that stay, and plain lines elsewhere."""

import io
import math

import pytest

from accord.runs.display import Display, LiveDisplay
from accord.runs.sparks import BLOCKS, Sparks, spark
from accord.types import Finding

FLAG = Finding(
    "flag.runaway", "warning", "loss 3", remedy="--learning-rate 1e-5", means="too large"
)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 7.0], "▁█"),
        ([3.0, 3.0], "▁▁"),
        ([0.0, math.nan, 7.0], "▁ █"),
        ([math.nan], " "),
        ([], ""),
        ([float(i) for i in range(8)], BLOCKS),
    ],
)
def test_spark(values, expected):
    assert spark(values) == expected


def test_many_values_become_means():
    assert spark([0.0, 2.0, 10.0, 10.0, 4.0, 4.0], width=3) == "▁█▃"
    assert len(spark([float(i) for i in range(500)])) == 32


def test_the_table_holds_what_is_there():
    sparks = Sparks()
    sparks.add({"loss": 0.7, "unknown": 1.0})
    sparks.add({"loss": 0.5, "rewards/accuracies": 0.6})
    assert sparks.rows() == [("loss", "█▁", " 0.500"), ("accuracy", "▁", " 0.600")]
    sparks.add({"rewards/margins": 0.25})
    assert sparks.rows()[-1] == ("margin", "▁", "+0.250")


def test_plain_flag():
    stream = io.StringIO()
    Display(stream).flagged(4, FLAG)
    assert (
        stream.getvalue()
        == "! step 4  flag.runaway: loss 3\n    too large\n    what to do: --learning-rate 1e-5\n"
    )


def test_live_picture():
    """Figures with sparklines, the flags so far and the bar; the flag's own lines stay above."""
    from rich.console import Console

    stream = io.StringIO()
    display = LiveDisplay()
    display.console = Console(file=stream, force_terminal=True, width=120, highlight=False)
    for step in (1, 2, 3):
        display.step(step, 10, {"loss": 1 / step, "rewards/accuracies": 0.5}, 100.0, 65.0)
    display.flagged(3, FLAG)
    display.flagged(3, Finding("flag.saturated", "note", "90 %"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(display._picture())
    display.close()
    shown = console.export_text()
    assert (
        "loss" in shown
        and "█▃▁" in shown
        and " 0.333" in shown
        and "red flags: runaway (step 3)" in shown
    )
    assert "3/10" in shown and "100 tok/s  1:05 left" in shown and "saturated" not in shown
    assert "what to do: --learning-rate 1e-5" in stream.getvalue()


def test_other_phases_have_no_table():
    display = LiveDisplay()
    display.progress("reference", 3, 9)
    assert display._picture() is display.bar
    display.close()


def test_what_takes_a_while_is_said():
    """Before the first update as a line; later in the bar, where it does not stay."""
    from rich.console import Console

    stream = io.StringIO()
    display = LiveDisplay()
    display.console = Console(file=stream, force_terminal=True, width=120, highlight=False)
    display.doing("evaluating 9 held-out rows")
    assert "· evaluating 9 held-out rows" in stream.getvalue()
    display.step(1, 10, {"loss": 0.7}, 100.0, 65.0)
    display.doing("answering 5 prompts")
    assert (
        display.bar.tasks[0].fields["figures"] == "answering 5 prompts"
        and "answering" not in stream.getvalue()
    )
    display.close()
