"""Fingerprints of models: two models with one fingerprint compute the same numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from transformers import PreTrainedModel

from accord.environment.digests import flatten
from accord.models.parts import gathered

# fields of a configuration that change no number
NO_NUMBERS = ("_name_or_path", "transformers_version", "use_cache")


def weights(network: PreTrainedModel) -> str:
    """Hash every parameter and buffer as loaded (sha256 of names, shapes, dtypes and bytes) and the
    configuration.

    The configuration counts since it changes the numbers as well: rotary base, window, epsilon,
    scale of the logits. Taken from memory, not from the file: a model that was edited, merged or
    cast after loading is another model.
    """
    config = {
        name: value for name, value in network.config.to_dict().items() if name not in NO_NUMBERS
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        flat = gathered(tensor.detach()).cpu().contiguous().reshape(-1)
        for piece in flat.split(1 << 24):
            digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()


# Fields that no number of a forward pass without dropout depends on. Classifiers get labels and a
# padding token, loading sets the dtype and the attention.
NEVER_COUNTS = (
    *NO_NUMBERS,
    *("dtype", "torch_dtype", "architectures", "id2label", "label2id", "num_labels"),
    *("problem_type", "initializer_range", "return_dict", "output_attentions"),
    *("output_hidden_states", "auto_map", "pretraining_tp", "is_decoder"),
)


def base_weights(network: PreTrainedModel) -> str:
    """Hash the weights under any adapters, rounded to bfloat16 (sha256): one digest for a base in
    every dtype, on every device and in any number of files.

    Adapters and copies of modules beside the base's own do not count, so that the digest is the
    same before and after an adapter is loaded. A change of less than bfloat16's rounding of every
    weight (1 in 256) does not show; one that training makes is seen, since some weight of the
    millions lies near an edge.
    """
    digest = hashlib.sha256()
    own = ((name_in_base(name), tensor) for name, tensor in network.state_dict().items())
    for name, tensor in sorted((name, tensor) for name, tensor in own if name):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        for piece in gathered(tensor.detach()).reshape(-1).split(1 << 24):
            rounded = piece.cpu().to(torch.bfloat16) if piece.is_floating_point() else piece.cpu()
            digest.update(rounded.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def name_in_base(name: str) -> str:
    """Return the name that a tensor of an adapted network has in its base; empty for one that the
    base does not have.
    """
    parts = name.split(".")
    if "modules_to_save" in parts or any(part.startswith("lora_") for part in parts):
        return ""
    return ".".join(part for part in parts if part not in ("base_layer", "original_module"))


def numbers(network: PreTrainedModel) -> dict[str, object]:
    """Return the fields of a configuration that change what the network computes, flat, by path
    ("rope_parameters.rope_theta").
    """
    config = json.loads(json.dumps(network.config.to_dict(), default=str))
    return {
        path: value
        for path, value in sorted(flatten(config).items())
        if not any(_never_counts(part) for part in path.split("."))
    }


def _never_counts(name: str) -> bool:
    ends = ("_token_id", "_pdrop", "_implementation")
    return name in NEVER_COUNTS or name[:1] == "_" or "dropout" in name or name.endswith(ends)


def adapter(folder: str | Path) -> str:
    """Hash a PEFT adapter's configuration and weights (sha256)."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((Path(folder).expanduser() / name).read_bytes())
    return digest.hexdigest()
