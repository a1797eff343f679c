"""Checks that the loaded model can be trained on these tokens: weights finite, every token known to
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from accord.models.language import LanguageModel
from accord.types import Finding, Tree


@torch.no_grad()
def model_findings(model: LanguageModel, trees: Sequence[Tree]) -> list[Finding]:
    """Report findings on the weights as loaded, and on the embeddings of the tokens that `trees`
    use.
    """
    return [_finite(model), _vocabulary(model, trees)]


def _finite(model: LanguageModel) -> Finding:
    bad = [
        name for name, p in model.network.named_parameters() if not bool(torch.isfinite(p).all())
    ]
    if not bad:
        return Finding("model.weights", "ok", "all weights are finite")
    says = f"{len(bad)} tensors of {model.source} hold NaN or infinite weights, such as {bad[0]}"
    return Finding(
        "model.weights",
        "refused",
        says,
        {"tensors": bad[:10]},
        "the file is damaged or overflowed when it was saved: load another copy",
    )


def _vocabulary(model: LanguageModel, trees: Sequence[Tree]) -> Finding:
    """Check that every token has a row in the embedding, and none that was never trained (all
    zeros, as padding is by design).
    """
    embedding = model.network.get_input_embeddings()
    weight, padding = embedding.weight, getattr(embedding, "padding_idx", None)
    assert isinstance(weight, torch.Tensor)
    used = sorted(
        {token for tree in trees for part in (tree.prompt, *tree.completions) for token in part}
    )
    beyond = [token for token in used if token >= len(weight)]
    if beyond:
        says = (
            f"the tokenizer gives ids up to {beyond[-1]:,}, and the model's vocabulary has"
            f" {len(weight):,} rows: {_name(model, beyond[0])} is unknown to the model"
        )
        return Finding(
            "model.vocabulary",
            "refused",
            says,
            {"ids": beyond[:10]},
            "use the tokenizer that was saved with the model, or resize its embeddings",
        )
    rows = weight[torch.tensor(used, device=weight.device)]
    blank = [
        token
        for token, size in zip(used, rows.float().abs().amax(dim=1).tolist(), strict=True)
        if size == 0 and token != padding
    ]
    if blank:
        says = (
            f"{len(blank):,} tokens that the rows use have an embedding of zeros, such as"
            f" {_name(model, blank[0])}: never trained"
        )
        return Finding(
            "model.vocabulary",
            "warning",
            says,
            {"ids": blank[:10]},
            "is this the template that the model was trained with?",
        )
    return Finding("model.vocabulary", "ok", f"all {len(used):,} tokens in use have an embedding")


def _name(model: LanguageModel, token: int) -> str:
    return repr(model.tokenizer.convert_ids_to_tokens(token))
