"""What counts as rounding: measured by code that is not judged by it, between two limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from forward.tiny import CONFIGS, some_trees, tiny
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from accord.forward import attention, rounding
from accord.forward.choose import choose
from accord.forward.rounding import CEILING, FLOOR, Bounds, allowed_mean, bounds, measure_rounding
from accord.types import Logps
from accord.verify.independent import sums_by_definition

DTYPES = (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_limits_are_in_order(dtype):
    for name in ("token", "answer", "mean"):
        assert 0 < getattr(FLOOR[dtype], name) < getattr(CEILING[dtype], name)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Bounds(0.0, 0.0, 0.0), FLOOR[torch.float32]),
        (Bounds(1.0, 1.0, 1.0), CEILING[torch.float32]),
        (Bounds(math.nan, math.inf, math.nan), CEILING[torch.float32]),
        (Bounds(5e-5, 2e-5, 5e-6), Bounds(8e-4, 3.2e-4, 8e-5)),  # 16 times
    ],
    ids=["nothing", "everything", "not-finite", "between"],
)
def test_a_measurement_counts_between_floor_and_ceiling(found, expected, monkeypatch):
    monkeypatch.setattr(rounding, "measure_rounding", lambda model, probe: found)
    got = bounds(tiny(), some_trees())
    assert math.isclose(got.token, expected.token)
    assert math.isclose(got.answer, expected.answer)
    assert math.isclose(got.mean, expected.mean)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_every_family_is_measured_within_float32(family):
    """No family needs more than the ceiling, and measuring leaves the model as it was."""
    model, trees = tiny(family), some_trees()
    before = model.network.config._attn_implementation
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = bounds(model, trees)
    assert found.token <= CEILING[torch.float32].token
    assert measure_rounding(model, trees).token < CEILING[torch.float32].token
    assert model.network.config._attn_implementation == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_measurement_runs_none_of_the_code_that_it_bounds(monkeypatch):
    model, trees = tiny(), some_trees()
    choose(model, trees)  # from here on the network attends by ours

    def never(*args, **kwargs):
        raise AssertionError("what is judged must not measure")

    ALL_ATTENTION_FUNCTIONS.register(attention.NAME, never)
    try:
        assert math.isfinite(measure_rounding(model, trees).token)
    finally:
        attention.register()


def test_answers_come_back_in_their_order():
    """In reverse, beside a longer one, a few at a time: each answer's numbers are its own."""
    model, trees = tiny(), some_trees()
    alone = [replace(tree, completions=(c,)) for tree in trees for c in tree.completions]
    assert len(alone) > rounding.TOGETHER  # several groups
    found = rounding._backwards_and_padded(model, alone)
    wanted = rounding._definition(model, trees).values
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_bfloat16_is_measured_in_nats_and_float32_is_not_loosened_by_it():
    trees = some_trees()
    low, high = (measure_rounding(tiny("llama", dtype), trees).token for dtype in DTYPES)
    assert 0 < low < 1e-4 < high


def test_a_mean_of_other_weights_has_limits_of_its_own():
    model, trees = tiny(), some_trees()
    wanted = sums_by_definition(model, trees)
    assert allowed_mean(model, trees, wanted) == FLOOR[torch.float32].answer
    shifted = Logps(wanted.sum + 50.0, wanted.count)
    assert allowed_mean(model, trees, shifted) == CEILING[torch.float32].answer
    broken = Logps(wanted.sum * math.nan, wanted.count)
    assert allowed_mean(model, trees, broken) == CEILING[torch.float32].answer
