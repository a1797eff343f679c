"""The modules of a network that adapters can sit on, and the weights that they leave out."""

from __future__ import annotations

import re
from collections import Counter

import torch

from accord import compat
from accord.compat import conv1d
from accord.models.language import LanguageModel
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
    names = sorted({name for path in _linear_paths(network) if (name := _in_attention(path))})
    if not names:
        raise UsageError(
            "model.lora.targets = attention: this architecture has no module of that kind.\n"
            f"Name the modules, or use all-linear. It has: {', '.join(linear_names(network))}."
        )
    return names


def _in_attention(path: str) -> str:
    """Return the end of a path from the module that calls itself attention on; empty without one.

    XLM keeps its attentions in a list, and so a number stands between.
    """
    *above, name = path.split(".")
    while above and above[-1].isdigit():
        name = f"{above.pop()}.{name}"
    return f"{above[-1]}.{name}" if above and "att" in above[-1].lower() else ""


# PEFT refuses LoRA on these modules of these architectures, whose kernels read their weights
# themselves (peft 0.18 to 0.21), also where it was asked for all linear modules
KERNELS_READ = ("out_proj", "conv1d")
WITH_KERNELS = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")


def left_out(model: LanguageModel, targets: list[str] | str) -> str | None:
    """Make the pattern of what gets no adapter: parts that no text reaches, and of all linear
    modules those that PEFT refuses.
    """
    parts = [re.escape(part) + r"(\..*)?" for part in model.outside]
    if targets == "all-linear" and model.network.config.model_type in WITH_KERNELS:
        parts += [rf"(.*\.)?{name}" for name in KERNELS_READ]
    return "|".join(f"({part})" for part in parts) or None


def unreached(model: LanguageModel) -> dict[str, int]:
    """Count the parameters of matrices that adapters on all linear modules leave out, by name.

    Fused experts are one parameter of three dimensions, and no linear module; so are the tensors
    of a recurrence. Embeddings and head are left out by design. Empty where some linear module has
    no adapter that could have one: then modules were chosen by name.
    """
    refused = KERNELS_READ if model.network.config.model_type in WITH_KERNELS else ()
    head = model.network.get_output_embeddings()
    layers = compat.adapter_layers(model.network)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    found: Counter[str] = Counter()
    for path, module in model.network.named_modules():
        if any(path == part or path.startswith(f"{part}.") for part in model.outside):
            continue
        own = [(n, p) for n, p in module.named_parameters(recurse=False) if id(p) not in inside]
        linear = isinstance(module, (torch.nn.Linear, conv1d())) and module is not head
        if own and linear and path.rpartition(".")[2] not in refused:
            return {}
        for name, parameter in own:
            if parameter.dim() > 1:
                words = [word for word in path.split(".") if not word.isdigit()]
                found[".".join([*words[-2:], name]).removesuffix(".weight")] += parameter.numel()
    return dict(found)


def _linear_paths(network: torch.nn.Module) -> list[str]:
    kinds = (torch.nn.Linear, conv1d(), torch.nn.Embedding)
    return [path for path, module in network.named_modules() if isinstance(module, kinds)]
