"""Sums of log-probs: float64 from float32 terms, on every path, with the gradient of the terms."""

import numpy as np
import pytest
import torch
from forward.tiny import some_trees, tiny
from safetensors.numpy import load_file, save_file

from accord.forward import reference
from accord.forward.logps import PATHS, TokenLogps
from accord.forward.reference import SUMS, Cached, full_key
from accord.objectives.numerics import summed
from accord.objectives.pairs import dpo
from accord.objectives.policy_gradient import Rollouts
from accord.types import Logps, PairLogps

LONG = 5_000  # tokens of one answer


def long_answers(seed=0):
    """Two answers of 5,000 tokens, about -4 nats each, as a head gives them: in float32."""
    generator = torch.Generator().manual_seed(seed)
    values = -4 + torch.randn(2 * LONG, generator=generator)
    count = torch.tensor([LONG, LONG])
    owner = torch.repeat_interleave(torch.arange(2), count)
    return TokenLogps(values, torch.rand(2 * LONG, generator=generator), owner, count)


def exact(values):
    return [float(np.sum(part.numpy().astype(np.longdouble))) for part in values.split(LONG)]


def test_a_long_answer_s_sum_is_that_of_its_terms():
    """In float32 it is off by up to 7.4e-2 nats (benchmarks/sums.py), here by more than 1e-3."""
    tokens = long_answers()
    sums = tokens.reduce().sum
    assert sums.dtype == torch.float64
    assert sums.tolist() == pytest.approx(exact(tokens.values), abs=1e-9)
    single = torch.segment_reduce(tokens.values, "sum", lengths=tokens.count)
    assert max(abs(a - b) for a, b in zip(single.tolist(), sums.tolist(), strict=True)) > 1e-3
    assert (tokens.mean_entropy() * LONG).tolist() == pytest.approx(exact(tokens.entropy), abs=1e-9)
    given = Rollouts(tokens.values, tokens.values, tokens.values, tokens.count)
    assert given.sums(tokens.values).tolist() == sums.tolist()


def test_the_gradient_comes_back_in_the_terms_own_dtype():
    values = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    sums = summed(values, torch.tensor([2, 1]))
    (sums * torch.tensor([0.5, -2.0], dtype=torch.float64)).sum().backward()
    assert values.grad.dtype == torch.float32 and values.grad.tolist() == [0.5, 0.5, -2.0]


@pytest.mark.parametrize("path", sorted(PATHS))
def test_every_path_gives_float64_sums_of_float32_terms(path):
    tokens = PATHS[path](tiny(), some_trees())
    assert tokens.values.dtype == torch.float32
    assert tokens.reduce().sum.dtype == torch.float64


def test_an_objective_sees_a_difference_that_float32_sums_would_round_away():
    """Policy and reference apart by 1e-4 nats in sums near -20,000, which float32 spaces 2e-3."""
    near = torch.tensor([-20_000.0], dtype=torch.float64)
    count = torch.tensor([LONG])
    policy = PairLogps(Logps(near + 1e-4, count), Logps(near, count))
    same = PairLogps(Logps(near, count), Logps(near, count))
    gained = dpo(same, same, beta=1.0).losses - dpo(policy, same, beta=1.0).losses
    assert gained.item() == pytest.approx(0.5e-4, rel=1e-3)


def test_a_cache_of_float32_sums_is_not_mixed_with_these(tmp_path):
    """It has another key; the run's own copy, which has no key in its name, is not taken either."""
    parts = dict(weights="w", tokenizer="t", template="x", dtype="float32", path="tree")
    assert full_key(**parts, sums=SUMS) != full_key(**parts)
    trees = some_trees()[:1]
    held = Cached(tmp_path / "cache", torch.device("cpu"))
    for n, completion in enumerate(trees[0].completions):
        held.table[reference.key(trees[0].prompt, completion)] = (-(n + 1) / 3, len(completion))
    file = tmp_path / "reference.safetensors"
    held.keep(file, trees)
    again = Cached(held.folder, held.device)
    assert again.recall(file) == "" and again.logps(trees).sum.tolist() == [-1 / 3, -2 / 3]
    old = load_file(file)
    table = {**old, "sums": old["sums"].astype(np.float32)}
    digest = reference._digest({k: torch.from_numpy(v) for k, v in table.items()}, "cache")
    save_file(table, file, metadata={"sha256": digest})
    fresh = Cached(held.folder, held.device)
    assert "of float32, as accord wrote them before" in fresh.recall(file) and not fresh.table
