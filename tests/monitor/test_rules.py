"""Every rule: a history that must raise it, and it alone; the healthy one raises none."""

import math
from dataclasses import replace

import pytest
from conftest import assert_no_faults
from monitor.histories import evaluation, facts, healthy, told

from accord.monitor import falls
from accord.monitor.history import History
from accord.monitor.outcomes import _margin_flat
from accord.monitor.watch import RULES, look, rule_of
from accord.objectives import OBJECTIVES, resolve
from accord.objectives.hints import for_parts
from accord.training.red_flags import against_a_fall

LN2 = math.log(2)


def scaled(**values):
    """Figures that grow in proportion to the step, to `values` at step 100."""
    return lambda step, line: {
        name.replace("__", "/"): value * step / 100 for name, value in values.items()
    }


def constant(values, after=0):
    return lambda step, line: values if step >= after else {}


def judgement(step, **values):
    """Held-out means with intervals of ± 0.1."""
    sides = {
        f"diag/eval_{name}_{end}": value + by
        for name, value in values.items()
        for end, by in (("low", -0.1), ("high", 0.1))
    }
    return {f"eval_{name}": value for name, value in values.items()} | sides


# name -> (what is changed in the healthy run, the other flags that belong to the same history)
RAISED = {
    "no-gradient": (dict(train=constant({"grad_norm": 0.0})), set()),
    "clip-too-low": (dict(facts=facts(clip=1e-9, weights=10_000)), set()),
    "beta-too-high": (dict(facts=facts(options={"beta": 10.0})), set()),
    "adapter-scale-high": (
        dict(train=constant({"diag/drift": 2.0}), facts=facts(adapter_scale=2000.0)),
        set(),
    ),
    "adapter-scale-low": (
        dict(train=constant({"diag/drift": 1e-6}), facts=facts(adapter_scale=6e-6)),
        set(),
    ),
    "rate-too-high": (
        dict(train=constant({"diag/drift": 2.0}), facts=facts(usual_rate=2e-6)),
        set(),
    ),
    "rate-too-low": (
        dict(train=constant({"diag/drift": 1e-6}), facts=facts(usual_rate=0.2)),
        set(),
    ),
    "sides-exchanged": (
        dict(
            held=lambda step, line: {
                "eval_rewards/accuracies": 0.5 - 0.2 * (step > 0),
                "diag/eval_accuracy_low": 0.4 - 0.2 * (step > 0),
                "diag/eval_accuracy_high": 0.6 - 0.2 * (step > 0),
                "eval_loss": LN2 + step / 100,  # it turns as well, and margins fall
                "eval_rewards/margins": -step / 100,
            }
        ),
        set(),
    ),
    "trained-backwards": (
        dict(train=lambda step, line: {"rewards/accuracies": 0.5 - 0.3 * step / 100}),
        set(),
    ),
    "wrong-reference": (dict(train=constant({"loss": 3.1})), set()),
    "beta-too-low": (
        dict(
            train=scaled(
                **{
                    "diag/drift": 3.0,
                    "rewards/margins": 0.3,
                    "diag/log_ratio_token/chosen": -2.0,
                    "diag/log_ratio_token/rejected": -3.0,
                }
            ),
            facts=facts(options={"beta": 0.005}),
        ),
        set(),
    ),
    "runaway": (dict(train=constant({"loss": 1.2, "rewards/accuracies": 0.5}, after=5)), set()),
    "gradient-spike": (
        dict(train=lambda step, line: {"grad_norm": 12.0} if step == 60 else {}),
        set(),
    ),
    "noise-floor": (
        dict(
            train=constant({"diag/ties": 0.8, "rewards/accuracies": 0.5}),
            held=constant({"eval_rewards/margins": 0.0}),
        ),
        set(),
    ),
    "z0-clamped": (dict(train=constant({"kl": 0.0})), set()),
    "odds-saturated": (
        dict(
            train=constant({"log_odds_ratio": -0.001, "nll_loss": 0.4}),
            facts=facts(options={"weight": 0.1}, at_reference=None),
        ),
        set(),
    ),
    "margin-unreachable": (
        dict(
            train=scaled(**{"rewards/margins": 0.1}),
            facts=facts(
                options={"beta": 2.0, "gamma": None, "gamma_beta_ratio": 0.5}, at_reference=None
            ),
        ),
        set(),
    ),
    "held-out-turned": (
        dict(held=lambda step, line: {"eval_loss": 0.65 + abs(step - 40) / 200}),
        set(),
    ),
    "memorised": (
        dict(
            train=lambda step, line: {"loss": 0.01, "rewards/accuracies": 1.0} if step > 40 else {}
        ),
        set(),
    ),
    "nothing-generalises": (
        dict(
            train=constant({"rewards/accuracies": 0.9}, after=10),
            held=constant({"eval_rewards/accuracies": 0.51, "diag/eval_accuracy_low": 0.45}),
        ),
        set(),
    ),
    "accuracy-stuck": (
        dict(
            train=lambda step, line: {"rewards/accuracies": 0.5 + 0.1 * (-1) ** step},
            held=constant({"eval_rewards/accuracies": 0.51, "diag/eval_accuracy_low": 0.45}),
        ),
        set(),
    ),
    "margin-flat": (dict(held=constant({"eval_rewards/margins": 0.02})), set()),
    "length-only": (dict(held=constant({"diag/eval_length_correlation": -0.9}, after=20)), set()),
    "chosen-falling": (
        dict(
            train=scaled(
                **{
                    "diag/log_ratio_token/chosen": -0.8,
                    "diag/log_ratio_token/rejected": -1.5,
                    "diag/chosen_down": 100.0,
                    "rewards/chosen": -2.0,
                }
            )
        ),
        {"chosen-reward-negative"},
    ),
    "saturated": (dict(train=constant({"diag/saturated": 0.95}, after=50)), set()),
    "length-drift": (
        dict(spoken=constant({"diag/samples_tokens": 50.0, "diag/samples_longer": 0.9}, after=20)),
        set(),
    ),
    "repetition": (dict(spoken=constant({"diag/samples_repeated": 0.6}, after=40)), set()),
    "empty-answers": (dict(spoken=constant({"diag/samples_empty": 0.75}, after=40)), set()),
    "never-ending": (dict(spoken=constant({"diag/samples_ended": 0.0}, after=40)), set()),
    "collapsed": (
        dict(spoken=constant({"diag/samples_entropy": 0.05, "diag/samples_top1": 0.99}, after=40)),
        set(),
    ),
    "chosen-reward-negative": (
        dict(train=scaled(**{"rewards/chosen": -0.2, "diag/log_ratio_token/chosen": -0.05})),
        set(),
    ),
    "large-first-loss": (
        dict(train=constant({"loss": 25.0}), facts=facts(at_reference=25.0)),
        set(),
    ),
    "negative-loss": (dict(train=scaled(loss=-0.1), facts=facts(at_reference=None)), set()),
    "rewards-missing": (dict(train=constant({"rollouts/missing": 0.3}, after=5)), set()),
    "rewards-alike": (dict(train=constant({"rollouts/flat_groups": 0.9}, after=5)), set()),
    "kl-far": (dict(train=scaled(**{"rollouts/kl": 60.0})), set()),
    "reward-hacked": (
        dict(
            held=lambda step, line: judgement(
                step, reward=step / 100, gold=0.5 - abs(step - 20) / 100, kl=step / 10
            )
        ),
        set(),
    ),
    "entropy-gone": (
        dict(train=lambda step, line: {"rollouts/kl": 2.0, "entropy": 2.0 if step < 50 else 0.1}),
        set(),
    ),
    "far-off-policy": (dict(train=constant({"policy/clip_ratio": 0.5})), set()),
    "slower": (dict(timed=constant({"tokens_per_second": 100.0}, after=50)), set()),
    "memory-creep": (dict(timed=lambda step, line: {"rss": 2e9 + 3e7 * step}), set()),
}


