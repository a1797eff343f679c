"""Supervised fine-tuning: imitate an answer. It is the baseline that every preference method must
beat.
"""

from __future__ import annotations

from torch import Tensor

from accord.objectives.options import bounded
from accord.types import DemonstrationLogps, Logps, LossOutput


@bounded()
def sft(policy: DemonstrationLogps) -> LossOutput:
    """Negative log-likelihood of each answer, summed over its tokens.

        L = -Σ_t log π(y_t | x, y_<t)

    The step divides by the answer tokens of the whole batch ("tokens" in the table), whatever the
    micro-batches: a mean of micro-batch means would give tokens in short micro-batches more weight
    (TRL #2617).

    Args:
      policy: log-probs of B demonstrations.

    Returns:
      losses [B] in nats, not reduced.

    Source: maximum likelihood; Ouyang et al. 2022, arXiv:2203.02155, §3.5, as the first step of
    alignment.
    """
    return LossOutput(-policy.completion.sum)


def mean_log_prob(policy: Logps, reference: Logps | None, **_: object) -> Tensor:
    """Compute the score of N completions under an objective without a reward: the mean log-prob per
    token. [N] nats
    """
    return policy.mean
