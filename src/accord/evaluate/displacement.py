"""The displacement of probability: by how much chosen and rejected answers moved, and on how many
rows.

A preference loss sees a difference alone: chosen up, or rejected down faster, is the same to it.
These figures take the difference apart. Names stand under diag/, since TRL has none for them.

    log_ratio/chosen        mean change of an answer's log-prob against the reference, nats an
                            answer; also /rejected
    log_ratio_token/chosen  the same, all answers' nats over all their tokens; also /rejected
    chosen_down             share of rows whose chosen answer became less likely, beyond rounding
    drift                   mean size of the change, both sides, nats a token
    ties                    share of pairs whose reward margin is no larger than the machine's
                            rounding
    saturated               share of rows with under 1 % of the loss that a row has where policy =
                            reference

Source: likelihood displacement, Razin et al. 2024, arXiv:2410.08847; both falling, Pal et al. 2024,
arXiv:2402.13228.
"""

from __future__ import annotations

from scipy import stats
from torch import Tensor

from accord.evaluate.records import Records
from accord.objectives import BoundObjective

SATURATED = 0.01  # of the loss at the reference; dpo: a reward margin of about 5
SIDES = ("chosen", "rejected")
ENOUGH = 20  # rows under which a rank correlation says nothing


def decompose(
    records: Records, objective: BoundObjective, tie_width: float = 0.0
) -> dict[str, float]:
    """Compute the figures above from one table of records; those that it cannot give are left out.

    Args:
      tie_width: reward margins no larger are ties; log-ratios no larger did not move.
    """
    out: dict[str, float] = {}
    if "diag/log_ratio/chosen" in records:
        out |= _moved(records, tie_width)
    margins = records["rewards/chosen"] - records["rewards/rejected"]  # [B]
    if not margins.isnan().any():
        out["diag/ties"] = (margins.abs() <= tie_width).double().mean().item()
    if "loss" in records and objective.at_reference:
        small = records["loss"] < SATURATED * objective.at_reference
        out["diag/saturated"] = small.double().mean().item()
    return out


def _moved(records: Records, tie_width: float) -> dict[str, float]:
    out: dict[str, float] = {}
    sizes, tokens = 0.0, 0.0
    for side in SIDES:
        ratio, count = records[f"diag/log_ratio/{side}"], records[f"tokens/{side}"]  # [B]
        present = ~ratio.isnan()
        if not present.any():
            continue
        ratio, count = ratio[present], count[present]
        out[f"diag/log_ratio/{side}"] = ratio.mean().item()
        out[f"diag/log_ratio_token/{side}"] = (ratio.sum() / count.sum()).item()
        sizes, tokens = sizes + ratio.abs().sum().item(), tokens + count.sum().item()
        if side == "chosen":
            out["diag/chosen_down"] = (ratio < -tie_width).double().mean().item()
    return out | {"diag/drift": sizes / tokens}


def length_correlation(records: Records) -> float | None:
    """Compute Spearman's correlation of a pair's reward margin with how much longer its chosen
    answer is; None if unknown.

    Source: Meng et al. 2024, arXiv:2405.14734, §4.2, who correlate reward with length.
    """
    margins = records["rewards/chosen"] - records["rewards/rejected"]
    longer = records["tokens/chosen"] - records["tokens/rejected"]
    return None if len(margins) < ENOUGH or margins.isnan().any() else spearman(margins, longer)


def spearman(one: Tensor, other: Tensor) -> float:
    """Compute the rank correlation of two [B]; 0 where one of them does not vary."""
    if any(bool((values == values[0]).all()) for values in (one, other)):
        return 0.0
    return float(stats.spearmanr(one.numpy(), other.numpy()).statistic)


def since(records: Records, start: dict[str, Tensor]) -> None:
    """Add each answer's change since `start`, where no reference was used.

    `start` holds the same rows' log-probs at step 0, [B].
    """
    if "diag/log_ratio/chosen" not in records:
        for side in SIDES:
            now = records[f"logps/{side}"]
            assert len(now) == len(start[side]), "the held-out rows are always the same"
            records.columns[f"diag/log_ratio/{side}"] = [now - start[side]]


def as_evaluation(figures: dict[str, float]) -> dict[str, float]:
    """Rename diag/drift → diag/eval_drift: the names of the same figures on held-out rows."""
    return {name.replace("diag/", "diag/eval_", 1): value for name, value in figures.items()}
