"""Rules for files of TRL's command line (`trl dpo --config FILE`), and its arguments. Defaults as
of trl 1.16.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.migrate import common, memory_keys
from accord.migrate.reading import (
    Default,
    NotNeeded,
    Reading,
    To,
    Tool,
    Without,
    batch,
    every,
    length,
    no_such_loss,
    number,
    switch,
    warmup,
    whole,
)
from accord.migrate.trl_losses import (
    Found,
    of_dpo_trainer,
    smoothing_options,
    weighed_by_policy,
    with_divergence,
    with_nll,
    with_rest_weighed,
)

# loss_type -> objective of the trainers that are not DPO's
LOSSES = {
    "kto": {"kto": "kto", "bco": "bco"},  # of 0.9; from 0.10 to 1.12 BCO had a trainer of its own
    "bco": {"bco": "bco"},
    "orpo": {"orpo": "orpo"},
    "cpo": {"sigmoid": "cpo", "simpo": "simpo", "cpo": "cpo"},
}

SHIFT = (
    "TRL's loss at the same shift; its shift is the mean of all rewards up to and with the"
    " micro-batch, accord's half way between the labels' means over the updates before, so that no"
    " split into micro-batches changes it"
)
DENSITY_RATIOS = ("min_density_ratio", "max_density_ratio")
UDM = "the weights of other prompts (underlying distribution matching) are left out"

# which rows of the data are trained on, and which are held out
SPLITS = {"dataset_train_split": "data.train", "dataset_test_split": "data.held_out"}

RULES = {
    **common.TRAINER,
    **common.ADAPTERS,
    "max_length": To(
        "data.max_tokens",
        whole,
        "TRL cuts the end of a longer row; accord drops its oldest turns, or rejects it",
    ),
    "max_prompt_length": NotNeeded("TRL removed it; prompts are cut at turns, never at their end"),
    "max_completion_length": NotNeeded("data.long_answers says what becomes of long answers"),
    "truncation_mode": NotNeeded("the end of a prompt is never cut"),
    "model_revision": Without("name a folder", unless=("main",)),
    "attn_implementation": NotNeeded(
        "the fastest path that equals the model's own numbers is found by trying"
    ),
    "dtype": NotNeeded(
        "model.dtype: auto computes in bfloat16 with float32 masters, as TRL does with bf16;"
        " float32 throughout is --set model.dtype=float32"
    ),
    "torch_dtype": NotNeeded("as dtype"),
    "dataset_streaming": common.MACHINE,
    "dataset_config": Without("part of the data set's name: hub:NAME#CONFIG/SPLIT"),
    "dataset_train_split": NotNeeded("a file is one split"),
    "dataset_test_split": NotNeeded("data.held_out names a file"),
    "ignore_bias_buffers": common.MACHINE,
    "lora_task_type": common.MACHINE,
    "pad_token": NotNeeded("nothing is padded"),
    "padding_value": NotNeeded("nothing is padded"),
    "pad_to_multiple_of": NotNeeded("nothing is padded"),
    "packing": NotNeeded("rows are packed, always"),
    "model_init_kwargs": Without("name what it sets"),
    "is_encoder_decoder": Without("decoders alone"),
    "use_weighting": NotNeeded("of another trainer"),
    "ld_alpha": NotNeeded("of another trainer"),
    "rpo_alpha": NotNeeded("of a loss that is not chosen"),
    "loss_weights": NotNeeded("of a trainer with one loss"),
    "prompt_sample_size": Without(UDM),
    "min_density_ratio": Without(UDM),
    "max_density_ratio": Without(UDM),
    "desirable_weight": NotNeeded("TRL's bco weighs no label"),
    "undesirable_weight": NotNeeded("TRL's bco weighs no label"),
    "discopop_tau": NotNeeded("of a loss that is not chosen"),
    "f_divergence_type": NotNeeded("dpo's is reverse KL"),
    "f_alpha_divergence_coef": NotNeeded("of a divergence that is not chosen"),
    "generate_during_eval": NotNeeded("monitor.samples: prompts are answered before and after"),
    "reference_free": Without("simpo, orpo and cpo have no reference"),
    "router_aux_loss_coef": Without("no auxiliary loss"),
    "simpo_gamma": NotNeeded("of a loss that is not chosen"),
    "cpo_alpha": NotNeeded("of a loss that is not chosen"),
    "alpha": NotNeeded("of a loss that is not chosen"),
    "use_vllm": NotNeeded("nothing is generated while DPO trains"),
}


def kind_of(settings: Mapping[str, Any]) -> str:
    """Find out which of TRL's trainers a file is for: dpo, kto, bco, orpo or cpo. It does not say
    so itself.
    """
    loss = _loss(settings.get("loss_type"))
    if "trainer" in settings:
        return str(settings["trainer"])
    if loss == "bco" or {"prompt_sample_size", *DENSITY_RATIOS} & set(settings):
        return "bco"
    if {"desirable_weight", "undesirable_weight"} & set(settings) or loss in (
        "kto",
        "apo_zero_unpaired",
    ):
        return "kto"
    return "cpo" if {"cpo_alpha", "simpo_gamma"} & set(settings) or loss == "simpo" else "dpo"


def _loss(value: Any) -> Any:
    """Read the loss; DPOConfig takes a list of losses."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def joint(reading: Reading) -> None:
    kind = kind_of(reading.settings)
    reading.take("trainer")
    _objective(reading, kind)
    _reference(reading)
    common.name_or_hub(
        reading,
        reading.take("model_name_or_path", common.NO_MODEL),
        "model_name_or_path",
        "model.name",
    )
    _adapters(reading)
    memory_keys.of_bitsandbytes(reading, *_double(reading))
    _data(reading)
    if "max_length" in reading.nulls:
        reading.say(
            "to do",
            "max_length",
            "null: TRL cuts nothing then; here data.max_tokens holds. Set it to the longest row's"
            " tokens",
        )
    trainer(reading)


