"""Fingerprints of models: two models with one fingerprint compute the same numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from accord.environment.digests import text_digest

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
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        for piece in flat.split(1 << 24):
            digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adapter(folder: str | Path) -> str:
    """Hash a PEFT adapter's configuration and weights (sha256)."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update((Path(folder).expanduser() / name).read_bytes())
    return digest.hexdigest()


def tokenizer(tok: PreTrainedTokenizerBase) -> str:
    """Hash vocabulary, added tokens, chat template and the whole fast tokenizer where there is one
    (sha256).
    """
    backend = getattr(tok, "backend_tokenizer", None)
    state = {
        "vocabulary": sorted(tok.get_vocab().items()),
        "template": tok.chat_template,
        "special": {key: str(value) for key, value in sorted(tok.special_tokens_map.items())},
        "backend": backend.to_str() if backend is not None else type(tok).__name__,
    }
    return text_digest(json.dumps(state, sort_keys=True))
