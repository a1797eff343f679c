"""Names and keywords: a wrong one is an error in words, before anything is trained."""

import itertools
import json
import math

import pytest
import torch
from conftest import assert_no_faults
from objectives.rows import VARIANTS, Case, label, pairs
from oracles.objectives import EXPECTED

from accord.objectives import OBJECTIVES, PERMISSIONS, POLICY_OBJECTIVES, dpo, resolve, simpo
from accord.types import UsageError


def refusal(name, options=None, **more):
    with pytest.raises(UsageError) as caught:
        resolve(name, options, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ddpo", "dpo"),
        ("sigmoid", "dpo"),
        ("SimPO", "simpo"),
        ("slic", "hinge"),
        ("rdpo", "robust"),
        ("conservative-dpo", "cdpo"),
    ],
)
def test_an_unknown_method_names_the_nearest(said, meant):
    text = refusal(said)
    assert f"did you mean '{meant}'?" in text
    assert all(name in text for name in OBJECTIVES) and "module:function" in text


def test_a_method_that_resembles_none_suggests_none():
    assert "did you mean" not in refusal("zzzzzz")
    assert "must be a word" in refusal(5)


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("dpo", "label_smooth", "label_smoothing"),
        ("dpo", "epsilon", "label_smoothing"),
        ("ipo", "tau", "beta"),
        ("orpo", "lambda", "weight"),
        ("cpo", "cpo_alpha", "alpha"),
        ("simpo", "simpo-gamma", "gamma"),
        ("kto", "desirable_wieght", "desirable_weight"),
    ],
)
def test_an_unknown_keyword_names_the_nearest(name, said, meant):
    text = refusal(name, {said: 0.1})
    assert f"did you mean {meant!r}?" in text and "It accepts: " in text
    assert all(keyword in text for keyword in OBJECTIVES[name].kinds)


@pytest.mark.parametrize(
    ("name", "inert"),
    [
        ("hinge", "label_smoothing"),
        ("ipo", "gamma"),
        ("sft", "beta"),
        ("kto", "z0"),
        ("bco", "delta"),
        ("orpo", "beta"),
    ],
)
def test_a_keyword_that_would_do_nothing_is_refused(name, inert):
    """`label_smoothing` with hinge is ignored elsewhere; z0 is the step's to compute, not the
    user's to set.
    """
    assert "does not know" in refusal(name, {inert: 0.1})


BETA = [name for name, row in OBJECTIVES.items() if "beta" in row.kinds]
WRONG = (
    [
        (name, "beta", value)
        for name in BETA
        for value in (0, -0.1, math.inf, math.nan, True, "0.1", None)
    ]
    + [
        (name, "label_smoothing", value)
        for name in ("dpo", "cdpo", "robust")
        for value in (-0.01, 0.5, 0.7, False)
    ]
    + [("orpo", "weight", value) for value in (0, -1, math.inf, "high")]
    + [
        ("simpo", keyword, value)
        for keyword in ("gamma", "gamma_beta_ratio")
        for value in (-0.1, math.nan, True)
    ]
    + [("cpo", "alpha", value) for value in (-0.1, math.inf, True)]
    + [("kto", keyword, 0) for keyword in ("desirable_weight", "undesirable_weight")]
    + [("ipo", "normalize", value) for value in ("mean", 1, True, None)]
    + [("cpo", "nll_normalize", "sum")]
    + [("exo", "label_smoothing", value) for value in (0, 0.5)]
    + [("f_dpo", "alpha", value) for value in (0, 1, math.nan)]
    + [("dpo_shift", "shift", value) for value in (0, 1.01)]
    + [(name, "alpha", value) for name in ("rpo", "r_dpo") for value in (-0.1, "1")]
    + [("dpop", "penalty", -1), ("chipo", "limit", 0), ("odpo", "margin", "none")]
    + [("alphapo", "alpha", math.inf), ("alphapo", "gamma", -1), ("odpo", "alpha", 0)]
    + [("f_dpo", "divergence", "reverse_kl")]
)


