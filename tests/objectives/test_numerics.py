"""Two-branch arithmetic against hundreds of digits."""

import mpmath
import pytest
import torch

from accord.objectives.numerics import CERTAIN, log1mexp, log_odds, log_ratio, same_rows
from accord.types import Logps, UsageError

POINTS = [-1e-12, -1e-7, -1e-3, -0.02, -0.6931, -0.6932, -1.0, -5.0, -40.0, -700.0, -1e4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", POINTS)
def test_log1mexp(x, dtype):
    """Both branches, near where they meet, and where exp underflows: to a few units in the last
    place.
    """
    at = torch.tensor([x], dtype=dtype, requires_grad=True)
    value = log1mexp(at)
    with mpmath.workdps(320):  # 1 - exp(-700) differs from 1 in the 304th digit
        exact = mpmath.mpf(at.item())
        expected = mpmath.log(1 - mpmath.exp(exact))
        slope = -mpmath.exp(exact) / (1 - mpmath.exp(exact))
    close = {"rel": 8 * torch.finfo(dtype).eps, "abs": torch.finfo(dtype).tiny}
    assert value.item() == pytest.approx(float(expected), **close)
    # The slope is exp(x) / (1 - exp(x)): from x rounded near -ln 2 its error is a few units too.
    assert torch.autograd.grad(value.sum(), at)[0].item() == pytest.approx(float(slope), **close)


def test_log_odds_of_an_even_chance_is_zero():
    assert log_odds(torch.tensor([0.5], dtype=torch.float64).log()).item() == pytest.approx(
        0, abs=1e-15
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_of_certainty_is_finite_and_has_no_gradient(dtype):
    """A probability that float32 rounds to 1 would have infinite odds. -1e-12 itself still has its
    gradient, 1e12.
    """
    at = torch.tensor([0.0, CERTAIN], dtype=dtype, requires_grad=True)
    odds = log_odds(at)
    assert odds.tolist() == pytest.approx([27.631, 27.631], abs=1e-3)
    assert torch.autograd.grad(odds.sum(), at)[0].tolist() == pytest.approx([0.0, 1e12], rel=1e-5)


def test_log_probs_per_token_are_refused():
    """[B, tokens] where [B] belongs would give a loss a token,
    and the step would divide by rows.
    """
    per_token = Logps(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(UsageError, match=r"one number a row, \[B\]"):
        log_ratio(per_token, per_token)


def test_a_missing_reference_is_said():
    with pytest.raises(UsageError, match="needs the reference"):
        log_ratio(Logps(torch.zeros(2), torch.ones(2)), None)


def test_rows_that_belong_together():
    """One number a row; log-probs that stand alone belong to themselves."""
    one = Logps(torch.zeros(2), torch.ones(2))
    same_rows(one), same_rows(one, one)
    with pytest.raises(UsageError, match=r"shapes \(2,\), \(3,\) do not belong to the same rows"):
        same_rows(one, Logps(torch.zeros(3), torch.ones(3)))