def _data(reading: Reading) -> None:
    """Map the data, and say which of its rows were read."""
    if (data := reading.take("dataset_name", reading.take("dataset_path"))) is None:
        return
    common.name_or_hub(reading, data, "dataset_name", "data.train")
    for key, field in SPLITS.items():
        split = reading.take(key)
        if split is None or (split == "train" and Path(data).expanduser().is_file()):
            continue
        reading.say(
            "to do",
            key,
            f"{split!r:.60}: set {field} to those rows: a file of their own, or hub:NAME#SPLIT of a"
            " hub (its first N rows: #SPLIT[:N])",
        )


def _double(reading: Reading) -> tuple[str, bool]:
    """Return the key of doubly quantised scales: TRL's own name, or that of transformers in
    Python. Neither quantises them unasked.
    """
    own = "use_bnb_nested_quant" in reading.settings
    return "use_bnb_nested_quant" if own else "bnb_4bit_use_double_quant", False


def trainer(reading: Reading) -> None:
    """Map what every file for transformers' Trainer says in several keys."""
    common.precision(reading)
    batch(reading, "per_device_train_batch_size")
    length(reading, "num_train_epochs")
    warmup(reading)
    every(reading, "eval_strategy", "eval_steps", "evaluate.every")
    every(reading, "save_strategy", "save_steps", "checkpoint.every")
    memory_keys.optimizer(reading, "optim")
    memory_keys.checkpointing(reading)


def _objective(reading: Reading, kind: str) -> None:
    given = _loss(reading.take("loss_type", "sigmoid" if kind in ("dpo", "cpo") else kind))
    beta, smoothing = reading.take("beta", 0.1), number(reading.take("label_smoothing", 0.0))
    options: dict[str, tuple[str, Any]] = {"weight" if kind == "orpo" else "beta": ("beta", beta)}
    if kind == "dpo":
        losses, found = of_dpo_trainer("TRL", given, reading.take("loss_weights"))
        found = _variant(reading, losses, found)
        where = f"loss_type: {', '.join(losses)}"
        options = found.of_each(options) | smoothing_options(
            reading, "label_smoothing", smoothing, losses, found, where
        )
    else:
        name = LOSSES.get(kind, {}).get(given) if isinstance(given, str) else None
        if name is None or smoothing:
            raise no_such_loss(
                "TRL", given if not smoothing else f"{given} with label_smoothing {smoothing:g}"
            )
        found = _bent(reading, name) if kind == "cpo" else Found(name, {})
    name = found.name
    if name == "kto":
        options |= {
            key: (key, reading.take(key, 1.0)) for key in ("desirable_weight", "undesirable_weight")
        }
    if name == "cpo":
        options["alpha"] = ("cpo_alpha", reading.take("cpo_alpha", 1.0))
    if name in ("simpo", "alphapo"):
        options["gamma"] = ("simpo_gamma", reading.take("simpo_gamma", 0.5))
        if number(reading.take("cpo_alpha", 1.0)) != 0:
            reading.say("no equivalent", "cpo_alpha", common.SIMPO_NLL)
    options |= {option: ("loss_type", value) for option, value in found.options.items()}
    note = {"orpo": common.ORPO_NLL, "bco": SHIFT}.get(name, found.note)
    common.objective(reading, name, options, "loss_type", note)


