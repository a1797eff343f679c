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

    Fused experts are one parameter of three dimensions, and no linear module: PEFT reaches those
    of some families (Mixtral), and not of others (gpt-oss). So are the tensors of a recurrence.
    Embeddings and head are left out by design. Empty where modules were chosen by name.
    """
    if not model.all_linear:
        return {}
    layers = compat.adapter_layers(model.network)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    found: Counter[str] = Counter()
    for path, parameter in model.network.named_parameters():
        tower = any(path.startswith(f"{part}.") for part in model.outside)
        if parameter.dim() > 1 and id(parameter) not in inside and not tower:
            words = [word for word in path.removesuffix(".weight").split(".") if not word.isdigit()]
            found[".".join(words[-3:])] += parameter.numel()
    return dict(found)


def _linear_paths(network: torch.nn.Module) -> list[str]:
    kinds = (torch.nn.Linear, conv1d(), torch.nn.Embedding)
    return [path for path, module in network.named_modules() if isinstance(module, kinds)]
