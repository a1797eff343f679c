"""Pairs that push their chosen answer down: their two answers look alike to the model itself.

    CHES = <mean h_w, mean h_l> - |mean h_w|²    h: hidden states that predict an answer's tokens

The larger, the more a step on this pair lowers the probability of its chosen answer.
Length-normalised, as the paper uses it to filter data.

Source: Razin et al. 2024, arXiv:2410.08847, Definition 2 and its length-normalised variant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from accord.models.language import LanguageModel
from accord.types import Tree


@torch.no_grad()
def ches(model: LanguageModel, trees: Sequence[Tree]) -> Tensor:
    """Compute the centered hidden embedding similarity of B pairs, [B] float64, under the model as
    it is now.
    """
    scores = []
    for tree in trees:
        chosen, rejected = (
            _mean_hidden(model, tree.prompt, completion) for completion in tree.completions
        )
        scores.append(chosen @ rejected - chosen @ chosen)
    return torch.stack(scores).cpu()


def _mean_hidden(model: LanguageModel, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """Compute the mean of the states that predict the completion's tokens, [D] float64."""
    ids = torch.tensor([(*prompt, *completion[:-1])], device=model.device)
    hidden = model.trunk(input_ids=ids, use_cache=False).last_hidden_state[0]
    return hidden[len(prompt) - 1 :].double().mean(0)


def overlap(tree: Tree) -> float:
    """Compute the share of the shorter answer's tokens that the other has as well, as multisets."""
    chosen, rejected = (Counter(completion) for completion in tree.completions)
    return (chosen & rejected).total() / min(chosen.total(), rejected.total())
