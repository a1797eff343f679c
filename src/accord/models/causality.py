"""Is the model causal? Later tokens must leave the log-probs of earlier ones as they are.

A model that looks ahead sees the answer while it predicts it; a loss of nearly nothing is all that
shows. The tree path would impose a causal mask on it, and train another model than generates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.models.language import LanguageModel
from accord.types import Finding, Tree

# Tokens of a row that are read at most. Rows of 50 and 256 tokens took SmolLM2-135M 10.7 seconds on
# two busy cores, where the check that all weights are finite took 4.9.
MOST = 128
# Differences of logits, as a share of their spread, that rounding may make: both passes have one
# shape, and only experts, whose groups change, round otherwise.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.1}


@torch.no_grad()
def causal_finding(model: LanguageModel, trees: Sequence[Tree]) -> Finding:
    """Exchange the later half of a short and of a long row; compare the logits of the former half
    with the bare network.
    """
    rows = sorted(([*tree.prompt, *tree.completions[0]] for tree in trees), key=len)
    limit = min(MOST, model.positions or MOST)
    read = {len(ids): ids for row in (rows[0], rows[-1]) if len(ids := row[:limit]) > 1}
    worst, lengths = 0.0, sorted(read)
    for ids in read.values():
        worst = max(worst, _moved(model, ids))
    long = ", the longest cut" if len(rows[-1]) > limit else ""
    where = f"(rows of {' and '.join(map(str, lengths))} tokens{long})"
    evidence = {"share_of_spread": worst, "tokens": lengths}
    if not worst <= ROUNDING.get(model.dtype, ROUNDING[torch.float32]):
        says = (
            f"exchanging later tokens moves the logits of earlier ones by {worst:.2g} of their"
            f" spread {where}: the model looks ahead, so it sees an answer while it predicts it"
        )
        remedy = (
            "an encoder, or a decoder whose mask is gone (is_causal, is_decoder in config.json):"
            " name a model that predicts the next token from those before it"
        )
        return Finding("model.causal", "refused", says, evidence, remedy)
    says = f"later tokens leave the logits of earlier ones as they are {where}"
    return Finding("model.causal", "ok", says, evidence)


def _moved(model: LanguageModel, ids: list[int]) -> float:
    """Compute how far the logits of the former half move, as a share of their spread; infinite for
    NaN.
    """
    half = len(ids) // 2
    first, second = (_logits(model, row)[:half] for row in (ids, with_other_end(model, ids)))
    share = ((first - second).abs().max() / first.std().clamp_min(1e-30)).item()
    return share if share == share else float("inf")


def with_other_end(model: LanguageModel, ids: Sequence[int]) -> list[int]:
    """Exchange every token of the later half for another one."""
    half = len(ids) // 2
    return [*ids[:half], *((token + 7) % model.vocabulary_rows for token in ids[half:])]


def _logits(model: LanguageModel, ids: list[int]) -> Tensor:
    row = torch.tensor([ids], device=model.device)
    return model.network(input_ids=row, use_cache=False).logits[0].float()
