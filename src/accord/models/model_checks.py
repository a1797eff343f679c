"""Checks that the loaded model is the one that was saved, and can be trained on these tokens:
weights finite and trained, causal, language known, every token known to it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from accord.errors import plural
from accord.models.causality import causal_finding
from accord.models.fresh_weights import weight_findings
from accord.models.language import LanguageModel
from accord.models.likelihood import PARAGRAPH, language_finding
from accord.models.parts import all_finite, gathered
from accord.models.quantized import named_weights
from accord.types import Finding, Tree

LAYERS = "model.layers"  # of the findings of `weight_findings`


@torch.no_grad()
def model_findings(
    model: LanguageModel,
    trees: Sequence[Tree],
    allow: Collection[str] = (),
    used: Sequence[int] | None = None,
) -> list[Finding]:
    """Report findings on the weights as loaded, and on the embeddings of the tokens that `trees`
    use.

    Args:
      trees: the rows of the run; prompts without completions where answers are drawn.
      allow: the run's permissions.
      used: the token ids of all rows, where `trees` are some of them.
    """
    permitted = "untrained_model" in allow
    found = findings_of_weights(model, trees, permitted=permitted, used=used)
    if any(one.refused and one.check != LAYERS for one in found):
        return found  # its log-probs would be NaN, or of other tokens
    return [*found, language_finding(model, trees, permitted=permitted)]


def findings_of_weights(
    model: LanguageModel,
    trees: Sequence[Tree] | None = None,
    *,
    permitted: bool = False,
    used: Sequence[int] | None = None,
) -> list[Finding]:
    """Report findings that need no text of the user: files, weights, tokens, causality, layers.

    Args:
      trees: rows whose tokens are looked up; a plain paragraph without them.
      permitted: an untrained model is what the user wants.
      used: the token ids of all rows, where `trees` are some of them.
    """
    if trees is None:
        trees = halved([tuple(model.tokenizer(PARAGRAPH)["input_ids"])])
    found = _told(model)
    ids = _ids(trees) if used is None else used
    found += [_finite(model), _vocabulary(model, ids), _special(model)]
    if any(finding.refused for finding in found):
        return found
    return [*found, causal_finding(model, trees), *weight_findings(model, permitted=permitted)]


def halved(texts: Sequence[tuple[int, ...]]) -> list[Tree]:
    """Make rows of prompts that have no answer: the second half of each stands for one."""
    return [
        Tree(ids[: len(ids) // 2], (ids[len(ids) // 2 :],), row)
        for row, ids in enumerate(texts)
        if len(ids) > 1
    ]


def reward_findings(model: LanguageModel) -> list[Finding]:
    """Report findings on the weights of a reward model, which has no words to be asked for."""
    return [_finite(model), *weight_findings(model)]


def _told(model: LanguageModel) -> list[Finding]:
    """Report what a user should know of the files, and of how they were loaded."""
    found = [Finding("model.files", "note", note) for note in model.notes]
    if (quantization := model.quantization) is not None:
        evidence = {key: value for key, value in vars(quantization).items() if key != "settings"}
        evidence |= quantization.settings.model_dump(mode="json")
        found.append(Finding("model.quantize", "note", quantization.says, evidence))
    return found


def _finite(model: LanguageModel) -> Finding:
    finite = all_finite(named_weights(model.network))
    bad = [name for name, sound in finite.items() if not sound]
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


def _ids(trees: Sequence[Tree]) -> list[int]:
    return sorted(
        {token for tree in trees for part in (tree.prompt, *tree.completions) for token in part}
    )


def _vocabulary(model: LanguageModel, used: Sequence[int]) -> Finding:
    """Check that every token has a row in the embedding, and none that was never trained (all
    zeros, as padding is by design).
    """
    embedding = model.network.get_input_embeddings()
    weight, padding = embedding.weight, getattr(embedding, "padding_idx", None)
    assert isinstance(weight, torch.Tensor)
    beyond = [token for token in used if token >= len(weight)]
    if beyond:
        says = (
            f"the tokenizer gives ids up to {beyond[-1]:,}, and the model's vocabulary has"
            f" {plural(len(weight), 'row')}: {_name(model, beyond[0])} is unknown to the model"
        )
        return Finding(
            "model.vocabulary",
            "refused",
            says,
            {"ids": beyond[:10]},
            "use the tokenizer that was saved with the model, or resize its embeddings",
        )
    rows = gathered(weight)[torch.tensor(used, device=weight.device)]
    blank = [
        token
        for token, size in zip(used, rows.float().abs().amax(dim=1).tolist(), strict=True)
        if size == 0 and token != padding
    ]
    if blank:
        says = (
            f"{plural(len(blank), 'token in use has', 'tokens in use have')} an embedding of"
            " zeros, such as"
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


def _special(model: LanguageModel) -> Finding:
    """Check the tokens that no row need hold: those that answers begin or end with, and those that
    were added to the tokenizer.
    """
    rows, tokenizer = model.vocabulary_rows, model.tokenizer
    needed = {*model.stop_ids, *({tokenizer.bos_token_id} - {None})}
    added = set(tokenizer.get_added_vocab().values())
    beyond = sorted(token for token in needed | added if token >= rows)
    if not beyond:
        return Finding("model.special_tokens", "ok", "all special tokens have an embedding")
    says = (
        f"the model's vocabulary has {plural(rows, 'row')}, and {len(beyond):,} special or added"
        " tokens"
        f" have ids behind them, such as {beyond[0]:,} ({_name(model, beyond[0])})"
    )
    refused = any(token in needed for token in beyond)
    return Finding(
        "model.special_tokens",
        "refused" if refused else "note",
        says + (": answers could never begin or end with it" if refused else ""),
        {"ids": beyond[:10]},
        "use the tokenizer that was saved with the model, or resize its embeddings"
        if refused
        else "",
    )


def _name(model: LanguageModel, token: int) -> str:
    return repr(model.tokenizer.convert_ids_to_tokens(token))
