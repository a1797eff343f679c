"""Figures of a reward model beside its accuracy on held-out pairs: is it as sure as it is right,
and does it like length?

    calibration_error   mean distance of how sure it is from how often it is right, over equal bins
                        of pairs
    brier               mean (1 - σ(s_w - s_l))²; 0.25 is what a coin's scores give
    score_length        Spearman's correlation of an answer's score with its length, over all
                        answers
    accuracy_shorter    accuracy on pairs whose chosen answer is the shorter one: what a taste for
                        length loses
    accuracy_longer     on the others; pairs of one length are in neither

Names stand under diag/eval_. Source: expected calibration error, Guo et al. 2017, arXiv:1706.04599,
§2, with bins of equal numbers (Nixon et al. 2019, arXiv:1904.01685); the length bias of reward
models, Singhal et al. 2023, arXiv:2310.03716.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.evaluate.displacement import ENOUGH, spearman
from accord.evaluate.records import Records, wins

BINS = 10


def reward_model_figures(records: Records, tie_width: float = 0.0) -> dict[str, float]:
    """Compute the figures above on held-out pairs; those that need more pairs are left out."""
    margins = records["rewards/chosen"] - records["rewards/rejected"]  # [B]
    if margins.isnan().any():
        return {}
    longer = records["tokens/chosen"] - records["tokens/rejected"]
    won = wins(margins, tie_width)
    out = {"brier": torch.sigmoid(-margins).square().mean().item()}
    if len(margins) >= ENOUGH:
        both = [
            torch.cat([records[f"{name}/{side}"] for side in ("chosen", "rejected")])
            for name in ("rewards", "tokens")
        ]
        out |= {
            "calibration_error": calibration_error(margins, won),
            "score_length": spearman(*both),
        }
    for name, some in (("shorter", longer < 0), ("longer", longer > 0)):
        if some.any():
            out |= {f"accuracy_{name}": won[some].mean().item(), f"pairs_{name}": float(some.sum())}
    return {f"diag/eval_{name}": value for name, value in out.items()}


def calibration_error(margins: Tensor, won: Tensor) -> float:
    """Compute the expected calibration error of σ(margin), in [0, 1].

    Args:
      margins: [B] score of the chosen answer minus that of the rejected one.
      won: [B] 1 where the model prefers the chosen answer, ½ for a tie, else 0.
    """
    sure = torch.sigmoid(margins.abs())  # that the answer it prefers is the better one
    order = sure.argsort(stable=True)
    pieces = zip(sure[order].tensor_split(BINS), won[order].tensor_split(BINS), strict=True)
    return sum(abs((s - w).sum().item()) for s, w in pieces) / len(margins)