@pytest.mark.parametrize(("name", "keyword", "value"), WRONG)
def test_a_value_out_of_bounds_is_refused_in_words(name, keyword, value):
    text = refusal(name, {keyword: value})
    assert text.startswith(f"{name}: {keyword} = {value!r} is not accepted; it must be ")


def test_bounds_hold_in_python_too():
    rows = pairs([-1.0], [-2.0])
    with pytest.raises(UsageError, match="above 0"):
        dpo(rows, rows, beta=-1)
    with pytest.raises(UsageError, match="below 0.5"):
        dpo(rows, rows, label_smoothing=0.5)
    with pytest.raises(UsageError, match="both"):
        simpo(rows, gamma=1.0, gamma_beta_ratio=0.5)


def test_numbers_beyond_all_floats():
    assert "beta = 1000" in refusal("dpo", {"beta": 10**400})
    assert "beta = a number of thousands of digits is not accepted" in refusal(
        "dpo", {"beta": 10**5_000}
    )


@pytest.mark.parametrize("name", BETA)
def test_a_tiny_beta_needs_permission(name):
    assert "tiny_beta" in refusal(name, {"beta": 0.0049})
    assert resolve(name, {"beta": 0.005}).options["beta"] == 0.005
    allowed = resolve(name, {"beta": 0.0049}, allow=frozenset({"tiny_beta"}))
    assert allowed.options["beta"] == 0.0049
    assert "tiny_beta" in PERMISSIONS


def test_simpo_takes_one_margin():
    text = refusal("simpo", {"gamma": 1.0, "gamma_beta_ratio": 0.5})
    assert "gamma = 1" in text and "gamma_beta_ratio = 0.5" in text and "Keep one" in text
    assert resolve("simpo").options == {"beta": 2.0, "gamma": None, "gamma_beta_ratio": 0.5}
    assert resolve("simpo", {"gamma": 0}).options == {
        "beta": 2.0,
        "gamma": 0.0,
        "gamma_beta_ratio": None,
    }


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_options_are_complete_and_survive_a_file(variant):
    """A run writes its resolved options; reading them back gives the same objective."""
    name, given = variant
    bound = resolve(name, given)
    assert set(bound.options) == set(OBJECTIVES[name].kinds)
    assert given.items() <= bound.options.items()
    assert resolve(name, json.loads(json.dumps(bound.options))).options == bound.options
    assert all(type(value) in (float, str, type(None)) for value in bound.options.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_defaults_and_rate(name):
    """Those that `oracles/objectives.py` expects, from the papers and from measurements."""
    bound, known = resolve(name), EXPECTED[name]
    assert bound.options == known.defaults and bound.learning_rate == known.rate


def test_a_suggested_rate_by_hand():
    """One over the width from that model's on; no larger for a smaller one; a tenth of it for all
    weights.
    """
    bound = resolve("simpo")
    rates = [
        bound.suggested_rate(width, adapters)
        for width, adapters in ((576, True), (1152, True), (64, True), (1152, False))
    ]
    assert rates == pytest.approx([4e-4, 2e-4, 4e-4, 2e-5])


def test_a_reward_model_s_convention_says_what_becomes_of_margins():
    said = {
        margin: resolve("bradley_terry", {"margin": margin}).convention
        for margin in ("column", "none")
    }
    assert "less each row's margin" in said["column"] and "margins ignored" in said["none"]


def test_the_schema_says_what_is_accepted_and_by_default():
    assert resolve("dpo").schema == {
        "beta": {"accepts": "a finite number above 0", "default": 0.1},
        "label_smoothing": {"accepts": "a finite number at least 0 and below 0.5", "default": 0.0},
    }
    assert resolve("ipo").schema["normalize"] == {
        "accepts": "token_mean or sequence_sum",
        "default": "token_mean",
    }
    assert resolve("simpo").schema["gamma"] == {
        "accepts": "a finite number at least 0, or nothing",
        "default": None,
    }
    assert resolve("sft").schema == {}


def test_a_reference_is_given_exactly_where_one_is_used():
    rows = pairs([-1.0], [-2.0])
    with pytest.raises(UsageError, match="dpo measures against a reference"):
        resolve("dpo").losses(rows)
    with pytest.raises(UsageError, match="simpo uses no reference"):
        resolve("simpo").losses(rows, rows)


# ---------------------------------------------------------------- what is said aloud


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("dpo", {}, ["sums", "beta = 0.1", "labels taken as true"]),
        ("cdpo", {}, ["sums", "10 % of labels taken to be flipped"]),
        ("robust", {"label_smoothing": 0.25}, ["25 % of labels corrected", "negative"]),
        ("ipo", {}, ["token_mean", "means", "margin of 5 nats per token"]),
        (
            "ipo",
            {"normalize": "sequence_sum", "beta": 0.5},
            ["sequence_sum", "sums", "margin of 1 nats per answer"],
        ),
        ("hinge", {"beta": 0.2}, ["5 nats"]),
        (
            "simpo",
            {"beta": 2.5, "gamma_beta_ratio": 0.4},
            ["means", "gamma = 1,", "gamma / beta = 0.4", "no NLL"],
        ),
        ("simpo", {"beta": 0.1, "gamma": 0.5}, ["gamma = 0.5,", "gamma / beta = 5"]),
        ("orpo", {"weight": 0.25}, ["means", "lambda = 0.25", "no prompt tokens"]),
        ("cpo", {}, ["sums", "alpha = 1", "mean over its tokens"]),
        ("cpo", {"nll_normalize": "sequence_sum"}, ["sum over its tokens"]),
        ("kto", {"undesirable_weight": 1.5}, ["sums", "other prompts", "good 1, bad 1.5"]),
        ("sft", {}, ["tokens of the whole batch"]),
    ],
)
def test_the_convention_is_named_aloud(name, options, says):
    line = resolve(name, options).convention
    assert "\n" not in line
    for words in says:
        assert words in line