def test_the_healthy_run_raises_nothing():
    assert told() == {}


@pytest.mark.parametrize("name", RAISED)
def test_raised_once_and_alone(name):
    changes, others = RAISED[name]
    found = told(**changes)
    assert name in found and set(found) - {name} <= others, found


def test_every_rule_has_its_history():
    assert {rule.name for rule in RULES} == RAISED.keys()
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_rule_is_complete():
    """Words for people, a source, causes that exist, and a verdict that the display knows."""

    def check(rule):
        assert rule.says and rule.means and rule.remedy and rule.source
        assert set(rule.unless) <= {other.name for other in RULES} and rule.name not in rule.unless
        assert rule.verdict in ("warning", "note") and rule.adapt in (None, "best", "slower")
        assert rule_of(f"flag.{rule.name}") is rule

    assert_no_faults(RULES, check, lambda rule: rule.name)


def test_silent_before_there_is_anything_to_say():
    assert look(History(facts()), set()) == []


# ---------------------------------------------------------------- the edges of the conditions


@pytest.mark.parametrize(
    "changes",
    [{"gold": 0.5}, {"kl": 0.5}, {"reward": 0.05}],
    ids=["gold-stays", "no-kl", "reward-stays"],
)
def test_a_reward_that_is_not_played_to(changes):
    def held(step, line):
        return judgement(
            step, **{"reward": step / 100, "gold": 0.5 - step / 100, "kl": step / 10} | changes
        )

    assert told(held=held) == {}