def _bent(reading: Reading, name: str) -> Found:
    """Find what CPOTrainer's `alpha` makes of a loss: SimPO with a bent reward is AlphaPO."""
    bend = number(reading.take("alpha", 0.0))
    if bend and name != "simpo":
        raise no_such_loss("TRL", f"{name} of the CPO trainer with alpha {bend:g}")
    return Found("alphapo", {"alpha": bend}) if bend else Found(name, {})


def _variant(reading: Reading, losses: Sequence[str], found: Found) -> Found:
    """Find what other keys make of a loss: an NLL term, another divergence, weights."""
    loss = ", ".join(losses)
    # Up to 0.28; from 0.29 on it is the second of two losses
    older = number(reading.take("rpo_alpha", 0.0))
    divergence = str(reading.take("f_divergence_type", "reverse_kl"))
    if older:
        found = with_nll("TRL", loss, older)
    rest = reading.take("ld_alpha")
    if divergence != "reverse_kl":
        if found.name == "rpo":
            raise no_such_loss("TRL", f"an NLL term with f_divergence_type {divergence}")
        coefficient = number(reading.take("f_alpha_divergence_coef", 0.5))
        found = with_divergence(loss, divergence, coefficient)
    if rest is not None:
        found = with_rest_weighed(loss, found, number(rest))
    return weighed_by_policy("TRL", found) if switch(reading, "use_weighting") else found


def _reference(reading: Reading) -> None:
    moves, every_, mix = (
        reading.take("sync_ref_model", False),
        reading.take("ref_model_sync_steps", 512),
        reading.take("ref_model_mixup_alpha", 0.6),
    )
    if moves:
        reading.put("reference", "moving", "sync_ref_model")
        reading.put("moving.every", whole(every_), "ref_model_sync_steps")
        reading.put("moving.mix", number(mix), "ref_model_mixup_alpha")


def _adapters(reading: Reading) -> None:
    if not reading.take("use_peft", False):
        reading.put("model.lora", None, "use_peft", "all weights are trained")
        return common.no_adapters(
            reading,
            ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_dora"),
            "use_peft is not set: TRL does nothing with it",
        )
    targets = reading.take("lora_target_modules")
    if targets is None:
        reading.say(
            "to do",
            "lora_target_modules",
            "peft chooses by architecture, query and value projections for most; accord: attention"
            " (all four)",
        )
    common.lora(
        reading,
        "lora_r",
        "lora_alpha",
        "lora_dropout",
        targets or "attention",
        "lora_target_modules",
    )
    return common.dora(reading, "use_dora")


def defaults(settings: Mapping[str, Any]) -> tuple[Default, ...]:
    rates = {"dpo": 1e-6, "kto": 1e-6, "bco": 5e-7, "orpo": 1e-6, "cpo": 1e-6}
    kind = kind_of(settings)
    adapters = (
        (Default("lora_r", 16), Default("lora_alpha", 32), Default("lora_dropout", 0.05))
        if settings.get("use_peft")
        else ()
    )
    return (
        Default(
            "learning_rate", rates.get(kind, 1e-6), "far too low for LoRA, where 1e-4 is usual"
        ),
        Default(
            "num_train_epochs",
            3.0,
            "three passes over the same pairs overfit easily: watch the held-out loss",
        ),
        Default("per_device_train_batch_size", 8),
        Default("lr_scheduler_type", "linear"),
        Default("max_length", 1024),
        Default("max_grad_norm", 1.0),
        Default("weight_decay", 0.0),
        Default("seed", 42),
        Default("save_steps", 500),
        Default("eval_strategy", "no"),
        *adapters,
    )


TRL = Tool(
    "TRL",
    frozenset(
        {
            "dataset_name",
            "use_peft",
            "lora_r",
            "loss_type",
            "lora_target_modules",
            "trainer",
            "beta",
        }
    ),
    RULES,
    joint,
    defaults,
)