# ---------------------------------------------------------------- implicit rewards

LOSS_FROM_REWARDS = {
    "dpo": lambda margin, nll: torch.log1p(torch.exp(-margin)),
    "cdpo": (
        lambda margin, nll: (
            0.9 * torch.log1p(torch.exp(-margin)) + 0.1 * torch.log1p(torch.exp(margin))
        )
    ),
    "robust": (
        lambda margin, nll: (
            (0.9 * torch.log1p((-margin).exp()) - 0.1 * torch.log1p(margin.exp())) / 0.8
        )
    ),
    "ipo": lambda margin, nll: (margin / 0.1 - 5) ** 2,
    "hinge": lambda margin, nll: (1 - margin).clamp(min=0),
    "simpo": lambda margin, nll: torch.log1p(torch.exp(1 - margin)),
    "orpo": lambda margin, nll: nll + 0.1 * torch.log1p(torch.exp(-margin)),
    "cpo": lambda margin, nll: nll + torch.log1p(torch.exp(-margin)),
}


def rewards(case):
    """Implicit rewards of both answers of each row. [2, B] of [N]"""
    rows = [
        Case(case.bound.name).bound.reward(policy, reference) for policy, reference in sides(case)
    ]
    return torch.stack(rows)


def sides(case):
    for slot in (0, 1):
        yield (
            pairs(
                case.policy[slot], case.policy[slot], case.counts[slot], case.counts[slot]
            ).chosen,
            pairs(
                case.reference[slot], case.reference[slot], case.counts[slot], case.counts[slot]
            ).chosen,
        )


@pytest.mark.parametrize("name", LOSS_FROM_REWARDS)
def test_the_loss_on_pairs_is_a_function_of_the_difference_of_rewards(name):
    """So `rewards/margins` is the very number that the objective works on."""
    case = Case(name)
    chosen, rejected = rewards(case)
    nll = -case.policy[0] / case.counts[0]
    torch.testing.assert_close(LOSS_FROM_REWARDS[name](chosen - rejected, nll), case.losses())