def test_pairs_of_ones_own_answers_are_new_each_time():
    """That a coin ranks them right, or that their margin stays, says nothing."""

    def stuck(step, line):
        return {"rewards/accuracies": 0.5 + 0.1 * (-1) ** step, "rewards/margins": 0.0}

    held = lambda step, line: {name: None for name in line if name.startswith("eval_rewards")}  # noqa: E731
    assert told(train=stuck, held=held, facts=facts(sampled=True)) == {}
    assert told(train=stuck, held=held) != {}


def test_the_level_of_a_policy_gradient_s_loss_means_nothing():
    """A surrogate of advantages with mean 0: .005, then .008. Of pairs of its own answers the level
    means what it always did.
    """
    losses = dict(train=lambda step, line: {"loss": 0.005 if step < 10 else 0.008})
    assert "runaway" not in told(
        **losses, facts=facts(sampled=True, at_reference=None, objective="ppo")
    )
    assert "runaway" in told(**losses, facts=facts(at_reference=None))
    assert "runaway" in told(train=constant({"loss": 1.2}, after=5), facts=facts(sampled=True))


def test_runaway_silences_its_symptoms():
    """Loss, accuracy, log-probs and samples all look bad; the cause alone is said."""
    bad = {
        "loss": 2.5,
        "rewards/accuracies": 0.5,
        "diag/log_ratio_token/chosen": -5.0,
        "diag/log_ratio_token/rejected": -6.0,
        "diag/chosen_down": 1.0,
        "diag/drift": 5.5,
    }
    found = told(
        train=constant(bad, after=5), spoken=constant({"diag/samples_repeated": 0.9}, after=20)
    )
    assert found.keys() == {"runaway"}


def test_what_drifts_after_memorising_is_memory():
    """Twenty epochs over a hundred pairs: far from the start, margins that go with length, long
    samples; one cause.
    """

    def learned(step, line):
        return (
            {"loss": 0.01, "rewards/accuracies": 1.0, "diag/drift": step / 20} if step > 30 else {}
        )

    by_length = constant({"diag/eval_length_correlation": 0.9}, after=60)
    found = told(
        train=learned,
        held=by_length,
        spoken=constant({"diag/samples_tokens": 90.0, "diag/samples_longer": 1.0}, after=60),
    )
    assert found.keys() == {"memorised"}
    assert "runaway" in told(train=constant({"diag/drift": 4.0}, after=40))


def test_displaced_answers_have_any_length():
    """Where the probability goes instead is not in the data: so is how long those answers are."""
    fallen = {
        "diag/log_ratio_token/chosen": -0.8,
        "diag/log_ratio_token/rejected": -1.5,
        "diag/chosen_down": 0.9,
    }
    longer = constant({"diag/samples_tokens": 90.0, "diag/samples_longer": 1.0}, after=60)
    assert "length-drift" not in told(
        train=constant(fallen, after=20), spoken=longer
    ) and "length-drift" in told(spoken=longer)


def test_a_reward_that_shows_as_zero_is_explained_to_nobody():
    hardly = scaled(**{"rewards/chosen": -0.004, "diag/log_ratio_token/chosen": -0.05})
    assert "chosen-reward-negative" not in told(train=hardly)


def test_a_first_loss_that_is_not_known_is_no_wrong_reference():
    assert told(train=constant({"loss": 3.1}), facts=facts(at_reference=None)) == {}


def test_a_wrong_reference_is_said_at_once():
    assert told(1, train=constant({"loss": 0.1})) == {"wrong-reference": 1}


