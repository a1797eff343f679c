"""Rules for LLaMA-Factory's YAML (`llamafactory-cli train FILE`)."""

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
    no_such_loss,
    number,
    whole,
)
from accord.migrate.trl import trainer
from accord.migrate.trl_losses import NOT_OURS

METHOD = "quantization_method"
ADAPTER_KEYS = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target", "use_dora")
LOSSES = {"sigmoid": "dpo", "ipo": "ipo", "hinge": "hinge", "orpo": "orpo", "simpo": "simpo"}

RULES = {
    **common.TRAINER,
    "cutoff_len": To(
        "data.max_tokens",
        whole,
        "LLaMA-Factory cuts question and answer in proportion; accord drops the oldest turns, or"
        " rejects the row",
    ),
    "template": NotNeeded(
        "the model's own chat template is used; LLaMA-Factory's differs from it for some models:"
        " compare accord train --dry-run"
    ),
    "dataset_dir": NotNeeded("data.train names a file"),
    "max_samples": Without("head -n of the file, or evaluate.rows for held-out rows"),
    "overwrite_cache": common.MACHINE,
    "preprocessing_num_workers": common.MACHINE,
    "plot_loss": NotNeeded("accord report RUN"),
    "flash_attn": common.MACHINE,
    "pure_bf16": NotNeeded("whatever trains has float32 masters"),
    "upcast_layernorm": common.MACHINE,
    "quantization_bit": Without("nf4 has 4 bits a weight, int8 has 8, by bitsandbytes"),
    METHOD: common.MACHINE,
    "quantization_type": NotNeeded("of a quantised base"),
    "double_quantization": NotNeeded("of a quantised base"),
    "additional_target": Without("embeddings and head stay as they are"),
    common.RSLORA[0]: common.ADAPTERS[common.RSLORA[0]],
    "pissa_init": Without("adapters start as noise and zero"),
    "pissa_convert": common.MACHINE,
    "loraplus_lr_ratio": Without("one learning rate for both factors"),
    "use_galore": Without(memory_keys.NO_OPTIMIZER),
    "use_badam": Without(memory_keys.NO_OPTIMIZER),
    "use_apollo": Without(memory_keys.NO_OPTIMIZER),
    "shift_attn": Without("attention as the model has it"),
    "rope_scaling": Without("positions as the model has them"),
    "pref_ftx": Without("an NLL term on top of this loss; rpo is dpo with one"),
    "pref_bco_weight": Without(
        "its term has a pair's two losses and a mean over micro-batches; bco takes labelled"
        " answers, and is not mixed"
    ),
    "ld_alpha": Without("LD-DPO's weights, there in the policy's log-probs alone"),
    "ref_model": Without("the reference is the model that training starts from"),
    "ref_model_adapters": Without("the reference is the model that training starts from"),
    "simpo_gamma": NotNeeded("of a loss that is not chosen"),
    "create_new_adapter": Without(
        "model.adapter is trained further, its frozen copy the reference"
    ),
    "packing": NotNeeded("rows are packed, always"),
    "val_size": Without("accord split cuts by prompt, so that no question is on both sides"),
    "finetuning_args": common.MACHINE,
    "eval_dataset": To("data.held_out"),
    "use_swanlab": Without(common.TRACKER),
    "enable_liger_kernel": common.MACHINE,
    "include_num_input_tokens_seen": common.OWN_LOG,
    "use_unsloth": common.MACHINE,
    "low_cpu_mem_usage": common.MACHINE,
}


def joint(reading: Reading) -> None:
    stage = reading.take("stage", "sft")
    if stage not in ("dpo", "kto"):
        raise no_such_loss("LLaMA-Factory", f"stage: {stage}")
    _objective(reading, stage)
    common.name_or_hub(
        reading,
        reading.take("model_name_or_path", common.NO_MODEL),
        "model_name_or_path",
        "model.name",
    )
    _adapters(reading)
    _quantised(reading)
    if (data := reading.take("dataset")) is not None:
        reading.put("data.train", data, "dataset")
        reading.say(
            "to do",
            "data.train",
            f"{data!r:.80} is a name in LLaMA-Factory's dataset_info.json: put the file's path"
            " here",
        )
    trainer(reading)


