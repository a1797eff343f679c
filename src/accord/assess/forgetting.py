"""Perplexity of texts that the model should not have forgotten, beside the perplexity of its
reference.

A text is cut into pieces of at most the run's `max_tokens`. The first token of a piece is given,
not predicted. In rows with answers, the answers to imitate are predicted given their prompts; for
pairs these are the chosen ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from accord.assess.anchor import EvalReference
from accord.assess.opened import OpenModel
from accord.data.naming import Naming
from accord.data.read import read
from accord.data.trees import Limits, encode
from accord.evaluate.intervals import AT_LEAST_ZERO, Estimate, bootstrap_ratio
from accord.forward.choose import Forward
from accord.forward.layout import micro_batches
from accord.forward.reference import Reference
from accord.types import DataError, Logps, Tree


def perplexity(path: str, opened: OpenModel, policy: Forward, anchor: EvalReference | None) -> dict:
    """Measure nats per token and perplexity of the model and of its reference, and their difference
    on the same texts.

    Raises:
      DataError: no text in the file.
    """
    trees, owners = texts(path, opened)
    own = _logps(trees, opened, policy, None)
    tokens = own.count.double().cpu().numpy()
    found = {
        "file_texts": len(set(owners)),
        "tokens": int(tokens.sum()),
        **_figures(_nats(own), tokens, owners),
    }
    if anchor is None:
        return found
    other = _nats(_logps(trees, opened, policy, anchor.reference))
    change = bootstrap_ratio(_nats(own) - other, tokens, clusters=owners)
    return found | {
        "reference": _figures(other, tokens, owners),
        "nats_a_token_more": change.as_dict(),
        "against": anchor.says,
    }


def texts(path: str, opened: OpenModel) -> tuple[list[Tree], list[int]]:
    """Read the texts to predict as trees of one completion. Return also the number of the text that
    each tree comes from.

    Raises:
      DataError: the file cannot be read, or holds nothing that can be predicted.
    """
    trees = (
        _plain(path, opened)
        if Path(path).suffix.lower() in (".txt", ".md")
        else _rows(path, opened)
    )
    if not trees:
        raise DataError(
            f"{path}: nothing to predict. Expected a .txt with texts apart by empty lines, or rows"
            " with answers."
        )
    return trees, [tree.row for tree in trees]


def _plain(path: str, opened: OpenModel) -> list[Tree]:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as text in UTF-8: {error}.") from error
    size, trees = opened.config.data.max_tokens, []
    for number, block in enumerate(part for part in text.split("\n\n") if part.strip()):
        ids = opened.model.tokenizer(block.strip("\n"))["input_ids"]
        pieces = (ids[start : start + size] for start in range(0, len(ids), size))
        trees += [
            Tree((piece[0],), (tuple(piece[1:]),), number) for piece in pieces if len(piece) > 1
        ]
    return trees


def _rows(path: str, opened: OpenModel) -> list[Tree]:
    data = opened.config.data
    naming = Naming(data.columns, data.ignore_columns, lenient=True)
    examples = read(path, "demonstrations", format=data.format, naming=naming).examples
    limits = Limits(data.max_tokens, data.long_prompts, data.long_answers)
    return list(encode(examples, opened.template, limits).trees)


def _logps(
    trees: list[Tree], opened: OpenModel, policy: Forward, reference: Reference | None
) -> Logps:
    """Compute log-probs under the policy, or under the reference if one is given, in the order of
    the trees.
    """
    groups = micro_batches(trees, 2 * opened.config.train.micro_tokens)
    with torch.no_grad():
        pieces = [_group(policy, reference, [trees[i] for i in group]) for group in groups]
    return Logps.join(pieces)


def _group(policy: Forward, reference: Reference | None, trees: list[Tree]) -> Logps:
    return policy.token_logps(trees).reduce() if reference is None else reference.logps(trees)


def _nats(logps: Logps) -> np.ndarray:
    return -logps.sum.double().cpu().numpy()


def _figures(nats: np.ndarray, tokens: np.ndarray, owners: list[int]) -> dict:
    mean = bootstrap_ratio(nats, tokens, clusters=owners, bounds=AT_LEAST_ZERO)
    return {"nats_a_token": mean.as_dict(), "perplexity": _exponential(mean).as_dict()}


def _exponential(mean: Estimate) -> Estimate:
    """Turn nats into perplexity. The exponential is monotone, so it maps the ends of the interval
    as well.
    """
    low, high = (math.exp(end) if math.isfinite(end) else end for end in (mean.low, mean.high))
    return Estimate(math.exp(mean.value), low, high, mean.n)