def test_rounding_that_a_loss_enlarges_is_no_wrong_reference():
    """dpop in bfloat16: a first loss of 2.2, with log-ratios of the size of rounding."""
    rounds = facts(rounding=0.05)
    near = constant({"loss": 2.2, "diag/drift": 0.015})
    assert told(1, train=near, facts=rounds) == {}
    assert told(1, train=near) == {"wrong-reference": 1}
    far = constant({"loss": 2.2, "diag/drift": 0.06})
    assert told(1, train=far, facts=rounds) == {"wrong-reference": 1}


def test_chosen_up_is_no_displacement():
    """Rejected answers may fall as they like."""
    assert told(train=scaled(**{"diag/log_ratio_token/rejected": -3.0})) == {}


def test_both_falling_on_few_rows_is_no_displacement():
    fall = {"diag/log_ratio_token/chosen": -0.8, "diag/log_ratio_token/rejected": -1.5}
    assert "chosen-falling" not in told(train=scaled(**fall))


def against(objective):
    """What the flag advises a run of this objective, in words that work for it."""
    judge = objective.judge
    pairs, holds, holding = against_a_fall(objective)
    run = facts(
        objective=judge.name, options=judge.options, pairs=pairs, holds=holds, holding=holding
    )
    return for_parts(falls.against_a_fall(History(run)), objective)


def test_what_to_do_about_a_fall_is_said_of_this_method():
    """Names of losses that hold the chosen answers only where they could take its place, and to a
    run of one of them what in it pulls harder.
    """
    names = ("dpo", "ipo", "dpop", "nca", "simpo", "orpo", "kto")
    said = {name: against(resolve(name)) for name in names}
    own = resolve("dpo")
    said["mine:loss"] = against(
        replace(own, objective=replace(own.objective, name="mine:loss"), options={})
    )
    assert all(name in said["dpo"] for name in ("dpop", "cal_dpo", "sppo_hard", "apo_zero", "rpo"))
    assert said["dpo"].endswith("; a higher beta or a lower learning rate slows the fall")
    assert not any("--method ipo" in said[name] for name in ("dpo", "ipo", "kto"))
    assert "--method ipo" in said["simpo"]
    assert "dpop" in said["ipo"] and "beta" in said["ipo"]
    assert "objective.penalty" in said["dpop"] and "--method" not in said["dpop"] + said["nca"]
    assert said["nca"].startswith("nca pulls the chosen answer to ln 2 / beta nats")
    for name in ("simpo", "orpo", "kto", "mine:loss"):
        assert "dpop" not in said[name] and ("beta" in said[name]) == (name in ("simpo", "kto"))
    assert said["mine:loss"] == said["orpo"] == "--method ipo, or a lower learning rate"


def test_what_to_do_about_a_fall_is_said_of_a_mixture():
    """What in it holds the chosen answers already; else which part to put another in place of."""
    assert against(resolve("dpo+0.1*sft")) == (
        "sft imitates the chosen answer, and it falls all the same: a larger weight of sft, or a"
        " lower learning rate"
    )
    both = against(resolve("0.5*sft+dpop"))
    assert "sft imitates" in both and "dpop pulls" in both
    assert "a higher objective.dpop.penalty" in both and "a larger weight of sft" in both
    said = against(resolve("dpo+0.5*simpo"))
    assert "--method 'rpo+0.5*simpo', 'dpop+0.5*simpo'" in said and "cal_dpo+0.5*" in said


def test_displacement_is_seen_on_held_out_rows_where_training_has_no_reference():
    gone = {name: math.nan for name in healthy(1) if name.startswith("diag/")}
    fall = {
        "diag/eval_log_ratio_token/chosen": -0.8,
        "diag/eval_log_ratio_token/rejected": -1.5,
        "diag/eval_chosen_down": 0.9,
    }
    without = lambda step, line: gone  # noqa: E731
    assert "chosen-falling" in told(
        train=without, held=constant(fall, after=20), facts=facts(at_reference=None)
    )


def test_one_worse_evaluation_is_no_turn():
    """Held-out loss wobbles: only two in a row, clearly above the best, are a turn."""
    assert (
        told(held=lambda step, line: {"eval_loss": 0.6 + (0.08 if step in (40, 80) else 0.0)}) == {}
    )


