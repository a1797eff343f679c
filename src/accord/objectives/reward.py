"""Reward models: a scalar head that scores the preferred answer above the other, the more so the
surer the preferences.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from accord.objectives.numerics import same_rows
from accord.objectives.options import Choice, Number, bounded
from accord.types import LossOutput, PairScores, Scores


@bounded(
    centering=Number(
        at_least=0, hint="0 leaves scores where they are; Eisenstein et al. use 0.01."
    ),
    margin=Choice(
        ("column", "none"), hint="column takes each row's margin where the file has one."
    ),
)
def bradley_terry(
    policy: PairScores, *, centering: float = 0.0, margin: str = "column"
) -> LossOutput:
    """The Bradley-Terry likelihood of a comparison, whose log-odds are the difference of two
    scores.

        L = -log σ(s_w - s_l - m) + c (s_w + s_l)²          w chosen, l rejected, m the row's margin

    Comparisons determine only the difference of a prompt's scores, not their level. The second term
    pulls each pair's mean to 0, so that scores of different prompts can be compared.

    Args:
      policy: scores of B pairs, read at the last token, and their margins.
      centering: c of the auxiliary term.
      margin: "column" asks the scores to differ by m as well; "none" does not look at margins.

    Returns:
      losses [B], not reduced.

    Raises:
      UsageError: a keyword out of bounds, or unequal numbers of rows.

    Source: Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, Eq. 1. m: Touvron et al.
    2023, arXiv:2307.09288, Eq. 2. c: Eisenstein et al. 2023, arXiv:2312.09244, §2.
    """
    same_rows(policy.chosen, policy.rejected)
    apart = policy.chosen.value - policy.rejected.value
    wanted = policy.margin if margin == "column" else 0.0
    off_centre = policy.chosen.value + policy.rejected.value
    return LossOutput(-F.logsigmoid(apart - wanted) + centering * off_centre.square())


def score(policy: Scores, reference: None, **_: object) -> Tensor:
    """Return the reward of N completions under a reward model: the score itself. [N]"""
    return policy.value
