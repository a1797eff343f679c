"""Rows from completions: the log-probs of trees, shaped as the objective wants them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from accord.forward.layout import sent
from accord.types import (
    DemonstrationLogps,
    LabelledLogps,
    Logps,
    PairLogps,
    PairScores,
    RowLogps,
    Scores,
    Tree,
)


def as_rows(kind: str, trees: Sequence[Tree], logps: Logps | Scores) -> RowLogps:
    """Shape log-probs as B rows of `kind` ("pairs", "labelled", "demonstrations").

    Args:
      trees: B trees; two completions each for pairs (chosen first), one otherwise.
      logps: [N] their completions' log-probs, or a reward model's scores, tree by tree.
    """
    if kind == "pairs":
        device = logps.sum.device
        first = sent(
            torch.tensor([0, *(len(tree.completions) for tree in trees)][:-1]).cumsum(0), device
        )
        margin = sent(torch.tensor([tree.margin for tree in trees], dtype=logps.sum.dtype), device)
        if isinstance(logps, Scores):
            return PairScores(logps[first], logps[first + 1], margin)
        return PairLogps(logps[first], logps[first + 1], margin)
    assert isinstance(logps, Logps), f"{kind} are never scored"
    assert all(len(tree.completions) == 1 for tree in trees), f"{kind} have one completion each"
    if kind == "labelled":
        return LabelledLogps(
            logps, sent(torch.tensor([tree.desirable for tree in trees]), logps.sum.device)
        )
    return DemonstrationLogps(logps)
