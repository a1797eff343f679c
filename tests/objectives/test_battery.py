"""What every objective must pass, whatever it optimises."""

import inspect
import math
import re

import numpy
import pytest
import torch
from conftest import assert_no_faults
from objectives.rows import COLLISION, VARIANTS, Case, beside, build, label
from oracles.objectives import EXPECTED, exact, exact_slopes
from torch.testing import assert_close

from accord.objectives import OBJECTIVES, resolve
from accord.types import UsageError

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=label)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def test_the_battery_covers_the_table():
    assert {name for name, _ in VARIANTS} == set(OBJECTIVES)


def tokens(total, count):
    """A sum of log-probs as `count` unequal tokens."""
    return [total] if count == 1 else [total / 2] + [total / 2 / (count - 1)] * (count - 1)


def oracle_arguments(case, row):
    """The row as the oracles want it: token lists, options, and what only labelled rows have."""
    slots = range(2 if case.bound.rows == "pairs" else 1)
    answers = [
        tuple(
            tokens(float(side[slot, row]), int(case.counts[slot, row]))
            for side in (case.policy, case.reference)
        )
        for slot in slots
    ]
    extra = (
        {"desirable": bool(case.desirable[row]), **beside(case.bound, float(case.z0))}
        if case.bound.rows == "labelled"
        else {}
    )
    if "margin" in case.bound.options:
        extra["row_margin"] = float(case.margin[row])
    if "collision" in case.bound.columns:
        means = [float(case.policy[slot, row]) / int(case.counts[slot, row]) for slot in slots]
        extra["pair_weight"] = math.exp(sum(means) + 2 * COLLISION)
    return answers, case.bound.options | extra


@every_variant
def test_agrees_with_the_numpy_oracle(variant):
    case = Case(*variant)
    for row, loss in enumerate(case.losses().tolist()):
        answers, options = oracle_arguments(case, row)
        expected = EXPECTED[variant[0]].oracle(numpy, *answers, **options)
        assert loss == pytest.approx(float(expected), rel=1e-10, abs=1e-12)


@every_variant
def test_agrees_with_many_digits_in_float32(variant):
    case = Case(*variant, dtype=torch.float32)
    losses = case.losses()
    assert losses.dtype == torch.float32
    for row, loss in enumerate(losses.tolist()):
        answers, options = oracle_arguments(case, row)
        assert loss == pytest.approx(
            float(exact(variant[0], *answers, **options)), rel=2e-5, abs=2e-6
        )


# One answer a side with these sums; the reference stands at -5,000 so that log-ratios reach ±1e4
# nats.
ABSURD = [
    (-1e-12, -10000.0),
    (-10000.0, -1e-12),
    (-10000.0, -10000.0),
    (-1e-12, -1e-12),
    (-15000.0, -0.5),
]


@every_variant
@pytest.mark.parametrize("sums", ABSURD)
def test_exact_at_absurd_log_probs(variant, sums):
    """Value and gradient equal 240 digits where exp overflows, σ saturates and 1 - p cancels."""
    case = Case(*variant, rows=1)
    case.counts[:] = 1
    case.policy = torch.tensor(sums, dtype=torch.float64).unsqueeze(1).requires_grad_()
    case.reference = torch.full((2, 1), -5000.0, dtype=torch.float64)
    losses = case.losses()
    gradient = torch.autograd.grad(losses.sum(), case.policy)[0]
    case.policy.requires_grad_(False)
    answers, options = oracle_arguments(case, 0)
    assert losses.item() == pytest.approx(
        float(exact(variant[0], *answers, **options)), rel=1e-10, abs=1e-200
    )
    slopes = exact_slopes(variant[0], *answers, **options)
    assert gradient[: len(slopes), 0].tolist() == pytest.approx(slopes, rel=1e-10, abs=1e-14)


@every_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "sums", [*ABSURD, (0.0, 0.0), (0.0, -3.0), (-3.0, 0.0), (-30000.0, -1e-12)]
)
def test_finite_at_absurd_log_probs(variant, sums, dtype):
    """Also where the model is certain (0 nats, a probability of 1 in float32)."""
    case = Case(*variant, rows=2, dtype=dtype)
    policy = torch.tensor(sums, dtype=dtype).unsqueeze(1).repeat(1, 2).requires_grad_()
    losses = case.losses(policy=policy, reference=torch.full((2, 2), -5000.0, dtype=dtype))
    assert losses.isfinite().all()
    assert torch.autograd.grad(losses.sum(), policy)[0].isfinite().all()


@every_variant
def test_finite_when_policy_equals_reference(variant):
    """Step 0 of every run; and the loss is the closed form that the objective states."""
    case = Case(*variant)
    losses = case.losses(reference=case.policy, z0=torch.tensor(0.0, dtype=torch.float64))
    assert losses.isfinite().all()
    if case.bound.at_reference is not None:
        assert_close(losses, torch.full_like(losses, case.bound.at_reference))
    else:
        assert losses.unique().numel() > 1  # it says "not fixed", and it is not


