"""Gradients by hand: what they equal, what they find, that each bound still catches its fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training.helpers import ready_for

from accord.engine import gradients, step
from accord.engine.gradients import BOOKKEEPING, CEILING, FLOOR, allowed, relative
from accord.engine.step import make_batch
from accord.objectives import OBJECTIVES, BoundObjective
from accord.verify.gradient_proofs import GradientGap, gradient_findings
from accord.verify.preflight import noise_floor, probe

METHODS = ("dpo", "ipo", "kto", "bco", "simpo", "orpo", "sft", "bradley_terry")


@pytest.fixture
def prepared(tiny_folder, pairs_file):
    """Method -> a run that is ready, and a batch of its first rows."""

    def make(method="dpo", **changes):
        ready = ready_for(tiny_folder, pairs_file, method=method, **changes)
        return ready, make_batch(ready.learner, 0, probe(ready.batch_trees(0)))

    return make


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_sums_by_hand_are_the_steps_in_any_dtype(method, dtype, prepared):
    """The bookkeeping bound is far above what a sound step differs by, and the path's is the bare
    network's.
    """
    ready, batch = prepared(method, dtype=dtype)
    masters = ready.optimizer.masters
    for whole, budget in ((True, 10**9), (False, 1)):
        got, _ = gradients.of_step(ready.learner, batch, masters, budget)
        wanted = gradients.by_hand(ready.learner, batch, masters, whole)
        assert got.keys() == wanted.keys()
        assert relative(got, wanted) < BOOKKEEPING[ready.model.dtype] / 10
    found = gradient_findings(ready.learner, batch, ready.optimizer)
    assert [f.check for f in found] == ["step0.micro_batches", "step0.gradient"]
    assert all(f.verdict == "ok" for f in found), found
    assert masters.gradients() == {}


def test_the_bound_is_a_measurement_between_two_limits():
    assert allowed(torch.float32, 0.0) == FLOOR[torch.float32]
    assert allowed(torch.float32, 1e-4) == pytest.approx(16e-4)
    assert allowed(torch.float32, 1.0) == CEILING[torch.float32]
    for nothing in (None, float("nan"), float("inf")):
        assert allowed(torch.bfloat16, nothing) == CEILING[torch.bfloat16]


def test_a_gradient_that_only_one_has_counts_whole():
    one, other = {"a": torch.ones(4)}, {"b": torch.ones(4)}
    assert relative(one, other) == pytest.approx(2**0.5)
    assert relative({}, {}) == 0 and relative(one, {}) == float("inf")


@pytest.mark.parametrize(
    ("factor", "words"),
    [(4.0, "4 times the right one"), (-1.0, "the other way"), (0.5, "0.5 times")],
)
def test_a_multiple_is_named(factor, words):
    right = {"a": torch.arange(1.0, 7.0)}
    apart = GradientGap.of({"a": factor * right["a"]}, right)
    assert words in apart.diagnosis(1e-3) and apart.rest < 1e-6


# ---------------------------------------------------------------- faults, each in both dtypes

DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def refused(ready, batch) -> str:
    found = [f for f in gradient_findings(ready.learner, batch, ready.optimizer) if f.refused]
    assert found
    return f"{found[0].check}: {found[0].says} {found[0].remedy}"


@DTYPES
def test_a_lost_micro_batch_is_found(dtype, prepared, monkeypatch):
    ready, batch = prepared(dtype=dtype)

    def lose(learner, batch, masters, **options):
        if learner.micro_tokens > 1:
            return step.accumulate(learner, batch, masters, **options)
        return step.accumulate(learner, replace(batch, trees=batch.trees[1:]), masters, **options)

    monkeypatch.setattr(gradients, "accumulate", lose)
    assert "step0.micro_batches" in refused(ready, batch)


@DTYPES
def test_a_mean_per_micro_batch_is_found(dtype, prepared, monkeypatch):
    ready, batch = prepared(dtype=dtype)
    monkeypatch.setattr(step, "denominator", lambda objective, trees: 1)
    assert "4 times the right one: a wrong denominator" in refused(ready, batch)


@DTYPES
def test_a_layer_that_mixes_rows_is_found(dtype, prepared):
    """As batch normalisation would: what a row gives depends on what it stands beside."""
    ready, batch = prepared(dtype=dtype, assignments=["model.forward=padded"])

    def mix(module, args, output):
        hidden = output if torch.is_tensor(output) else output[0]
        hidden = hidden - 0.5 * hidden.mean(dim=0, keepdim=True)
        return hidden if torch.is_tensor(output) else (hidden, *output[1:])

    ready.model.trunk.layers[0].register_forward_hook(mix)
    says = refused(ready, batch)
    assert "step0.micro_batches" in says and "mixes rows" in says


@DTYPES
def test_a_path_that_cuts_a_part_of_the_gradient_is_found(dtype, prepared, monkeypatch):
    ready, batch = prepared(dtype=dtype)
    right = type(ready.learner.forward).__call__

    def cut(forward, trees):
        values = right(forward, trees)
        lengths = values.count.tolist()  # every second token of each answer, in any order of rows
        kept = torch.cat([torch.arange(n) % 2 == 1 for n in lengths])
        return replace(values, values=torch.where(kept, values.values, values.values.detach()))

    monkeypatch.setattr(type(ready.learner.forward), "__call__", cut)
    says = refused(ready, batch)
    assert "step0.gradient" in says and "bare network" in says


@DTYPES
def test_the_wrong_loss_is_found_by_its_closed_form(dtype, prepared, monkeypatch):
    ready, batch = prepared("ipo", dtype=dtype)
    right = OBJECTIVES["ipo"].closed_form

    def other(row, options, baseline):
        return right(row, {**options, "beta": 1.1 * options["beta"]}, baseline)

    monkeypatch.setattr(BoundObjective, "closed_form", property(lambda self: other))
    assert "closed form's slopes" in refused(ready, batch)


# ---------------------------------------------------------------- the noise floor refuses


def test_a_floor_of_other_weights_is_no_rounding(prepared):
    """A cached reference of .01 nats a token beside the policy was 'ok' with any width."""
    ready, _ = prepared(reference="frozen", lora=False)
    trees = ready.batch_trees(0)
    assert noise_floor(ready.learner, trees).verdict == "ok"
    with torch.no_grad():
        ready.learner.reference.forward.model.network.model.norm.weight.mul_(1.01)
    found = noise_floor(ready.learner, trees)
    assert found.refused and "policy and reference are up to" in found.says


def test_a_floor_of_rows_that_see_their_neighbours_is_no_rounding(prepared):
    ready, _ = prepared("simpo", assignments=["model.forward=padded"])
    trees = ready.batch_trees(0)
    assert noise_floor(ready.learner, trees[:2], trees[2:]).verdict == "ok"

    def longest(module, args, output):
        hidden = output if torch.is_tensor(output) else output[0]
        hidden = hidden * (1 + 0.01 * hidden.shape[1])
        return hidden if torch.is_tensor(output) else (hidden, *output[1:])

    ready.model.trunk.layers[0].register_forward_hook(longest)
    found = noise_floor(ready.learner, trees[:2], trees[2:])
    assert found.refused and "among" in found.says and "padded" in found.remedy
