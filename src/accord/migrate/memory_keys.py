"""Memory in other tools' settings: the optimizer, gradient checkpointing, a quantised base."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accord.config.optimizers import OPTIMIZER_OPTIONS
from accord.errors import UsageError
from accord.migrate.reading import Reading, number

# names of transformers' Trainer, which the other tools pass on -> ours
OPTIMIZERS = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_hf": "adamw",
    "adamw_8bit": "adamw_8bit",
    "adamw_bnb_8bit": "adamw_8bit",
    "paged_adamw": "paged_adamw",
    "paged_adamw_32bit": "paged_adamw",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
NO_OPTIMIZER = (
    f"accord has {', '.join(OPTIMIZER_OPTIONS)}, and trains with adamw where none is named"
)
NO_MOMENTUM = "transformers' sgd has no momentum unless optim_args give one"
CHECKPOINTING = "train.recompute: auto does it where a row would not fit"


def optimizer(reading: Reading, key: str) -> None:
    """Map the optimizer and what it reads. One that accord does not have is left to its rule.

    A paged optimizer becomes the one whose updates it makes, which runs on any machine: where its
    state lies is a matter of the machine, not of the run.
    """
    given = reading.settings.get(key)
    name = OPTIMIZERS.get(given) if isinstance(given, str) else None
    if name is not None:
        reading.take(key)
        plain = name.removeprefix("paged_")
        note = f"the updates of {given} on any machine" if plain != name else ""
        reading.put("train.optimizer", plain, key, note)
        if plain != name:
            reading.say(
                "to do",
                key,
                f"{given}: where a GPU has no room for the optimizer's state, --set"
                f" train.optimizer={name} lets it leave for main memory, with the same updates",
            )
        name = plain
    _betas(reading, name or "adamw")
    if name == "sgd":
        momentum = _momentum(reading)
        reading.put("train.momentum", momentum, key, "" if momentum else NO_MOMENTUM)


def _betas(reading: Reading, name: str) -> None:
    given = [key for key in ("adam_beta1", "adam_beta2") if key in reading.settings]
    betas = (number(reading.take("adam_beta1", 0.9)), number(reading.take("adam_beta2", 0.999)))
    if "betas" not in OPTIMIZER_OPTIONS[name]:
        for key in given:
            reading.say("not needed", key, f"{name} has no such moments")
    elif betas != (0.9, 0.999):
        reading.put("train.betas", list(betas), given[0])


def _momentum(reading: Reading) -> float:
    """Read sgd's momentum out of `optim_args`. What else stands there is left to their rule."""
    parts = str(reading.take("optim_args", "")).split(",")
    pairs = {name.strip(): value for name, _, value in (part.partition("=") for part in parts)}
    momentum = pairs.pop("momentum", 0.0)
    if rest := ",".join(f"{name}={value}" for name, value in pairs.items() if name):
        reading.settings["optim_args"] = rest
    try:
        return number(momentum)
    except UsageError as error:
        raise UsageError(f"optim_args: momentum: {error}") from error


def checkpointing(reading: Reading) -> None:
    """Map gradient checkpointing where it is asked for. Where it is switched off, its rule says
    what accord does.
    """
    if reading.settings.get("gradient_checkpointing") in (True, "true", "unsloth", "offload"):
        reading.take("gradient_checkpointing")
        reading.put("train.recompute", "always", "gradient_checkpointing")


def quantized(reading: Reading, key: str, bits: int, kind: Any = "nf4", double: Any = None) -> None:
    """Map a base in few bits.

    Args:
      key: that asks for it.
      kind: of 4 bits, in bitsandbytes' words.
      double: whether scales are quantised too.
    """
    reading.take(key)
    if reading.recipe.get("model", {}).get("lora", True) is None:
        return reading.say(
            "to do", key, "quantised weights do not train: train adapters, or leave it out"
        )
    if bits == 8:
        return reading.put(
            "model.quantize",
            "int8",
            key,
            "a scale for each output; bitsandbytes also keeps columns of large inputs in 16 bits",
        )
    note = "" if kind == "nf4" else f"{kind!r:.20} there; nf4 takes as many bits"
    value: Any = "nf4" if double in (None, True) else {"kind": "nf4", "double": False}
    return reading.put("model.quantize", value, key, note)


def of_bitsandbytes(reading: Reading, double: str, nested: bool | None) -> None:
    """Map transformers' four keys of a quantised base.

    Args:
      double: the key that says whether scales are quantised too.
      nested: what the tool takes where that key is not given.
    """
    take: Callable[..., Any] = reading.take
    four, eight = (
        reading.settings.get(key) in (True, 1) for key in ("load_in_4bit", "load_in_8bit")
    )
    if four and eight:
        raise UsageError(
            "load_in_4bit and load_in_8bit are both true, which transformers refuses: keep one of"
            " them, or --leave-out load_in_8bit."
        )
    if not (four or eight):
        return
    kind, scales = take("bnb_4bit_quant_type", "nf4"), take(double, nested)
    if four:
        quantized(reading, "load_in_4bit", 4, kind, scales)
    else:
        quantized(reading, "load_in_8bit", 8)
    for key in ("bnb_4bit_quant_type", double):
        if key in reading.given:
            reading.say("mapped" if four else "not needed", key, "a part of model.quantize")
