"""Figures of held-out rows: how often the chosen answer is ranked first, by how much, and whether
σ(margin) can be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from accord.evaluate.auc import auc_estimate
from accord.evaluate.calibration import calibration
from accord.evaluate.displacement import decompose
from accord.evaluate.held_out import HeldOut, evaluate, metrics
from accord.evaluate.intervals import accuracy, bootstrap_mean
from accord.evaluate.power import ALIKE, smallest_difference
from accord.evaluate.records import Records
from accord.evaluate.slices import parts
from accord.forward.choose import Forward
from accord.forward.reference import Reference
from accord.objectives import BoundObjective

ALONE = 8  # rows computed alone as well, to see how far rounding moves a margin


@dataclass
class RowMeasurer:
    """The forward path, objective and reference that rows are measured with."""

    forward: Forward
    objective: BoundObjective
    reference: Reference | None  # exactly where the objective asks for one

    def records(self, held_out: HeldOut) -> Records:
        return evaluate(held_out, self.forward, self.objective, self.reference)


def tie_width(ruler: RowMeasurer, held_out: HeldOut, records: Records) -> float:
    """Measure how far rounding moves a reward margin when a row has other neighbours. A smaller
    margin is a tie.
    """
    few = HeldOut(held_out.trees[:ALONE], held_out.kind, held_out.prompts[:ALONE], budget=1)
    return float(np.abs(margins_of(ruler.records(few)) - margins_of(records)[:ALONE]).max())


def margins_of(records: Records) -> np.ndarray:
    """Return the reward of the chosen minus that of the rejected answer, [B]."""
    return (records["rewards/chosen"] - records["rewards/rejected"]).numpy()


def pair_figures(
    records: Records, held_out: HeldOut, objective: BoundObjective, width: float
) -> dict:
    """Compute all figures of B pairs. The intervals account for pairs that share a prompt."""
    margins, clusters = margins_of(records), list(held_out.prompts)
    won = accuracy(margins, tie_width=width, clusters=clusters)
    scores = np.where(np.abs(margins) <= width, 0.5, margins > 0)
    figures = {
        "accuracy": won.as_dict(),
        "wins": int((scores == 1).sum()),
        "ties": int((scores == 0.5).sum()),
        "losses": int((scores == 0).sum()),
        "tie_width": width,
        "smallest_difference": _possible(smallest_difference(scores, clusters=clusters)),
        "smallest_difference_alike": _possible(
            smallest_difference(scores, clusters=clusters, correlation=ALIKE)
        ),
        "logprob": logprob_accuracies(records, clusters),
        "metrics": (
            metrics(records, held_out, objective, width) | decompose(records, objective, width)
        ),
    }
    figures["margin"] = bootstrap_mean(margins, clusters=clusters).as_dict()
    if objective.objective.reference:
        figures["calibration"] = calibration(margins, clusters=clusters).as_dict()
    return figures


def _possible(difference: float) -> float | None:
    """Return a difference of two accuracies; None beyond 1, since no two are further apart."""
    return difference if difference <= 1 else None


def logprob_accuracies(records: Records, clusters: Sequence[int]) -> dict:
    """Compute how often the chosen answer is the likelier one under the policy alone, by the sum
    and by the mean per token of its log-probs.

    Sums favour short answers; means ignore length. If the two disagree, length decides.
    """
    sums = (records["logps/chosen"] - records["logps/rejected"]).numpy()
    means = (
        records["logps/chosen"] / records["tokens/chosen"]
        - records["logps/rejected"] / records["tokens/rejected"]
    ).numpy()
    return {
        "sum": accuracy(sums, clusters=clusters).as_dict(),
        "token_mean": accuracy(means, clusters=clusters).as_dict(),
    }


def slice_figures(
    table: pa.Table, margins: np.ndarray, clusters: Sequence[int], width: float
) -> list[dict]:
    """Compute the accuracy of parts of the pairs; see evaluate/slices.py."""
    prompts, found = np.array(clusters), []
    for name, mask in parts(table):
        estimate = accuracy(margins[mask], tie_width=width, clusters=list(prompts[mask]))
        found.append({"slice": name, **estimate.as_dict()})
    return found


def label_figures(
    records: Records, held_out: HeldOut, objective: BoundObjective, width: float
) -> dict:
    """Estimate the probability that a good answer has a higher reward than a bad one (labelled
    rows); rows of a prompt are one observation.
    """
    chosen, rejected = records["rewards/chosen"].numpy(), records["rewards/rejected"].numpy()
    reward = np.where(np.isnan(chosen), rejected, chosen)
    good = np.array([bool(tree.desirable) for tree in held_out.trees])
    found = {"metrics": metrics(records, held_out, objective, width), "tie_width": width}
    if good.any() and not good.all():
        found["auc"] = auc_estimate(reward, good, held_out.prompts, tie_width=width).as_dict()
    return found
