"""Objectives for pairs that need no reference: SimPO and its relatives, ORPO and CPO.

Without a reference only the learning rate keeps the policy near its start. They differ in the
second term: SimPO, AlphaPO and SimPER have none, ORPO and CPO imitate the chosen answer as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import expm1_by_tangent, log_odds, same_rows
from accord.objectives.options import Choice, Number, bounded
from accord.types import Logps, LossOutput, PairLogps, UsageError

DEFAULT_RATIO = 0.5  # γ/β; the paper's best settings run from 0.1 to 0.8

SIMPO_BETA = Number(
    above=0, hint="The SimPO paper uses 2 to 10: beta multiplies a mean, not a sum."
)
MARGIN = Number(
    at_least=0, optional=True, hint="The SimPO paper uses gamma / beta from 0.1 to 0.8."
)


@bounded(beta=SIMPO_BETA, gamma=MARGIN, gamma_beta_ratio=MARGIN)
def simpo(
    policy: PairLogps,
    *,
    beta: float = 2.0,
    gamma: float | None = None,
    gamma_beta_ratio: float | None = None,
) -> LossOutput:
    """Simple Preference Optimization: the mean log-prob is the reward, and must win by a margin.

        L = -log σ(β (M_w - M_l) - γ)          M mean log-prob per token

    No NLL term is added, though several tools add one by default.

    Args:
      policy: log-probs of B pairs.
      beta: scale of the reward, per nat-per-token. The paper uses 2 to 10.
      gamma: the margin γ, on the scale of β M. Give this or the ratio, not both.
      gamma_beta_ratio: γ/β, in nats per token; 0.5 where neither is given.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, gamma and gamma_beta_ratio at once, or unequal numbers of
        rows.

    Source: Meng, Xia and Chen 2024, arXiv:2405.14734, Eq. 6.
    """
    same_rows(policy.chosen, policy.rejected)
    margin = simpo_margin(beta, gamma, gamma_beta_ratio)
    return LossOutput(-F.logsigmoid(beta * (policy.chosen.mean - policy.rejected.mean) - margin))


@bounded(
    beta=SIMPO_BETA,
    alpha=Number(hint="0 is SimPO; the AlphaPO paper uses 0.1 to 0.25."),
    gamma=Number(at_least=0, hint="The margin itself, on the scale of beta times the reward."),
)
def alphapo(
    policy: PairLogps, *, beta: float = 2.5, alpha: float = 0.25, gamma: float = 0.25
) -> LossOutput:
    """AlphaPO: SimPO with a reward that is bent, so that improbable answers weigh more.

        L = -log σ(β (f(M_w) - f(M_l)) - γ),   f(M) = (1 - e^(-αM)) / α

    Log-probs are means. f → M as α → 0, which is SimPO. It has no value at policy = reference.
    With α > 0 the pull on an answer's mean grows with e^(-αM), with α < 0 it vanishes for
    improbable answers; and it vanishes as the margin grows. From an exponent of 30 on f goes on by
    its tangent.

    Args:
      policy: log-probs of B pairs.
      beta: scale of the reward.
      alpha: how the reward is bent. 0 is SimPO.
      gamma: the margin γ, on the scale of β f.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Gupta et al. 2025, arXiv:2501.03884 (the AlphaPO loss).
    """
    same_rows(policy.chosen, policy.rejected)
    margin = _bent(policy.chosen.mean, alpha) - _bent(policy.rejected.mean, alpha)
    return LossOutput(-F.logsigmoid(beta * margin - gamma))


@bounded()
def simper(policy: PairLogps) -> LossOutput:
    """SimPER: raise the chosen answer's inverse perplexity and lower the rejected one's. It has no
    option at all.

        L = 1 - e^(M_w) + e^(M_l)

    Log-probs are means. There is no β and no reference; the constant keeps the loss above 0 and is
    not the paper's. The pull on an answer's sum is e^M / n: it vanishes for improbable answers, so
    a chosen answer that has fallen is not brought back, and a rejected one is not driven away.

    Args:
      policy: log-probs of B pairs.

    Returns:
      losses [B], not reduced, in (0, 2).

    Raises:
      UsageError: unequal numbers of rows.

    Source: Xiao et al. 2025, arXiv:2502.00883 (the SimPER loss).
    """
    same_rows(policy.chosen, policy.rejected)
    return LossOutput(policy.rejected.mean.exp() - torch.expm1(policy.chosen.mean))


@bounded(weight=Number(above=0, hint="The ORPO paper uses 0.1 to 0.25."))
def orpo(policy: PairLogps, *, weight: float = 0.1) -> LossOutput:
    """Odds Ratio Preference Optimization: imitate the chosen answer and raise its odds in the same
    phase.

        L = -M_w + λ · -log σ(logodds_w - logodds_l)
        logodds = M - log(1 - exp M), M mean log-prob per token

    Both terms average over answer tokens. With sums, the odds ratio would be a dead or a hard hinge
    on length.

    Args:
      policy: log-probs of B pairs.
      weight: λ of the odds-ratio term. The paper uses 0.1 to 0.25.

    Returns:
      losses [B], not reduced; metrics `nll_loss`, `log_odds_ratio` (log σ of the difference of
      log-odds) and `log_odds_chosen` (the difference itself), named as in TRL.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Hong, Lee and Thorne 2024, arXiv:2403.07691, Eqs. 6 and 7.
    """
    same_rows(policy.chosen, policy.rejected)
    nll = -policy.chosen.mean
    margin = log_odds(policy.chosen.mean) - log_odds(policy.rejected.mean)
    metrics = {"nll_loss": nll, "log_odds_ratio": F.logsigmoid(margin), "log_odds_chosen": margin}
    return LossOutput(
        nll - weight * F.logsigmoid(margin),
        {name: value.detach() for name, value in metrics.items()},
    )


@bounded(
    beta=Number(above=0, hint="Papers use 0.01 to 0.5."),
    alpha=Number(at_least=0, hint="1 is the paper's; 0 leaves the NLL term out."),
    nll_normalize=Choice(
        ("token_mean", "sequence_sum"), hint="They give alpha different meanings; see `cpo`."
    ),
)
def cpo(
    policy: PairLogps, *, beta: float = 0.1, alpha: float = 1.0, nll_normalize: str = "token_mean"
) -> LossOutput:
    """Contrastive Preference Optimization: DPO with a uniform reference, and imitation of the
    chosen answer.

        L = -log σ(β (S_w - S_l)) + α · NLL_w          S sum of log-probs

    Args:
      policy: log-probs of B pairs.
      beta: scale of the preference term, per nat.
      alpha: weight of the NLL of the chosen answer.
      nll_normalize: "token_mean" takes NLL_w = -M_w, as in the authors' code (there over the
        batch's tokens, here row by row, so that no row depends on another); "sequence_sum" takes
        -S_w, the paper's text, whose gradient is as many times larger as the answer has tokens.

    Returns:
      losses [B], not reduced; metric `nll_loss`.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Xu et al. 2024, arXiv:2401.08417, Eq. 3 and its NLL regulariser.
    """
    same_rows(policy.chosen, policy.rejected)
    nll = -(policy.chosen.mean if nll_normalize == "token_mean" else policy.chosen.sum)
    preference = -F.logsigmoid(beta * (policy.chosen.sum - policy.rejected.sum))
    return LossOutput(preference + alpha * nll, {"nll_loss": nll.detach()})


def simpo_margin(beta: float, gamma: float | None, gamma_beta_ratio: float | None) -> float:
    """Return the effective margin γ, whichever way it was given."""
    if gamma is not None and gamma_beta_ratio is not None:
        raise UsageError(
            f"simpo: gamma = {gamma:g} and gamma_beta_ratio = {gamma_beta_ratio:g} were both given,"
            " and both set the margin. Keep one: gamma is the margin itself, gamma_beta_ratio the"
            " margin divided by beta."
        )
    if gamma is not None:
        return gamma
    return beta * (DEFAULT_RATIO if gamma_beta_ratio is None else gamma_beta_ratio)


def simpo_options(options: dict) -> dict:
    """Complete SimPO's options with the default margin. Raises UsageError if it is given twice."""
    simpo_margin(**options)
    if options["gamma"] is None and options["gamma_beta_ratio"] is None:
        return options | {"gamma_beta_ratio": DEFAULT_RATIO}
    return options


