"""Tensors that were never trained inside a model that was: of one value, or as an initialisation
draws them.

A layer that was lost while a model was merged, converted or cut is drawn anew by transformers, and
the model still speaks. Entries that were drawn independently have rows and columns of nearly one
norm: the spread of the norms of rows of D entries is 1/√(2D) of their mean for normal numbers.
Training makes rows differ by more. This holds for every scale, so no setting has to be believed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor

from accord.errors import plural
from accord.models.language import LanguageModel
from accord.models.parts import gathered
from accord.models.quantized import named_weights
from accord.types import Finding

LAYER = re.compile(r"\.(\d+)\.")
# Rows and columns of a matrix that is judged: of fewer, the spread of norms is known too badly.
FEWEST = 128
MOST = 512  # rows and columns that are read of a large one
# Spread of the norms over what independent entries give. Drawn matrices of 192 rows stay under
# 1.06; the least of the 210 matrices of SmolLM2-135M is 1.40, which has a few very large entries.
DRAWN = 1.2
# Fourth moment over the squared variance: 3 for normal entries, 1.8 for uniform ones. Large entries
# raise it, and no initialisation draws any.
HEAVY = 3.3
SMALLEST = 16  # entries of a matrix whose being constant means something


@torch.no_grad()
def weight_findings(model: LanguageModel, *, permitted: bool = False) -> list[Finding]:
    """Report matrices of one value, and those that look drawn, where the like of them in other
    layers do not.
    """
    judged: dict[str, _Judged] = {}
    for name, p in named_weights(model.network):  # quantised ones are made one at a time
        # an adapter's second matrix begins with zeros
        if p.dim() > 1 and p.numel() >= SMALLEST and "lora_" not in name:
            judged[name] = _judge(gathered(p), numbered=bool(LAYER.search(name)))
    constant = _odd_ones({name: found.constant is not None for name, found in judged.items()})
    if constant:
        value = judged[constant[0]].constant
        content = "nothing but zeros" if value == 0 else f"the value {value:g} and no other"
        says = (
            f"{plural(len(constant), 'matrix', 'matrices')} of {model.source}"
            f" {'holds' if len(constant) == 1 else 'hold'} {content},"
            f" such as {constant[0]}:"
            " they compute nothing"
        )
        return [_finding(says, constant, permitted)]
    known = {name: found.drawn for name, found in judged.items() if found.drawn is not None}
    drawn = _odd_ones(known)
    if drawn:
        says = (
            f"{plural(len(drawn), 'matrix', 'matrices')} of {model.source}"
            f" {'is' if len(drawn) == 1 else 'are'} as an initialisation draws them, and"
            f" the like of them in other layers are trained: {', '.join(drawn[:3])}"
        )
        return [_finding(says, drawn, permitted)]
    told = len(known)
    says = f"none of {len(judged):,} matrices is constant" + (
        f", none of {told:,} looks as an initialisation draws it"
        if told
        else f"; all have under {FEWEST} rows or columns, too few to see whether they were drawn"
    )
    return [Finding("model.layers", "ok", says)]


def _finding(says: str, names: list[str], permitted: bool) -> Finding:
    remedy = (
        "load another copy of the model; if these layers are new on purpose: --allow"
        " untrained_model"
    )
    evidence = {"tensors": names[:20]}
    if permitted:
        return Finding("model.layers", "note", says, evidence)
    return Finding("model.layers", "refused", says, evidence, remedy)


def _odd_ones(found: dict[str, bool]) -> list[str]:
    """List the matrices of which something is true that is not true of the same matrix in most
    other layers: there it is the architecture's own way, or the whole model is untrained.
    """
    kinds: dict[str, list[bool]] = defaultdict(list)
    for name, true in found.items():
        kinds[LAYER.sub(".*.", name, count=1)].append(true)
    odd = {kind for kind, true in kinds.items() if len(true) == 1 or 2 * sum(true) <= len(true)}
    return [name for name, true in found.items() if true and LAYER.sub(".*.", name, count=1) in odd]


class _Judged(NamedTuple):
    constant: float | None  # the value of all entries
    drawn: bool | None  # None: too small to tell, constant, or of no layer


def _judge(p: Tensor, *, numbered: bool) -> _Judged:
    constant = _only_value(p)  # and then it has no spread to judge by
    return _Judged(constant, _looks_drawn(p) if numbered and constant is None else None)


def _only_value(p: Tensor) -> float | None:
    """Return the value of all entries, or None; the first few settle it for nearly all matrices."""
    flat = p.detach().reshape(-1)
    same = bool((flat[:SMALLEST] == flat[0]).all()) and bool((flat == flat[0]).all())
    return flat[0].item() + 0.0 if same else None  # no -0


def _looks_drawn(p: Tensor) -> bool | None:
    """Tell whether the entries of a matrix look independent; None if it is too small to tell."""
    rows = p.detach().reshape(-1, p.shape[-1])
    if min(rows.shape) < FEWEST:
        return None
    values = rows[:: max(1, len(rows) // MOST)][:MOST]
    values = values[:, :: max(1, values.shape[1] // MOST)][:, :MOST].float()
    centred = values - values.mean()
    squared = centred.square()
    heaviness = (squared.square().mean() / squared.mean().square().clamp_min(1e-30)).item()
    if not heaviness < HEAVY:
        return False
    return all(_spread(squared.mean(dim), heaviness, values.shape[dim]) < DRAWN for dim in (0, 1))


def _spread(squares: Tensor, heaviness: float, entries: int) -> float:
    """Compute the spread of rows' mean squares over what `entries` independent entries give."""
    expected = ((heaviness - 1) / entries) ** 0.5
    return (squares.std() / squares.mean().clamp_min(1e-30)).item() / max(expected, 1e-30)
