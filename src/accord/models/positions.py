"""The positions that a model was made for, and rotary positions whose angles depend on the longest
one of a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from accord.models.language import LanguageModel

LONGROPE, DYNAMIC = "longrope", "dynamic"
# Kinds of rotary positions that reach `factor` times the positions of the first training.
STRETCHED = ("linear", "yarn", "llama3", LONGROPE)


def _ropes(model: LanguageModel) -> Iterator[dict[str, Any]]:
    """Yield the settings of rotary positions: one for all layers, or one for each kind of layer."""
    settings = getattr(model.network.config.get_text_config(), "rope_parameters", None)
    if not isinstance(settings, dict):
        return
    if "rope_type" in settings:
        yield settings
    yield from (inner for inner in settings.values() if isinstance(inner, dict))


def boundary(model: LanguageModel) -> int | None:
    """Return the tokens up to which longrope takes its short factors; None for other models.

    A pass with a longer row takes the long factors, for its short rows as well.
    """
    for rope in _ropes(model):
        if rope.get("rope_type") == LONGROPE:
            found = rope.get("original_max_position_embeddings")
            return int(found) if found else None
    return None


def is_dynamic(model: LanguageModel) -> bool:
    """Tell whether the angles of all tokens change with each length beyond the limit."""
    return any(DYNAMIC in str(rope.get("rope_type")) for rope in _ropes(model))


def positions_matter(model: LanguageModel) -> bool:
    """Tell whether the numbers depend on how many positions config.json names: plain rotary
    positions are the same for any limit.
    """
    kinds = {str(rope.get("rope_type")) for rope in _ropes(model)}
    return has_table(model) or not kinds <= {"default", "linear", "llama3"} or not kinds


def limit_of(model: LanguageModel) -> int | None:
    """Return the longest row that the model was made for, where its configuration says."""
    limit = model.positions
    for rope in _ropes(model):
        first, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
        if limit and first and factor and rope.get("rope_type") in STRETCHED:
            limit = max(limit, int(first * factor))
    return limit


def has_table(model: LanguageModel) -> bool:
    """Tell whether each position has a learned vector, so that there is none behind the last."""
    embedding = model.network.get_input_embeddings()
    return any(
        isinstance(module, torch.nn.Embedding) and module is not embedding and _of_positions(name)
        for name, module in model.network.named_modules()
    )


def _of_positions(name: str) -> bool:
    last = name.rpartition(".")[2]
    return "pos" in last or last == "wpe"
