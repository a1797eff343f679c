"""The first question to a model: does it know language at all, or is it noise in the shape of one?

The proofs of step 0 compare two computations of one model, so a model whose weights were lost or
whose tokenizer gives other ids passes them all. Its log-probs do not: who knows nothing gives each
of V tokens 1/V, and so a text ln V nats a token (10.8 for 49,152). SmolLM2-135M gives the paragraph
below 2.7; with permuted ids 13.3, with its last five of 30 layers gone 9.3 (decision 0037).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord import compat
from accord.models.language import LanguageModel
from accord.models.quantized import count_weights
from accord.types import Finding, Tree

# Plain English that a language model of any size and age has seen the like of.
PARAGRAPH = (
    "The sun was low when Anna walked home from the market. She had bought bread, a bag of apples"
    " and some cheese for her mother. It had rained in the morning, and the road was still wet. At"
    " the bridge she met an old man with a small dog, and they talked about the weather."
)
# The shares of ln V above which a model is called untrained, and doubtful, if text and rows agree;
# and that above which the rows are read at all: a paragraph that is well known settles it.
# SmolLM2-135M: the paragraph .25, base64 .53, random words .51, German .44, Chinese .31. One that
# knows only how common tokens are: about .65.
UNTRAINED, DOUBTFUL, UNSURE = 0.8, 0.6, 0.5
# Nats a token that an adapter may cost the run's answers; DPO lowers them by some tenths.
WORSE = 2.0
ROWS, TOKENS = 8, 256  # rows of the data that are read, and the most tokens of each
# Parameters beside the embeddings. The smallest language models that were ever published have more
# (stories260K: 230,000; TinyStories-1M: 393,000): what is smaller is a test's, random on purpose.
NO_LANGUAGE_MODEL = 200_000


@dataclass(frozen=True)
class Known:
    """Mean negative log-probs of some tokens under a model."""

    nats: float  # nats a token
    tokens: int


@torch.no_grad()
def language_finding(
    model: LanguageModel, trees: Sequence[Tree], *, permitted: bool = False
) -> Finding:
    """Compare what the model gives a plain paragraph, and the run's own answers, with ln V.

    Args:
      trees: rows of the run; of prompts alone, their prompts are read.
      permitted: an untrained model is what the user wants.
    """
    uniform = math.log(model.head.weight.shape[0])
    text = _paragraph(model)
    if text is not None and text.nats <= UNSURE * uniform:
        return Finding("model.language", "ok", _says(text, None, uniform), _evidence(text, None))
    rows = _rows(model, trees)
    read = [known for known in (text, rows) if known is not None]
    says, evidence = _says(text, rows, uniform), _evidence(text, rows)
    least = min((known.nats for known in read), default=0.0)
    if least <= DOUBTFUL * uniform:
        return Finding("model.language", "ok", says, evidence)
    chance = not least <= UNTRAINED * uniform
    says += f": it knows {'no more than chance' if chance else 'hardly more than common tokens'}"
    remedy = (
        "another model was meant, its weights were lost or drawn anew, or the tokenizer is not its"
        " own: save model and tokenizer together again; to train an untrained model on purpose:"
        " --allow untrained_model"
    )
    if permitted or _size(model) < NO_LANGUAGE_MODEL:
        return Finding("model.language", "note", f"{says} (untrained)", evidence)
    verdict = "refused" if chance else "warning"
    return Finding("model.language", verdict, says, evidence, remedy)


@torch.no_grad()
def adapter_finding(
    model: LanguageModel, trees: Sequence[Tree], *, permitted: bool = False
) -> Finding:
    """Compare what a model gives the run's answers with the adapter that came in, and without it:
    an adapter of a wrong scale or base makes noise of a sound model.

    Args:
      trees: rows of the run.
      permitted: an untrained model is what the user wants.
    """
    check, uniform = "model.adapter", math.log(model.head.weight.shape[0])
    own = _rows(model, trees)
    with compat.without_adapters(compat.adapter_layers(model.network)):
        base = _rows(model, trees)
    if own is None or base is None:
        return Finding(check, "note", "no row can be read with the adapter")
    says = (
        f"with the adapter the run's own answers get {own.nats:.2f} nats a token, without it"
        f" {base.nats:.2f}"
    )
    evidence = {"adapter": own.nats, "base": base.nats}
    if own.nats <= base.nats + WORSE:
        return Finding(check, "ok", says, evidence)
    lost = not own.nats <= UNTRAINED * uniform and not permitted
    says += ": it takes away what the model knew"
    remedy = (
        "is it the adapter of this base, with the lora_alpha and rank that it was trained with?"
        " Name another, or train the base without it"
    )
    return Finding(check, "refused" if lost else "warning", says, evidence, remedy)


def _says(text: Known | None, rows: Known | None, uniform: float) -> str:
    told = [
        f"{what} {known.nats:.2f} nats a token"
        for what, known in (("plain English", text), ("the run's own answers", rows))
        if known is not None
    ]
    return (
        f"the model gives {' and '.join(told) or 'nothing that could be read'}; a model that knows"
        f" nothing gives ln V = {uniform:.2f}"
    )


def _evidence(text: Known | None, rows: Known | None) -> dict:
    return {
        "paragraph": text.nats if text is not None else None,
        "rows": rows.nats if rows is not None else None,
    }


def _size(model: LanguageModel) -> int:
    """Count the parameters beside the embeddings."""
    embedding = model.network.get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    tables = {embedding, model.head.weight}
    return count_weights(model.network) - sum(table.numel() for table in tables)


def _paragraph(model: LanguageModel) -> Known | None:
    """Read the paragraph; None where the tokenizer has no tokens for English."""
    ids = model.tokenizer(PARAGRAPH)["input_ids"]
    unknown = sum(token == model.tokenizer.unk_token_id for token in ids)
    if 2 * unknown > len(ids):
        return None
    return _known(model, [(ids, 1)])


def _rows(model: LanguageModel, trees: Sequence[Tree]) -> Known | None:
    """Read a spread sample of the run's answers, each behind its prompt."""
    step = max(1, len(trees) // ROWS)
    found = []
    for tree in trees[::step][:ROWS]:
        answer = tree.completions[0] if tree.completions else ()
        ids = [*tree.prompt, *answer]
        start = len(tree.prompt) if answer else 1
        cut = max(0, min(len(ids) - TOKENS, start - 1))
        found.append((ids[cut:][:TOKENS], max(1, start - cut)))
    return _known(model, [(ids, start) for ids, start in found if len(ids) > start])


def _known(model: LanguageModel, texts: Sequence[tuple[list[int], int]]) -> Known | None:
    """Measure the tokens behind each start; ids that the model has no row for are left to the
    check of the vocabulary.
    """
    values: list[Tensor] = []
    for ids, start in texts:
        row = torch.tensor([ids[: model.positions or None]], device=model.device)
        if row.max() >= model.vocabulary_rows or row.shape[1] <= start:
            continue
        logits = model.network(input_ids=row, use_cache=False).logits[0, start - 1 : -1].float()
        values.append(torch.log_softmax(logits, -1).gather(1, row[0, start:, None]).squeeze(1))
    if not values:
        return None
    every = torch.cat(values)
    return Known(-every.mean().item(), len(every))
