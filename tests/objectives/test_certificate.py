"""The certificate passes for what is configured, and for nothing else."""

import json
import math
from dataclasses import replace

import pytest
import torch
from objectives.rows import VARIANTS, label

from accord.objectives import OBJECTIVES, dpo, ipo, resolve, robust
from accord.types import LabelledLogps, Logps, PairLogps, PairScores
from accord.verify.certificate import _POINTS, certify


def step_of(bound):
    """What a correct training step calls."""
    return lambda policy, reference, context: bound.losses(policy, reference, **context).losses


def test_every_objective_has_a_closed_form():
    assert all(row.closed_form is not None for row in OBJECTIVES.values())


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_the_right_step_is_certified(variant):
    bound = resolve(*variant)
    finding = certify(bound, step_of(bound))
    assert (finding.check, finding.verdict) == ("step0.objective", "ok")
    assert finding.evidence["against"] == "closed form" and finding.evidence["points"] >= 12
    assert finding.evidence["worst_error"] <= finding.evidence["tolerance"] == 1e-10
    json.dumps(finding.evidence, allow_nan=False)


@pytest.mark.parametrize("variant", VARIANTS, ids=label)
def test_a_step_in_float32_is_certified_to_what_float32_can_show(variant):
    bound = resolve(*variant)

    def compute(policy, reference, context):
        losses = bound.losses(policy, reference, **context).losses
        return losses.float()

    finding = certify(bound, compute)
    assert finding.verdict == "ok" and finding.evidence["tolerance"] == 1e-5


def test_the_points_are_what_their_names_say():
    """Log-probs of real answers, exact in float32 on both sides of a margin of 0, near it and far
    away.
    """
    for name, sides in _POINTS.items():
        for policy, reference, count in sides:
            assert policy < 0 and reference < 0 and count >= 1
            assert (policy * 64).is_integer() and (reference * 64).is_integer()
        chosen, rejected = (policy - reference for policy, reference, _ in sides)
        margin = chosen - rejected
        if name == "policy equals reference":
            assert chosen == rejected == 0
        if "margin" in name:
            assert (margin < 0) == name.endswith("the wrong way")
            low, high = {"a small": (0, 5), "a large": (100, 500), "an extreme": (5000, math.inf)}[
                name.split(" margin")[0]
            ]
            assert low < abs(margin) < high
        if name == "both fall":
            assert chosen < 0 and rejected < 0
        if name == "near-certain answers":
            assert all(policy / count > -0.03 for policy, _, count in sides)


