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


def trunk_of(network) -> torch.nn.Module:
    """Return what a transformers model computes without its head: token ids to hidden states."""
    trunk = network.base_model
    # Llama 4 and Mllama name a prefix that their text models do not have
    return getattr(network, "model", trunk) if trunk is network else trunk


# names of the configuration's factors, by which logits are divided or multiplied
DIVIDES = ("logits_scaling", "logits_mup_width_multiplier")  # Granite, Inkling
MULTIPLIES = ("logit_scale", "lm_head_multiplier")  # Cohere, Falcon-H1
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


def head_spec(network) -> HeadSpec:
    """Read the head of a transformers causal model."""
    config = network.config.get_text_config()
    # HyperCLOVA X multiplies by the factor that Granite divides by, under one name
    turned = config.model_type.startswith("hyperclovax")
    scale = 1.0
    for name in (*DIVIDES, *MULTIPLIES):
        factor = getattr(config, name, None)
        if factor:
            scale *= factor if turned or name in MULTIPLIES else 1.0 / factor
    caps = (getattr(config, name, None) for name in SOFTCAPS)
    return HeadSpec(network.get_output_embeddings(), float(scale), next(filter(None, caps), None))
