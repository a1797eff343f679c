"""The remedies of `chosen-falling`, in a world where dpo loses its chosen answer: the playground's
preset Displacement, trained in benchmarks/flags/world.py.
"""

import json
import re
from pathlib import Path

import pytest

from accord.objectives import OBJECTIVES
from benchmarks.flags.world import BETA, FEATURES, RATE, REFERENCE, TOKENS, UPDATES, trained

ROOT = Path(__file__).parents[2]
HOLDING = tuple(each.name for each in OBJECTIVES.values() if each.holds)  # what the flag names


def test_the_world_is_the_playgrounds():
    """Numbers of its answers: probability, reward, tokens, features."""
    presets = (ROOT / "src/accord/play/page/presets.js").read_text(encoding="utf-8")
    preset = presets.split("displacement: {")[1].split("\n  },")[0]
    answers = re.findall(r"plain\('[^']*', ([\d.]+), [-\d.]+, (\d+), \[(.+?), (.+?)\]\)", preset)
    read = [tuple(map(float, answer)) for answer in answers]
    assert read == [(p, TOKENS, *features) for p, features in zip(REFERENCE, FEATURES, strict=True)]
    assert f"rate: {RATE}, steps: {UPDATES},\n      beta: {BETA}," in preset


def test_the_flag_is_raised_where_dpo_loses_its_chosen_answer():
    found = trained("dpo")
    assert found["flag"] is not None and found["flag"] < UPDATES / 2
    assert found["rejected"] < found["chosen"] < -10
    assert found["probability"] < 1e-4


@pytest.mark.parametrize("method", HOLDING)
def test_what_holds_the_chosen_answer_ends_above_its_start(method):
    """From the same start, by as many updates; apo_zero alone loses more than a few hundredths of
    a nat on the way.
    """
    found = trained(method)
    assert found["flag"] is None
    assert found["chosen"] > 0 > found["rejected"]
    assert found["lowest"] > (-0.6 if method == "apo_zero" else -0.03)
    assert found["probability"] > REFERENCE[0]


def test_the_published_table_is_of_this_world_and_has_every_method_named():
    known = json.loads((ROOT / "benchmarks/results/remedies.json").read_text(encoding="utf-8"))
    assert {name for name in known["preset"] if name in OBJECTIVES} == {"dpo", "ipo", *HOLDING}
    assert known["preset"]["dpo"] == pytest.approx(trained("dpo"), rel=1e-9, abs=1e-12)