def test_accuracy_stuck_needs_rows():
    """64 rows at .5 say nothing; 800 do."""
    stuck = lambda step, line: {"rewards/accuracies": 0.5}  # noqa: E731
    chance = constant({"eval_rewards/accuracies": 0.5, "diag/eval_accuracy_low": 0.4})
    assert "accuracy-stuck" not in told(
        40, train=stuck, held=chance, facts=facts(steps=40, batch_size=2)
    )
    assert "accuracy-stuck" in told(train=stuck, held=chance)


def test_the_held_out_rows_may_know_better():
    assert "accuracy-stuck" not in told(train=constant({"rewards/accuracies": 0.5}))


def test_samples_are_compared_with_those_before():
    """A model that always repeated itself has not degenerated."""
    assert (
        told(
            spoken=constant(
                {"diag/samples_repeated": 0.6, "diag/samples_ended": 0.0, "diag/samples_empty": 1.0}
            )
        )
        == {}
    )


@pytest.mark.parametrize(
    "beta, drift, margin", [(0.01, 2.0, 0.1), (0.005, 2.0, 3.0), (0.005, 0.05, 0.1)]
)
def test_beta_is_not_to_blame(beta, drift, margin):
    """Papers use .01; a margin that is reached; answers that have not moved."""
    assert (
        told(
            train=scaled(**{"diag/drift": drift, "rewards/margins": margin}),
            facts=facts(options={"beta": beta}),
        )
        == {}
    )


def test_a_flat_margin_without_held_out_rows():
    """The last half of the run against its first window; a batch's noise alone is no evidence."""
    gone = constant({"eval_rewards/margins": math.nan})
    assert told(
        train=lambda step, line: {"rewards/margins": 0.02 * (-1) ** step}, held=gone
    ).keys() == {"margin-flat"}
    assert (
        told(
            train=lambda step, line: {"rewards/margins": step / 100 + 0.3 * (-1) ** step}, held=gone
        )
        == {}
    )


def test_a_flat_margin_says_whose_it_is():
    """A run may rank its own rows rightly and no others."""
    history = History(facts())
    for step in range(1, 101):
        history.add(healthy(step) | {"rewards/margins": 0.0})
    assert _margin_flat(history)["where"] == "training"
    for step in (50, 100):
        history.add(evaluation(step) | {"eval_rewards/margins": 0.0})
    assert _margin_flat(history)["where"] == "held-out"


def test_training_noise_is_overruled_by_held_out_margins():
    assert "margin-flat" not in told(train=constant({"rewards/margins": 0.0}))


def test_z0_may_be_zero_now_and_then():
    assert told(train=lambda step, line: {"kl": 0.0 if step % 2 else 1.0}) == {}


def test_a_rate_that_doubles_the_gradient_is_no_spike():
    assert told(train=lambda step, line: {"grad_norm": 1.0 if step < 60 else 8.0}) == {}


def test_a_spike_under_the_clip_is_none():
    """18 times the usual, and the update takes it whole."""
    assert told(train=lambda step, line: {"grad_norm": 0.9 if step == 60 else 0.05}) == {}


@pytest.mark.parametrize("rule", ["nothing-generalises", "length-only"])
def test_what_was_evaluated_before_training_says_nothing_of_it(rule):
    """A run that is evaluated at its ends alone has, in its middle, the figures of the untrained
    model.
    """
    history = History(facts())
    history.add(
        {
            "step": 0,
            "eval_rewards/accuracies": 0.5,
            "diag/eval_accuracy_low": 0.4,
            "diag/eval_accuracy_high": 0.6,
            "diag/eval_length_correlation": 0.9,
        }
    )
    for step in range(1, history.facts.steps * 3 // 4):
        history.add({"step": step, "loss": 0.5, "rewards/accuracies": 0.9})
    assert f"flag.{rule}" not in {finding.check for finding in look(history, set())}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_healthy_run_of_any_objective_at_its_defaults_raises_nothing(name):
    """No threshold is made for one method's scale: dpo_norm's default of beta is 5, simpo's 2, and
    a first loss of 50 is sppo_hard's own.
    """
    bound = resolve(name)
    own = facts(
        objective=name,
        options=bound.options,
        at_reference=None,
        usual_beta=bound.schema.get("beta", {}).get("default"),
    )
    assert set(told(facts=own)) <= {"margin-unreachable"}  # the history's margins are dpo's
