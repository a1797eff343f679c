"""The table of attention backends for packed trees, from the fastest down. A new one is a function
in a file of its own and a row here.

`choose` tries them in this order with the model at hand; each becomes a path of the same name
(`logps.PATHS`, `scores.SCORE_PATHS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.forward import block_attention, flex
from accord.forward.layout import Layout

# (query [1, h·g, T, d], key and value [1, h, T, d], layout, scale, window, softcap)
#   -> [1, h·g, T, d]
Attend = Callable[[Tensor, Tensor, Tensor, Layout, float, int | None, float | None], Tensor]


@dataclass(frozen=True)
class Backend:
    """One implementation of attention for packed trees."""

    name: str  # of the path; the value of model.forward
    title: str  # in sentences: "the … cannot be used"
    attend: Attend
    # device -> why it cannot train there, or None; not reported unless the user asked for it
    problem: Callable[[torch.device], str | None]
    # whether gradients are tried too: freshly compiled kernels may be wrong in the backward pass
    # alone
    tries_backward: bool = False


TREE_ATTENTION: dict[str, Backend] = {
    row.name: row
    for row in (
        Backend(
            "flex", "tree path by flex attention", flex.attend, flex.problem, tries_backward=True
        ),
        Backend("tree", "tree path", block_attention.attend, lambda device: None),
    )
}