def test_a_stranger_s_kink_at_the_reference_is_no_fault(tmp_path, monkeypatch):
    """Finite differences see half of a slope in a kink, and nothing at the extreme: eight of the
    twelve points are neither.
    """
    (tmp_path / "kinked.py").write_text(
        "def mine(policy, reference):\n    h = policy.chosen.sum - reference.chosen.sum -"
        " policy.rejected.sum + reference.rejected.sum\n    return (-h).relu()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    bound = resolve("kinked:mine")
    finding = certify(bound, step_of(bound))
    assert (finding.verdict, finding.evidence["points"], finding.evidence["against"]) == (
        "ok",
        8,
        "finite differences",
    )


def each(rows, change):
    """The rows with every Logps changed."""
    if isinstance(rows, PairScores):
        return PairScores(change(rows.chosen), change(rows.rejected), rows.margin)
    if isinstance(rows, PairLogps):
        return replace(rows, chosen=change(rows.chosen), rejected=change(rows.rejected))
    if isinstance(rows, LabelledLogps):
        return LabelledLogps(change(rows.completion), rows.desirable)
    return type(rows)(change(rows.completion))


def flipped(bound):
    return lambda p, r, c: -bound.losses(p, r, **c).losses


def averaged(bound):
    """Means where sums belong, and for objectives of means the sums."""

    def swap(logps):
        return replace(logps, sum=logps.sum / logps.count)

    def undo(logps):
        return replace(logps, sum=logps.sum * logps.count)

    change = undo if bound.name in ("simpo", "orpo") else swap
    return lambda p, r, c: bound.losses(each(p, change), r and each(r, change), **c).losses


def reference_ignored(bound):
    return lambda p, r, c: (
        bound.losses(p, each(r, lambda one: replace(one, sum=one.sum * 0)), **c).losses
    )


def reference_is_the_policy(bound):
    return lambda p, r, c: bound.losses(p, each(p, Logps.detach), **c).losses


def hidden_nll(bound):
    """An SFT term that nobody asked for, on the first answer."""

    def compute(p, r, c):
        first = p.chosen if bound.rows == "pairs" else p.completion
        return bound.losses(p, r, **c).losses - 0.01 * first.sum / first.count

    return compute


def value_right_gradient_wrong(bound):
    def compute(p, r, c):
        losses = bound.losses(p, r, **c).losses
        return losses.detach() + 0.5 * (losses - losses.detach())

    return compute


def margins_ignored(bound):
    """Rows come with margins, and none arrives."""
    return lambda p, r, c: bound.losses(replace(p, margin=p.margin * 0), r, **c).losses


def beta_ignored(bound):
    """The defaults run, whatever the recipe says."""
    default = resolve(bound.name)
    return lambda p, r, c: default.losses(p, r, **c).losses


def labels_swapped(bound):
    def compute(p, r, c):
        if bound.needs == "scores":
            p = PairScores(p.rejected, p.chosen, p.margin)
        elif bound.rows == "pairs":
            p, r = (s and replace(s, chosen=s.rejected, rejected=s.chosen) for s in (p, r))
        else:
            p = LabelledLogps(p.completion, ~p.desirable)
        return bound.losses(p, r, **c).losses

    return compute


def micro_batch_mean(bound):
    return lambda p, r, c: bound.losses(p, r, **c).losses.mean()


def not_a_number(bound):
    return lambda p, r, c: bound.losses(p, r, **c).losses * float("nan")


def detached(bound):
    return lambda p, r, c: bound.losses(p, r, **c).losses.detach()


def half_precision(bound):
    return lambda p, r, c: bound.losses(p, r, **c).losses.bfloat16()


def shared_is_the_whole(bound):
    """DPO where LD-DPO was asked for."""
    return lambda p, r, c: (
        bound.losses(
            *(each(side, lambda one: replace(one, shared=one.sum)) for side in (p, r)), **c
        ).losses
    )


def weights_in_the_gradient(bound):
    """WPO's weights with a gradient through them."""

    def compute(p, r, c):
        losses = bound.losses(p, r, **c).losses
        means = p.chosen.mean + p.rejected.mean
        return losses * torch.exp(means - means.detach())

    return compute


def unweighed(bound):
    return lambda p, r, c: resolve("dpo").losses(p, r, **c).losses


def baseline_unclamped(bound):
    """KTO with the z0 of its context taken away."""
    return lambda p, r, c: bound.losses(p, r, z0=c["z0"] - 1).losses


ALL = list(OBJECTIVES)
REFERENCED = [name for name in ALL if OBJECTIVES[name].reference]
WITH_BETA = [name for name in ALL if "beta" in OBJECTIVES[name].kinds]
MUTATIONS = (
    [
        (mutate, name)
        for mutate in (flipped, hidden_nll, averaged, value_right_gradient_wrong)
        for name in ALL
    ]
    + [
        (mutate, name)
        for mutate in (micro_batch_mean, not_a_number, detached, half_precision)
        for name in ALL
    ]
    + [(margins_ignored, name) for name in ALL if OBJECTIVES[name].margins]
    + [
        (mutate, name)
        for mutate in (reference_ignored, reference_is_the_policy)
        for name in REFERENCED
    ]
    + [(labels_swapped, name) for name in ALL if name != "sft"]
    + [(baseline_unclamped, "kto"), (shared_is_the_whole, "ld_dpo")]
    + [(weights_in_the_gradient, "wpo"), (unweighed, "wpo")]
)


@pytest.mark.parametrize(
    ("mutate", "name"), MUTATIONS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_wrong_step_is_refused(mutate, name):
    bound = resolve(name)
    finding = certify(bound, mutate(bound))
    assert finding.refused and finding.check == "step0.objective" and finding.remedy
    assert finding.evidence["objective"] == name
    json.dumps(finding.evidence, allow_nan=False)


@pytest.mark.parametrize("name", WITH_BETA)
def test_an_ignored_beta_is_refused(name):
    bound = resolve(name, {"beta": 0.37})
    assert certify(bound, beta_ignored(bound)).refused


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {"label_smoothing": 0.1}),
        ("orpo", {"weight": 0.2}),
        ("cpo", {"alpha": 0}),
        ("kto", {"desirable_weight": 2}),
    ],
)
def test_every_other_option_counts_too(name, options):
    bound = resolve(name, options)
    assert certify(bound, step_of(resolve(name))).refused


def test_ipo_configured_and_sigmoid_run_is_named():
    """The failure that three tools shipped."""
    finding = certify(resolve("ipo", {"beta": 0.2}), lambda p, r, c: dpo(p, r, beta=0.2).losses)
    assert finding.refused
    assert finding.evidence["ran"] == "dpo with beta = 0.2, label_smoothing = 0.0"
    assert (
        finding.evidence["point"] == "policy equals reference"
        and finding.evidence["quantity"] == "loss"
    )
    assert finding.evidence["expected"] == pytest.approx(6.25)
    assert finding.evidence["got"] == pytest.approx(0.6931, abs=1e-4)
    assert "dpo with beta = 0.2" in finding.says


@pytest.mark.parametrize(
    ("configured", "compute", "ran"),
    [
        (
            "ipo",
            lambda p, r, c: ipo(p, r, normalize="sequence_sum").losses,
            "ipo with beta = 0.1, normalize = sequence_sum",
        ),
        ("dpo", lambda p, r, c: -dpo(p, r).losses, "dpo with its sign flipped"),
        (
            "cdpo",
            lambda p, r, c: robust(p, r).losses,
            "robust with beta = 0.1, label_smoothing = 0.1",
        ),
    ],
)
def test_what_ran_is_named_where_it_is_known(configured, compute, ran):
    assert certify(resolve(configured), compute).evidence["ran"] == ran


def test_a_gradient_into_the_reference_is_refused():
    def compute(policy, reference, context):
        h = policy.chosen.sum - reference.chosen.sum - policy.rejected.sum + reference.rejected.sum
        return -torch.nn.functional.logsigmoid(0.1 * h)

    finding = certify(resolve("dpo"), compute)
    assert finding.refused and "gradient reaches the reference" in finding.says


def test_the_certificate_works_where_gradients_are_off():
    bound = resolve("dpo")
    with torch.no_grad():
        assert certify(bound, step_of(bound)).verdict == "ok"
