"""Settings far from any that is used are named, whatever the figures look like; sound ones are
not.
"""

import math

import pytest
from monitor.histories import FACTS, facts, told

from accord.monitor.history import History
from accord.monitor.settings import NAMES, SETTINGS, why_no_gradient
from accord.monitor.watch import look

LN2 = math.log(2)
# what a run looks like whose policy was thrown off, and one whose policy stays where it is
GONE = {
    "loss": 3.0,
    "rewards/accuracies": 0.5,
    "diag/drift": 6.0,
    "diag/log_ratio_token/chosen": -5.0,
    "diag/log_ratio_token/rejected": -6.0,
    "diag/chosen_down": 1.0,
    "grad_norm": 40.0,
}
STILL = {
    "loss": LN2,
    "rewards/accuracies": 0.5,
    "rewards/margins": 0.0,
    "diag/drift": 1e-7,
    "diag/ties": 1.0,
    "diag/log_ratio_token/chosen": 0.0,
    "diag/log_ratio_token/rejected": 0.0,
}
NO_EVALUATION = {
    f"{name}": None
    for name in (
        "eval_loss",
        "eval_rewards/accuracies",
        "eval_rewards/margins",
        "diag/eval_accuracy_low",
        "diag/eval_accuracy_high",
        "diag/eval_length_correlation",
    )
}


def run(figures, **changes):
    """Flags of a run with these figures from its sixth update on, and nothing held out."""
    return told(
        train=lambda step, line: figures if step > 5 else {},
        held=lambda step, line: NO_EVALUATION,
        facts=facts(**changes),
    )


@pytest.mark.parametrize(
    "name, figures, changes",
    [
        ("beta-too-high", GONE, {"options": {"beta": 10.0}}),
        ("beta-too-high", STILL, {"options": {"beta": 100.0}}),
        ("beta-too-high", GONE, {"options": {"beta": 100.0}, "usual_beta": 2.0}),
        ("beta-too-high", STILL, {"options": {"beta": 10.0, "normalize": "token_mean"}}),
        ("adapter-scale-high", GONE, {"adapter_scale": 2000.0}),
        ("adapter-scale-low", STILL, {"adapter_scale": 6.25e-6}),
        ("rate-too-high", GONE, {"usual_rate": 2e-6}),
        ("rate-too-low", STILL, {"usual_rate": 20.0}),
        ("clip-too-low", STILL | {"grad_norm": 1.0}, {"clip": 1e-9, "weights": 460_000}),
    ],
)
def test_a_setting_is_the_cause_and_its_symptoms_are_not_said(name, figures, changes):
    """Ties, a loss that rises, an accuracy of one half: each has been given another cause."""
    assert run(figures, **changes).keys() == {name}


def test_a_clip_hides_nothing_from_an_optimizer_without_epsilon():
    figures, changes = STILL | {"grad_norm": 1.0}, {"clip": 1e-9, "weights": 460_000}
    assert "clip-too-low" in run(figures, **changes)
    assert "clip-too-low" not in run(figures, **changes, epsilon=None)


@pytest.mark.parametrize("figures", [GONE, STILL], ids=["gone", "still"])
def test_usual_settings_are_no_cause(figures):
    """The same figures, and settings that are used somewhere."""
    for changes in (
        {"options": {"beta": 1.0}},
        {"options": {"beta": 10.0}, "usual_beta": 2.0},
        {"options": {"beta": 1.0, "normalize": "token_mean"}},
        {"adapter_scale": 0.25},
        {"adapter_scale": 64.0},
        {"usual_rate": 2e-5},
        {"usual_rate": 2e-2},
        {"clip": 0.01, "weights": 135_000_000},
        {"clip": None, "weights": 135_000_000},
    ):
        assert not set(NAMES) & run(figures, **changes).keys(), changes


@pytest.mark.parametrize(
    "changes",
    [{"adapter_scale": 2000.0}, {"adapter_scale": 1e-3}, {"usual_rate": 2e-6}, {"usual_rate": 2.0}],
)
def test_an_extreme_setting_of_a_run_that_learns_is_left_alone(changes):
    assert told(facts=facts(**changes)) == {}


