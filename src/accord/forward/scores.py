"""Scores of a reward model: the same two paths as for log-probs, read at one token of each
completion.

A score is read at the last token of a completion, its end token included, so the trunk computes
that token too (for log-probs it is only ever a target). The layout is that of completions with one
more token, which is never computed.

N completions · T packed tokens · L longest sequence · D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from accord.forward.backends import TREE_ATTENTION
from accord.forward.layout import Layout, pack
from accord.forward.logps import attending, padded_rows, padded_states, tree_states
from accord.models.reward import RewardModel
from accord.types import Scores, Tree


@dataclass(frozen=True)
class TokenScores:
    """Scores of N completions, in the order of the trees. One token of each is read."""

    values: Tensor  # [N]
    count: Tensor  # [N] tokens of each completion

    @property
    def owner(self) -> Tensor:
        return torch.arange(
            len(self.values), device=self.values.device
        )  # [N] which completion each value is of

    def reduce(self) -> Scores:
        return Scores(self.values, self.count)


def score_completions(
    trees: Sequence[Tree], device: torch.device | str = "cpu"
) -> tuple[Layout, Tensor]:
    """Make the layout that computes every token; find each completion's last token in it, [N]
    indices into T.
    """
    layout = pack(
        [replace(tree, completions=tuple((*c, 0) for c in tree.completions)) for tree in trees],
        device,
    )
    return layout, layout.source[layout.count.cumsum(0) - 1]


def tree_scores(model: RewardModel, trees: Sequence[Tree], attention: str = "tree") -> TokenScores:
    """Compute the scores with each prompt computed once and nothing padded."""
    layout, last = score_completions(trees, model.device)
    layout = replace(layout, attention=attention)
    return TokenScores(model.score(tree_states(model, layout)[last]), layout.count - 1)


def padded_scores(model: RewardModel, trees: Sequence[Tree]) -> TokenScores:
    """Compute the scores of one padded row per completion; the last token is found by length, never
    by id.
    """
    rows = padded_rows(trees, model.device)
    last = rows.mask.sum(1) - 1
    return TokenScores(
        model.score(padded_states(model, rows)[torch.arange(len(last), device=last.device), last]),
        rows.count,
    )


def oracle_scores(
    model: RewardModel, trees: Sequence[Tree], attention: str = "eager"
) -> TokenScores:
    """Compute the scores by the readable definition: the classifier's own forward pass, one
    sequence at a time, in its own attention.
    """
    rows = [(*tree.prompt, *completion) for tree in trees for completion in tree.completions]
    with attending(model, attention):
        each = [
            model.network(torch.tensor([row], device=model.device), use_cache=False).logits[0, 0]
            for row in rows
        ]
    values = torch.stack(each)
    count = torch.tensor(
        [len(completion) for tree in trees for completion in tree.completions], device=model.device
    )
    return TokenScores(values.to(torch.promote_types(values.dtype, torch.float32)), count)


SCORE_PATHS = {
    **{name: partial(tree_scores, attention=name) for name in TREE_ATTENTION},
    "padded": padded_scores,
    "oracle": oracle_scores,
}
