"""The head of a model, read from its configuration: hidden states become logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadSpec:
    """The head: logits = softcap(scale · (W h + b)). The step-0 check against the full model
    catches what this misses.
    """

    module: torch.nn.Module  # the output embedding; a plain Linear, or one with adapters around it
    scale: float = 1.0  # Granite divides its logits, Cohere multiplies them
    softcap: float | None = None  # Gemma 2 and its kin

    @property
    def weight(self) -> Tensor:
        """Return W [V, D], of the base where there are adapters around it."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def plain(self) -> bool:
        """Tell whether there is no bias, no soft-capping and no adapter: the case that the fast
        backward pass is written for.
        """
        return (
            type(self.module) is torch.nn.Linear
            and self.module.bias is None
            and self.softcap is None
        )

    def scaled(self, logits: Tensor) -> Tensor:
        """Return raw logits in float32 (float64 stays: tests compare in it), times the model's own
        factor.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.scale == 1.0 else logits * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the final logits [C, V] of hidden states [C, D]."""
        logits = self.scaled(self.module(hidden))
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def head_spec(network) -> HeadSpec:
    """Read the head of a transformers causal model."""
    config = network.config.get_text_config()
    scale = 1.0
    if getattr(config, "logits_scaling", None):  # Granite
        scale = 1.0 / config.logits_scaling
    if getattr(config, "logit_scale", None):  # Cohere
        scale = float(config.logit_scale)
    return HeadSpec(
        network.get_output_embeddings(), scale, getattr(config, "final_logit_softcapping", None)
    )
