"""From completions back to rows: the log-probs of trees, shaped as the objective wants them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from accord.forward.layout import sent
from accord.types import DemonstrationLogps, LabelledLogps, Logps, PairLogps, RowLogps, Tree


def as_rows(kind: str, trees: Sequence[Tree], logps: Logps) -> RowLogps:
    """Log-probs of B rows of `kind` ("pairs", "labelled", "demonstrations").

    Args:
      trees: B trees; two completions each for pairs (chosen first), one otherwise.
      logps: [N] their completions' log-probs, tree by tree.
    """
    if kind == "pairs":
        first = sent(torch.tensor([0, *(len(tree.completions) for tree in trees)][:-1]).cumsum(0), logps.sum.device)
        return PairLogps(logps[first], logps[first + 1])
    assert all(len(tree.completions) == 1 for tree in trees), f"{kind} have one completion each"
    if kind == "labelled":
        return LabelledLogps(logps, sent(torch.tensor([tree.desirable for tree in trees]), logps.sum.device))
    return DemonstrationLogps(logps)