def test_runs_shorter_than_a_window_are_looked_at_too():
    """Six updates of four rows: a window is sixteen lines."""
    history = History(facts(steps=6, batch_size=4, options={"beta": 100.0}))
    for step in (1, 2):
        history.add({"step": step, "loss": LN2, "rewards/margins": 0.1})
    assert [finding.check for finding in look(history, ())] == ["flag.beta-too-high"]


def test_where_training_has_no_reference_held_out_answers_say_that_nothing_moved():
    """SFT, SimPO, ORPO: no log-ratio in training; the held-out loss stays to the fifth digit."""
    gone = {name: math.nan for name in STILL if name.startswith(("diag/", "rewards/"))}
    found = told(
        train=lambda step, line: gone | {"loss": 2.0},
        held=lambda step, line: NO_EVALUATION | {"eval_loss": 2.0 + 1e-6 * step / 100},
        facts=facts(adapter_scale=1e-5, at_reference=None),
    )
    assert found.keys() == {"adapter-scale-low"}


# ---------------------------------------------------------------- no gradient


@pytest.mark.parametrize(
    "figures, said",
    [
        (
            {"rollouts/flat_groups": 1.0, "rollouts/reward": 1.0},
            "same reward (mean 1), so that none is better",
        ),
        ({"rollouts/reward_std": 0.0, "rollouts/reward": 0.25}, "same reward (mean 0.25)"),
        ({"loss": 0.0, "rewards/margins": 300.0}, "every row's loss is flat (margin 300)"),
        ({"loss": LN2, "rewards/margins": 0.0}, "does not reach a weight that trains"),
    ],
)
def test_no_gradient_says_why(figures, said):
    why, remedy = why_no_gradient(figures, {"beta": 0.1})
    assert said in why and remedy
    history = History(FACTS)
    for step in range(1, 13):
        history.add({"step": step, "grad_norm": 0.0, **figures})
    (found,) = (f for f in look(history, ()) if f.check == "flag.no-gradient")
    assert said in found.says and remedy == found.remedy


def test_one_gradient_is_enough():
    history = History(FACTS)
    for step in range(1, 13):
        history.add({"step": step, "grad_norm": float(step == 11), "rollouts/flat_groups": 1.0})
    assert "flag.no-gradient" not in {finding.check for finding in look(history, ())}


# ---------------------------------------------------------------- accuracy under one half


def held_out(before, now, name="eval_rewards/accuracies", ends="diag/eval_accuracy", by=0.1):
    def line(step, _):
        value = now if step else before
        return NO_EVALUATION | {name: value, f"{ends}_low": value - by, f"{ends}_high": value + by}

    return line


def test_labels_that_are_inverted_show_in_the_auc_of_labelled_rows():
    """KTO has no pairs: its accuracy is an AUC."""
    no_pairs = dict.fromkeys(("rewards/accuracies", "rewards/margins", "diag/ties"), math.nan)
    found = told(
        train=lambda step, line: no_pairs,
        held=held_out(0.5, 0.3, "diag/eval_auc", "diag/eval_auc"),
        facts=facts(objective="kto"),
    )
    assert found.keys() == {"sides-exchanged"}


@pytest.mark.parametrize(
    "before, now, raised",
    [
        (0.5, 0.3, True),  # with a reference all are ties at first
        (0.38, 0.2, True),  # a reward model, or SimPO, begins anywhere
        (0.25, 0.38, False),  # SimPO: rejected answers were likelier, and it learns
        (0.5, 0.45, False),  # the interval holds one half: noise is possible
    ],
)
def test_only_what_training_brought_under_one_half_is_exchanged(before, now, raised):
    found = told(held=held_out(before, now, by=0.1))
    assert ("sides-exchanged" in found) == raised
    assert not raised or "nothing-generalises" not in found


def test_an_accuracy_wholly_under_one_half_is_not_what_a_coin_gives():
    """1,600 rows at .42 from the start (SimPO before it has learned): neither a coin nor
    backwards.
    """
    low = told(
        train=lambda step, line: {"rewards/accuracies": 0.42}, facts=facts(at_reference=None)
    )
    assert not {"accuracy-stuck", "trained-backwards"} & low.keys()


def test_every_rule_of_settings_is_named_among_the_roots():
    assert {rule.name for rule in SETTINGS} == set(NAMES)
