"""Activation checkpointing: layers that keep their input alone and are computed again for the
backward pass.

transformers' own switch works in training mode only, and accord's models never leave evaluation
mode (dropout in the base would make two forwards of one batch differ). Recomputing costs one more
forward pass, so it is only used when memory asks for it.

Source: Chen et al. 2016, arXiv:1604.06174.
"""

from __future__ import annotations

from functools import cache

import torch
from torch.utils.checkpoint import checkpoint

from accord.compat import checkpointed_layer
from accord.models.language import LanguageModel


def recompute_activations(model: LanguageModel) -> int:
    """Make every decoder layer recompute; return how many. Calling it again changes nothing."""
    kind = checkpointed_layer()
    layers = [m for m in model.network.modules() if isinstance(m, kind) and not recomputes(m)]
    for layer in layers:
        own: type = type(layer)
        layer.__class__ = _subclass(own)
    return len(layers)


def recomputes(layer: torch.nn.Module) -> bool:
    return hasattr(type(layer), "keeps_its_input_alone")


@cache
def _subclass(own: type) -> type:
    def call(self, *args, **kwargs):
        if not torch.is_grad_enabled():
            return own.__call__(self, *args, **kwargs)
        return checkpoint(own.__call__, self, *args, use_reentrant=False, **kwargs)

    return type(
        f"Recomputed{own.__name__}", (own,), {"__call__": call, "keeps_its_input_alone": True}
    )