@every_variant
def test_gradient_matches_finite_differences(variant):
    case = Case(*variant)
    held, at = case.losses(), case.policy.clone()

    def losses(policy):
        found = case.losses(policy=policy)
        if "collision" in case.bound.columns:
            weight = torch.exp((policy / case.counts + COLLISION).sum(0)).detach()
            begun = torch.exp((at / case.counts + COLLISION).sum(0))
            return found / weight * begun  # no gradient goes through the weights
        return found

    assert_close(losses(case.policy), held)
    assert torch.autograd.gradcheck(losses, case.policy.requires_grad_())


@every_variant
def test_the_reference_gets_no_gradient(variant):
    case = Case(*variant)
    case.reference.requires_grad_()
    case.z0.requires_grad_()
    losses = case.losses(policy=case.policy.requires_grad_())
    gradients = torch.autograd.grad(
        losses.sum(), (case.policy, case.reference, case.z0), allow_unused=True
    )
    assert gradients[0].any()
    assert gradients[1] is None and gradients[2] is None


@every_variant
def test_row_order_does_not_matter(variant):
    case = Case(*variant)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_close(case.take(order), case.losses()[order], rtol=0, atol=0)


@every_variant
def test_two_halves_equal_the_whole(variant):
    """Given the same context; what the context is made of,
    `test_only_kto_couples_its_batch` shows.
    """
    case = Case(*variant)
    halves = torch.cat([case.take(slice(0, 2)), case.take(slice(2, 6))])
    assert_close(halves, case.losses(), rtol=0, atol=0)


@every_objective
def test_only_kto_couples_its_batch(name):
    """An objective has a context exactly if it couples its batch, and then its halves differ from
    the whole.
    """
    objective = OBJECTIVES[name]
    assert objective.couples_batch == (objective.context is not None) == (name == "kto")
    if objective.couples_batch:
        case = Case(name)
        # roles swapped: some KL
        first = build("demonstrations", case.reference, case.counts, None).completion
        second = build("demonstrations", case.policy, case.counts, None).completion
        whole, half = (
            objective.context(first[part], second[part]) for part in (slice(0, 6), slice(0, 2))
        )
        assert not torch.equal(whole["z0"], half["z0"])
        assert not torch.allclose(case.losses(**whole), case.losses(**half))


@every_variant
def test_metrics_are_one_number_a_row_and_detached(variant):
    case = Case(*variant)
    case.z0.requires_grad_()
    rows = build(case.kind, case.policy.requires_grad_(), case.counts, case.desirable)
    against = build(case.kind, case.reference, case.counts, case.desirable)
    context = beside(case.bound, case.z0)
    output = case.bound.losses(rows, against if case.bound.reference else None, **context)
    for value in output.metrics.values():
        assert value.shape == output.losses.shape and not value.requires_grad


@every_objective
def test_rows_of_unequal_number_are_refused(name):
    """Without the check they would broadcast: every row against the first row's reference."""
    bound = resolve(name)
    case = Case(name)
    if bound.reference:
        with pytest.raises(UsageError, match="same rows"):
            bound.losses(
                build(case.kind, case.policy, case.counts, case.desirable),
                build(case.kind, case.reference[:, :1], case.counts[:, :1], case.desirable[:1]),
                **beside(bound, case.z0),
            )
    if bound.rows == "pairs":
        lopsided = build(
            case.kind,
            (case.policy[0], case.policy[1, :1]),
            (case.counts[0], case.counts[1, :1]),
            None,
        )
        against = build(
            case.kind,
            (case.reference[0], case.reference[1, :1]),
            (case.counts[0], case.counts[1, :1]),
            None,
        )
        with pytest.raises(UsageError, match="same rows"):
            bound.losses(lopsided, against if bound.reference else None)


def test_docstring_names_its_source_and_formula():
    def check(name):
        text = inspect.getdoc(OBJECTIVES[name].function)
        assert re.search(r"Source: .*(arXiv:\d{4}\.\d{5}|Eq\. \d)", text, re.S)
        assert "L = " in text or "as `dpo`" in text

    assert_no_faults(OBJECTIVES, check)


def test_every_keyword_is_bounded():
    """No keyword without a kind: it would be neither checked nor listed. Context keywords are no
    options.
    """

    def check(name):
        objective = OBJECTIVES[name]
        parameters = inspect.signature(objective.function).parameters.values()
        keywords = {one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}
        assert keywords - set(objective.kinds) == set(beside(objective, 0.0))
        assert set(objective.kinds) <= keywords

    assert_no_faults(OBJECTIVES, check)
