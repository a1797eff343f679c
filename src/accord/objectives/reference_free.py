"""Objectives for pairs that need no reference: SimPO, ORPO and CPO.

Without a reference only the learning rate keeps the policy near its start. They differ in the
second term: SimPO has none, ORPO and CPO imitate the chosen answer as well.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from accord.objectives.numerics import log_odds, same_rows
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
