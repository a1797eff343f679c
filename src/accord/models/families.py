"""Facts about a family of models that decide how it may be computed: which layers carry a state
from token to token, and which of its parts text never reaches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from accord import compat

# names of kinds of layers, in `layer_types` and its like, that carry a state or a convolution
STATE = re.compile(r"linear|conv|recurrent|mamba|ssm|lstm|hybrid|delta")
KINDS = ("layer_types", "layers_block_type", "block_types")


def state_of(network: PreTrainedModel) -> str:
    """Name what carries a state from token to token beside attention; empty if nothing does.

    Such a layer reads the tokens in their order in the row. In rows that share a prompt, or stand
    packed behind one another, it would mix them: by so little with small convolutions (1e-4 nats a
    token in LFM2 as it is drawn) that comparing numbers does not show it.
    """
    config = network.config.get_text_config()
    kinds = {str(kind) for name in KINDS for kind in getattr(config, name, None) or ()}
    if found := sorted(kind for kind in kinds if STATE.search(kind)):
        return f"layers of kind {', '.join(found)}"
    decoder = network.get_decoder()
    convolutions = [name for name, m in decoder.named_modules() if isinstance(m, nn.Conv1d)]
    if convolutions:
        return f"a convolution over tokens ({convolutions[0]})"
    return f"{type(network).__name__} is recurrent" if compat.is_stateful(network) else ""


def outside_language(network: PreTrainedModel) -> list[str]:
    """List the largest parts that no text reaches: vision and audio towers, their projectors.

    One short text is computed. A part none of whose modules is called is outside. Of modules in a
    list (layers, experts) all count as reached if one is: experts that a text does not choose, or
    layers that only images need, stay part of the language model.
    """
    called: set[nn.Module] = set()
    handles = [
        module.register_forward_hook(lambda module, *_: called.add(module))
        for module in network.modules()
    ]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            ids = torch.arange(3, 9, device=network.device)[None]
            network(input_ids=ids, use_cache=False)
    except Exception:  # a network that computes no text is refused where its path is chosen
        return []
    finally:
        for handle in handles:
            handle.remove()
    return list(_untouched(network, called, ""))


def _untouched(module: nn.Module, called: set[nn.Module], path: str) -> Iterator[str]:
    for name, child in module.named_children():
        inside = f"{path}.{name}" if path else name
        weights = next(child.parameters(), None) is not None
        if not weights:
            continue
        if called.isdisjoint(child.modules()):
            yield inside
        elif not isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _untouched(child, called, inside)


ROUTER = (
    "router_aux_loss_coef",
    "aux_loss_coef",
    "aux_loss_alpha",
    "router_z_loss_coef",
    "z_loss_coefficient",
)


def router_losses(network: PreTrainedModel) -> dict[str, float]:
    """List the coefficients of a router's auxiliary losses that a configuration sets above 0."""
    config = network.config.get_text_config()
    named = {name: getattr(config, name, None) for name in ROUTER}
    return {name: float(value) for name, value in named.items() if value}
