"""The modules of a network that adapters can sit on."""

from __future__ import annotations

import torch

from accord.compat import conv1d
from accord.types import UsageError


def linear_names(network: torch.nn.Module) -> list[str]:
    """List the last names of the modules that LoRA can sit on, each once."""
    return sorted({path.rsplit(".", 1)[-1] for path in _linear_paths(network)})


def attention_names(network: torch.nn.Module) -> list[str]:
    """List the projections of the attention layers, each as parent.name ("self_attn.q_proj"),
    whatever a family calls them.

    Raises:
      UsageError: the architecture has nothing that calls itself attention.
    """
    inside = [path.split(".") for path in _linear_paths(network)]
    names = sorted(
        {".".join(parts[-2:]) for parts in inside if len(parts) > 1 and "att" in parts[-2].lower()}
    )
    if not names:
        raise UsageError(
            "model.lora.targets = attention: this architecture has no module of that kind.\n"
            f"Name the modules, or use all-linear. It has: {', '.join(linear_names(network))}."
        )
    return names


def _linear_paths(network: torch.nn.Module) -> list[str]:
    kinds = (torch.nn.Linear, conv1d(), torch.nn.Embedding)
    return [path for path, module in network.named_modules() if isinstance(module, kinds)]