def test_rewards_of_objectives_that_see_one_answer():
    case = Case("kto")
    torch.testing.assert_close(rewards(case), 0.1 * (case.policy - case.reference))
    torch.testing.assert_close(rewards(Case("sft")), case.policy / case.counts)


@pytest.mark.parametrize(
    "name", [name for name, objective in OBJECTIVES.items() if objective.reference]
)
def test_a_reward_against_a_reference_needs_one(name):
    with pytest.raises(UsageError, match="reference"):
        resolve(name).reward(pairs([-1.0], [-2.0]).chosen)


@pytest.mark.parametrize(
    ("name", "options", "of_ratio"),
    [
        ("dpo_norm", {}, None),
        ("f_dpo", {"divergence": "forward_kl"}, lambda r: 1 - torch.exp(-r)),
        ("f_dpo", {}, lambda r: (2 / (1 + torch.exp(-r))).log()),
        ("f_dpo", {"divergence": "alpha"}, lambda r: (1 - torch.exp(-r / 2)) * 2),
        ("chipo", {}, lambda r: r.exp() - 1 + r),
    ],
)
def test_rewards_are_on_the_scale_of_the_objective(name, options, of_ratio):
    """They are 0 at the reference, and their difference is what the loss compares."""
    case = Case(name, options)
    (chosen, reference), _ = sides(case)
    ratio = chosen.sum - reference.sum
    expected = ratio / chosen.count if of_ratio is None else of_ratio(ratio)
    found = case.bound.reward(chosen, reference)
    torch.testing.assert_close(found, case.bound.options["beta"] * expected)
    assert not case.bound.reward(reference, reference).any()


def test_every_objective_says_when():
    """One line each, and a group that is not split by another: `accord methods` prints both."""
    methods = (OBJECTIVES | POLICY_OBJECTIVES).values()
    assert all(0 < len(row.when) < 80 and "\n" not in row.when for row in methods)
    groups = [row.group for row in methods]
    assert len(list(itertools.groupby(groups))) == len(set(groups))


def test_a_bound_objective_answers_for_its_row_of_the_table():
    def check(name):
        bound, objective = resolve(name), OBJECTIVES[name]
        for asked in (
            "name",
            "rows",
            "reference",
            "denominator",
            "couples_batch",
            "context",
            "learning_rate",
            "source",
        ):
            assert getattr(bound, asked) == getattr(objective, asked)
        assert bound.name == name and 1e-6 < bound.learning_rate < 1e-3 and bound.source
        assert bound.rows in ("pairs", "labelled", "demonstrations") and bound.denominator in (
            "rows",
            "tokens",
        )

    assert_no_faults(OBJECTIVES, check)


@pytest.mark.parametrize(
    ("name", "option", "value", "hint"),
    [
        ("dpo", "beta", 0, "Papers use 0.01 to 0.5."),
        ("cpo", "beta", 0, "Papers use 0.01 to 0.5."),
        ("kto", "beta", 0, "Papers use 0.01 to 0.5."),
        ("kto", "desirable_weight", 0, "between 1 and 1.5"),
        ("kto", "undesirable_weight", 0, "between 1 and 1.5"),
        ("cdpo", "label_smoothing", 0.5, "at one half the labels say nothing"),
        ("ipo", "normalize", "mean", "different meanings; see `ipo`"),
        ("simpo", "beta", 0, "uses 2 to 10"),
        ("simpo", "gamma", -1, "from 0.1 to 0.8"),
        ("simpo", "gamma_beta_ratio", -1, "from 0.1 to 0.8"),
        ("orpo", "weight", 0, "uses 0.1 to 0.25"),
        ("cpo", "alpha", -1, "0 leaves the NLL term out"),
        ("cpo", "nll_normalize", "mean", "different meanings; see `cpo`"),
    ],
)
def test_a_refused_value_comes_with_what_papers_use(name, option, value, hint):
    assert hint in refusal(name, {option: value})