def simpo_reward(policy: Logps, reference: Logps | None, *, beta: float, **_: object) -> Tensor:
    """Compute the implicit reward of N completions under SimPO: β times the mean log-prob. [N]"""
    return beta * policy.mean


def orpo_reward(policy: Logps, reference: Logps | None, **_: object) -> Tensor:
    """Compute the implicit reward of N completions under ORPO: the log-odds that its Bradley-Terry
    term compares. [N]
    """
    return log_odds(policy.mean)


def cpo_reward(policy: Logps, reference: Logps | None, *, beta: float, **_: object) -> Tensor:
    """Compute the implicit reward of N completions under CPO: β times the sum of log-probs. [N]"""
    return beta * policy.sum


def alphapo_reward(
    policy: Logps, reference: Logps | None, *, beta: float, alpha: float, **_: object
) -> Tensor:
    """Compute the implicit reward of N completions under AlphaPO: β f(mean log-prob). [N]"""
    return beta * _bent(policy.mean, alpha)


def simper_reward(policy: Logps, reference: Logps | None) -> Tensor:
    """Compute the implicit reward of N completions under SimPER: the inverse perplexity. [N]"""
    return policy.mean.exp()


def _bent(mean: Tensor, alpha: float) -> Tensor:
    """Compute f(M) = (1 - e^(-αM)) / α, M itself where α is 0."""
    return -expm1_by_tangent(-alpha * mean) / alpha if alpha else mean