def _objective(reading: Reading, stage: str) -> None:
    loss, beta = reading.take("pref_loss", "sigmoid"), number(reading.take("pref_beta"))
    smoothing = number(reading.take("dpo_label_smoothing", 0.0))
    if stage == "kto":
        weights = {
            "desirable_weight": "kto_chosen_weight",
            "undesirable_weight": "kto_rejected_weight",
        }
        options = {"beta": ("pref_beta", beta)} | {
            option: (key, reading.take(key, 1.0)) for option, key in weights.items()
        }
        return common.objective(reading, "kto", options, "stage")
    name = LOSSES.get(loss) if isinstance(loss, str) else None
    if name is None or (smoothing and name != "dpo"):
        raise no_such_loss(
            "LLaMA-Factory",
            loss if not smoothing else f"{loss} with dpo_label_smoothing {smoothing:g}",
            NOT_OURS.get(loss, "") if isinstance(loss, str) else "",
        )
    options = {"weight" if name == "orpo" else "beta": ("pref_beta", beta)}
    note = ""
    if name == "dpo" and not smoothing and number(reading.settings.get("pref_ftx", 0.0)) > 0:
        name = "rpo"
        options["alpha"] = ("pref_ftx", reading.take("pref_ftx"))
        note = "the mean over each chosen answer's own tokens, in both"
    if smoothing:
        options["label_smoothing"] = ("dpo_label_smoothing", smoothing)
    if name == "simpo":
        gamma = number(reading.take("simpo_gamma", 0.5))
        if beta <= 0:
            raise UsageError(f"pref_beta = {beta:g}: expected a number above 0.")
        options["gamma"] = ("simpo_gamma", gamma)
        note = (
            f"margin over beta is {gamma / beta:g}; the paper's settings lie between .3 and 1.6"
            " with beta 2 to 10"
        )
    return common.objective(reading, common.smoothed(name, smoothing), options, "pref_loss", note)


def _adapters(reading: Reading) -> None:
    if (adapter := reading.take("adapter_name_or_path")) is not None:
        reading.put(
            "model.adapter",
            adapter,
            "adapter_name_or_path",
            "trained further; its frozen copy is the reference, not the base",
        )
    how = reading.take("finetuning_type")
    if how == "full":
        reading.put("model.lora", None, "finetuning_type", "all weights are trained")
        return common.no_adapters(reading, ADAPTER_KEYS, "finetuning_type is full")
    if how != "lora":
        raise no_such_loss("LLaMA-Factory", f"finetuning_type: {how}")
    if adapter is not None:
        return common.own_rank(reading, *ADAPTER_KEYS)
    rank = whole(reading.settings["lora_rank"])
    if reading.settings.get("lora_alpha") is None:
        reading.settings["lora_alpha"] = 2 * rank
        reading.defaulted["lora_alpha"] = Default("lora_alpha", 2 * rank, "twice the rank")
    common.lora(
        reading,
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
        reading.take("lora_target"),
        "lora_target",
    )
    return common.dora(reading, "use_dora")


def _quantised(reading: Reading) -> None:
    """Map a quantised base: 4 bits or 8, by bitsandbytes unless another method is named."""
    bits, method = reading.settings.get("quantization_bit"), reading.settings.get(METHOD)
    if bits in (4, 8) and method in (None, "bitsandbytes", "bnb"):
        kind, double = reading.take("quantization_type"), reading.take("double_quantization")
        memory_keys.quantized(reading, "quantization_bit", bits, kind or "nf4", double)


def defaults(settings: Mapping[str, Any]) -> tuple[Default, ...]:
    return (
        Default("finetuning_type", "lora"),
        Default("lora_rank", 8),
        Default("lora_target", "all", "every linear layer, not the attention alone"),
        Default(
            "pref_beta",
            0.1,
            (
                "also for simpo, where the paper takes 2 to 10"
                if settings.get("pref_loss") == "simpo"
                else ""
            ),
        ),
        Default("learning_rate", 5e-5),
        Default(
            "num_train_epochs",
            3.0,
            "three passes over the same pairs overfit easily: watch the held-out loss",
        ),
        Default("per_device_train_batch_size", 8),
        Default("lr_scheduler_type", "linear"),
        Default("cutoff_len", 2048),
        Default("max_grad_norm", 1.0),
        Default("weight_decay", 0.0),
        Default("seed", 42),
        Default("save_steps", 500),
        Default("eval_strategy", "no"),
    )


LLAMA_FACTORY = Tool(
    "LLaMA-Factory",
    frozenset({"stage", "finetuning_type", "pref_loss", "pref_beta", "cutoff_len", "lora_rank"}),
    RULES,
    joint,
    defaults,
)
