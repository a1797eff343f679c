"""Axolotl's YAML (`axolotl train FILE`). It trains preferences through TRL (0.19.0: TRL 1.9.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.errors import UsageError
from accord.migrate import common, memory_keys
from accord.migrate.reading import (
    Default,
    NotNeeded,
    Reading,
    To,
    Tool,
    Without,
    batch,
    length,
    no_such_loss,
    number,
    schedule,
    switch,
    warmup,
    whole,
)
from accord.migrate.trl_losses import Found, of_dpo_trainer, smoothing_options, weighed_by_policy

ADAPTER_KEYS = ("lora_r", "lora_alpha", "lora_dropout", "peft_use_dora")
METHODS = ("dpo", "ipo", "kto", "orpo", "simpo")

RULES = {
    **common.TRAINER,
    **common.ADAPTERS,
    "sequence_len": To("data.max_tokens", whole),
    "lr_scheduler": To("train.schedule", schedule),
    "eval_steps": To("evaluate.every", whole),
    "save_steps": To("checkpoint.every", whole),
    "optimizer": common.TRAINER["optim"],
    "gradient_accumulation": common.MACHINE,
    "model_type": NotNeeded("read from the model's folder"),
    "tokenizer_type": NotNeeded("read from the model's folder"),
    "tokenizer_config": Without("the tokenizer is the model's own"),
    "chat_template": Without(
        "the model's own chat template is used; data.template names a Jinja file",
        unless=("tokenizer_default",),
    ),
    "special_tokens": Without("the tokenizer's own special tokens are used; nothing is padded"),
    "strict": common.MACHINE,
    "dataset_prepared_path": NotNeeded("rows are encoded in seconds, each time"),
    "val_set_size": Without("accord split cuts by prompt, so that no question is on both sides"),
    "sample_packing": NotNeeded("rows are packed, always"),
    "eval_sample_packing": NotNeeded("rows are packed, always"),
    "pad_to_sequence_len": NotNeeded("nothing is padded"),
    "train_on_inputs": Without("answers alone are scored"),
    "flash_attention": common.MACHINE,
    "xformers_attention": common.MACHINE,
    "sdp_attention": common.MACHINE,
    "early_stopping_patience": Without(
        "monitor.on_flag: adapt ends at the best held-out checkpoint"
    ),
    "evals_per_epoch": NotNeeded("evaluate.every counts updates; 50 by default"),
    "saves_per_epoch": NotNeeded("checkpoint.every counts updates; 50 by default"),
    "eval_table_size": common.OWN_LOG,
    "eval_max_new_tokens": common.OWN_LOG,
    "debug": common.MACHINE,
    "loss_watchdog_threshold": NotNeeded("red flags watch the loss"),
    "loss_watchdog_patience": NotNeeded("red flags watch the loss"),
    "wandb_project": Without(common.TRACKER),
    "wandb_entity": Without(common.TRACKER),
    "wandb_name": common.OWN_LOG,
    "wandb_watch": common.OWN_LOG,
    "wandb_log_model": common.OWN_LOG,
    "lora_fan_in_fan_out": common.MACHINE,
    "rl_adapter_ref_model": NotNeeded("reference: auto"),
    "is_llama_derived_model": common.MACHINE,
    "save_safetensors": common.MACHINE,
    "rpo_alpha": Without("Axolotl 0.19 refuses it; dpo_loss_type: [sigmoid, sft] is a mixture"),
    "dpo_norm_loss": Without("Axolotl 0.19 refuses it; dpo_loss_type: [sigmoid_norm] is dpo_norm"),
    "dpo_loss_type": Without("of rl: dpo alone"),
    "dpo_loss_weights": Without("of rl: dpo alone"),
    "dpo_use_weighting": NotNeeded("of rl: dpo and rl: ipo"),
    "dpo_padding_free": NotNeeded("nothing is padded"),
    "plugins": Without("plugins are not read"),
    "liger_rope": common.MACHINE,
    "dpo_use_logits_to_keep": common.MACHINE,
    "simpo_gamma": NotNeeded("of a loss that is not chosen"),
    "cpo_alpha": NotNeeded("of a loss that is not chosen"),
    "dataset_processes": common.MACHINE,
    "shuffle_merged_datasets": common.MACHINE,
    "float16": common.TRAINER["fp16"],
    "bfloat16": common.TRAINER["bf16"],
    "cosine_min_lr_ratio": Without("cosine falls to zero"),
    "unfrozen_parameters": Without("all weights, or adapters"),
    "lora_mlp_kernel": common.MACHINE,
    "lora_qkv_kernel": common.MACHINE,
    "lora_o_kernel": common.MACHINE,
    "auto_resume_from_checkpoints": NotNeeded("accord resume RUN"),
    "noisy_embedding_alpha": Without("no noise on embeddings"),
}


def joint(reading: Reading) -> None:
    method = reading.take("rl")
    if method not in METHODS:
        raise no_such_loss("Axolotl", f"rl: {method}")
    _objective(reading, method)
    common.name_or_hub(
        reading, reading.take("base_model", common.NO_MODEL), "base_model", "model.name"
    )
    _adapters(reading)
    # Axolotl quantises scales too unless bnb_config_kwargs say otherwise
    memory_keys.of_bitsandbytes(reading, "bnb_4bit_use_double_quant", True)
    _data(reading)
    common.precision(reading)
    batch(reading, "micro_batch_size")
    length(reading, "num_epochs")
    warmup(reading)
    memory_keys.optimizer(reading, "optimizer")
    memory_keys.checkpointing(reading)


def _objective(reading: Reading, method: str) -> None:
    """Map the loss. `rl_beta` wins over `orpo_alpha`, as in Axolotl; where none is given TRL's .1
    stands.
    """
    nested = reading.take("trl", {})
    alpha, own = reading.take("orpo_alpha"), reading.take("rl_beta", reading.take("dpo_beta"))
    beta = nested.pop("beta", None) if isinstance(nested, dict) else None
    if nested:
        reading.say("no equivalent", "trl", f"{nested!r:.80}")
    beta = next(
        (value for value in (beta, own, alpha if method == "orpo" else None) if value is not None),
        0.1,
    )
    options: dict[str, tuple[str, Any]] = {
        "weight" if method == "orpo" else "beta": ("rl_beta", beta)
    }
    note, chosen = common.ORPO_NLL if method == "orpo" else "", method
    if method == "kto":
        for option in ("desirable_weight", "undesirable_weight"):
            # 0 counts as not given there
            options[option] = (f"kto_{option}", reading.take(f"kto_{option}", 1.0) or 1.0)
    smoothing = number(reading.take("dpo_label_smoothing", 0.0))
    if method == "dpo":
        losses, weights = reading.take("dpo_loss_type"), reading.take("dpo_loss_weights")
        names, found = of_dpo_trainer("Axolotl", losses or ["sigmoid"], weights)
        where = f"dpo_loss_type: {', '.join(names)}" if losses else "rl: dpo"
        options = found.of_each(options) | smoothing_options(
            reading, "dpo_label_smoothing", smoothing, names, found, where
        )
        options |= {option: ("dpo_loss_type", value) for option, value in found.options.items()}
        method, note = found.name, found.note
    elif smoothing:
        raise no_such_loss("Axolotl", f"rl: {method} with dpo_label_smoothing")
    # Axolotl hands it on for these two
    if chosen in ("dpo", "ipo") and switch(reading, "dpo_use_weighting"):
        weighed = weighed_by_policy("Axolotl", Found(method, {}, note))
        method, note = weighed.name, weighed.note
    if method == "simpo":
        options["gamma"] = ("simpo_gamma", reading.take("simpo_gamma", 0.5))
        if number(reading.take("cpo_alpha", 1.0)) != 0:
            reading.say("no equivalent", "cpo_alpha", common.SIMPO_NLL)
    common.objective(reading, method, options, "rl", note)


def _adapters(reading: Reading) -> None:
    how = reading.take("adapter")
    if (folder := reading.take("lora_model_dir")) is not None:
        reading.put(
            "model.adapter",
            folder,
            "lora_model_dir",
            "trained further; its frozen copy is the reference, not the base",
        )
    linear, targets = reading.take("lora_target_linear", False), reading.take("lora_target_modules")
    if how is None:
        common.no_adapters(
            reading, ADAPTER_KEYS, "adapter is not set: Axolotl does nothing with it"
        )
        return reading.put("model.lora", None, "adapter", "all weights are trained")
    if how not in ("lora", "qlora"):
        raise no_such_loss("Axolotl", f"adapter: {how}")
    if how == "qlora" and reading.settings.get("load_in_4bit") is None:
        reading.settings["load_in_4bit"] = True  # Axolotl asks for both; qlora means it
    if linear and targets:
        reading.say(
            "to do",
            "lora_target_linear",
            "given beside lora_target_modules: Axolotl trains all linear layers, and so does this",
        )
    if folder is not None:
        return common.own_rank(reading, *ADAPTER_KEYS)
    reading.settings.setdefault("lora_r", 8), reading.settings.setdefault("lora_alpha", 16)
    common.lora(
        reading,
        "lora_r",
        "lora_alpha",
        "lora_dropout",
        "all" if linear else targets or "attention",
        "lora_target_modules",
    )
    return common.dora(reading, "peft_use_dora")


def _data(reading: Reading) -> None:
    for key, path in (("datasets", "data.train"), ("test_datasets", "data.held_out")):
        sets = reading.take(key)
        if sets is None:
            continue
        if (
            not isinstance(sets, list)
            or not sets
            or not all(isinstance(each, dict) and "path" in each for each in sets)
        ):
            raise UsageError(
                f"{key}: expected a list of datasets with a path each, got {sets!r:.80}."
            )
        common.name_or_hub(reading, str(sets[0]["path"]), key, path)
        for each in sets[1:]:
            reading.say(
                "to do",
                path,
                f"one file is read; write {each['path']!r:.80} into the same: accord convert",
            )
        if kinds := {str(each["type"]) for each in sets if "type" in each}:
            reading.say(
                "not needed",
                f"{key}.type",
                f"{', '.join(sorted(kinds))[:80]}: each row's format is recognised; see accord"
                " convert --help",
            )


def defaults(settings: Mapping[str, Any]) -> tuple[Default, ...]:
    return (
        Default("sequence_len", 512, "short for conversations: longer rows are dropped there"),
        Default("num_epochs", 1.0),
        Default("micro_batch_size", 1),
        Default("lr_scheduler", "cosine"),
        Default("weight_decay", 0.0),
        Default("max_grad_norm", 1.0),
        Default("seed", 42),
        *(
            []
            if "warmup_steps" in settings
            else [Default("warmup_ratio", 0.03, "there at most 100 updates")]
        ),
    )


AXOLOTL = Tool(
    "Axolotl",
    frozenset({"base_model", "rl", "micro_batch_size", "sequence_len", "datasets", "num_epochs"}),
    RULES,
    joint,
    defaults,
)
