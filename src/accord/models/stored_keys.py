"""The tensors of a model's files against those of the network that config.json describes.

transformers draws what is missing at random and drops what has no place, with no more than a
warning: a configuration of too few layers trains another model than was saved.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from accord.errors import plural
from accord.models.weight_files import Stored
from accord.types import UsageError

# Tensors that an architecture computes and older versions wrote into files as well: angles of
# rotary positions, numbers of positions, tables of sine positions, the fill value of a mask.
COMPUTED = re.compile(r"(^|\.)(inv_freq|position_ids|embed_positions\.weights|masked_bias)$")
MASK = re.compile(r"(^|\.)(attn|attention|self_attn|self_attention)\.bias$")
# A head beside the model's own that a trainer added: TRL's value head of PPO.
EXTRA_HEAD = re.compile(r"^(v_head|value_head|critic)\.")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.")
NAMES = {"F16": "float16", "F64": "float64", "F32": "float32", "BF16": "bfloat16"}


def key_notes(
    network: PreTrainedModel,
    info: Mapping[str, Any],
    stored: Mapping[str, Stored],
    name: str,
    *,
    reward: bool,
) -> list[str]:
    """Refuse files that hold other tensors than the network has.

    Args:
      info: what transformers says of the load: keys that are missing, unexpected, of other shapes.
      stored: the headers of the files; empty where they are not at hand.
      reward: the network scores; the head of a language model is not used.

    Returns:
      what is left out on purpose, in words.

    Raises:
      UsageError: with the first names, and the setting that they point to.
    """
    config = network.config.get_text_config()
    keys = set(stored) | set(info["unexpected_keys"])
    if missing := sorted(info["missing_keys"]):
        raise UsageError(
            f"{name}: {len(missing):,} of the model's tensors are not in its files, such as"
            f" {missing[0]}.\nThey would be random.{_why_missing(missing, keys, config)} Expected"
            " the weights that config.json describes; save the whole model again."
        )
    if shapes := sorted(str(key[0]) for key in info["mismatched_keys"]):
        raise UsageError(
            f"{name}: {len(shapes):,} of the model's tensors have other shapes in its files, such"
            f" as {shapes[0]}.\nconfig.json does not describe these weights: use the one that was"
            " saved with them."
        )
    extra = sorted(key for key in info["unexpected_keys"] if not is_computed(key, stored))
    extra = [key for key in extra if not _predicts_ahead(key, config)]
    heads = [key for key in extra if EXTRA_HEAD.match(key) or (reward and "lm_head" in key)]
    if strays := [key for key in extra if key not in heads]:
        counted = plural(len(strays), "tensor of its files has", "tensors of its files have")
        raise UsageError(
            f"{name}: {counted} no place in the model that config.json describes, such as"
            f" {strays[0]}.\nThey would be dropped, and another"
            f" model than was saved would train.{_why_extra(strays, config)}"
        )
    _require_tied(network, name)
    return [f"{heads[0]} is not read: a head that is no part of the model"] if heads else []


def is_computed(key: str, stored: Mapping[str, Stored]) -> bool:
    """Tell whether a tensor is one that the architecture computes by itself."""
    if COMPUTED.search(key):
        return True
    shape = stored[key].shape if key in stored else ()
    # GPT-2's causal mask, [1, 1, n, n]; a bias that was learned is a vector
    return bool(MASK.search(key)) and (math.prod(shape) == 1 or len(shape) == 4)


def _predicts_ahead(key: str, config: Any) -> bool:
    """Tell whether a tensor is of a layer that predicts further tokens (DeepSeek, GLM): it stands
    behind the last layer, and the configuration says how many there are.
    """
    ahead = getattr(config, "num_nextn_predict_layers", None) or 0
    first = getattr(config, "num_hidden_layers", 0)
    layer = LAYER.search(key)
    return layer is not None and first <= int(layer.group(1)) < first + ahead


def _layers(keys: Collection[str]) -> int:
    """Return one more than the highest number of a layer; 0 without any."""
    return max((int(found.group(1)) + 1 for key in keys if (found := LAYER.search(key))), default=0)


def _why_missing(missing: list[str], keys: Collection[str], config: Any) -> str:
    wrapper = next((w for w in WRAPPERS if any(key.startswith(w) for key in keys)), None)
    if wrapper is not None:
        return (
            f" The files' names begin with {wrapper!r}: they were saved from inside a wrapper;"
            " save the model itself."
        )
    count, held = getattr(config, "num_hidden_layers", 0), _layers(keys)
    if keys and count > held > 0:
        return f" config.json says num_hidden_layers: {count}, and the files hold {held}."
    if all("lm_head" in key or "embed_out" in key for key in missing):
        return (
            " config.json says tie_word_embeddings: false, so the head needs weights of its own;"
            " if the model ties it to the embedding, say true there."
        )
    return ""


def _why_extra(strays: list[str], config: Any) -> str:
    count, held = getattr(config, "num_hidden_layers", 0), _layers(strays)
    if held > count > 0:
        return (
            f" The files hold {held} layers, and config.json says num_hidden_layers: {count}. Set"
            f" it to {held}, or save the model with {count} layers."
        )
    if any("lora_" in key for key in strays):
        return " They are an adapter's: merge it, or save model and adapter apart."
    return " Use the config.json that was saved with them, or save the whole model again."


def _require_tied(network: PreTrainedModel, name: str) -> None:
    """Refuse a head of its own where the configuration ties it to the embedding.

    transformers keeps both, other readers of the same folder drop the head.
    """
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    tied = getattr(network.config.get_text_config(), "tie_word_embeddings", False)
    if not tied or head is None or embedding is None or head.weight is embedding.weight:
        return
    raise UsageError(
        f"{name}: config.json says tie_word_embeddings: true, and the files hold a head that is"
        " another tensor than the embedding.\nWhich of the two is meant cannot be known: say"
        " tie_word_embeddings: false to keep the head, or save the model without it."
    )


def dtype_notes(stored: Mapping[str, Stored], computed: torch.dtype) -> list[str]:
    """Say what float16 and float64 weights are computed and saved in."""
    sizes: dict[str, int] = {}
    for tensor in stored.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + math.prod(tensor.shape)
    most = max(sizes, key=lambda kind: sizes[kind], default="")
    if most not in ("F16", "F64"):
        return []
    now = str(computed).removeprefix("torch.")
    loses = "" if computed is torch.float32 and most == "F16" else ", which rounds them"
    return [
        f"the files hold {NAMES[most]}; the model is computed in {now}{loses} (--set"
        " model.dtype=float32 or bfloat16), and all weights that train are saved in it"
        " (an adapter in float32)"
    ]
