"""Keys that the tools built on transformers' Trainer and on TRL have in common, and what they mean
for each.
"""

from __future__ import annotations

import math
from pathlib import Path

from accord.errors import UsageError
from accord.migrate import memory_keys
from accord.migrate.reading import NotNeeded, Reading, Rule, To, Without, number, schedule, whole

# The versions whose sources were read for defaults, losses and keys.
READ_IN = {"TRL": "1.16.0", "Axolotl": "0.19.0", "LLaMA-Factory": "0.9.5"}

MACHINE = NotNeeded("only how the other tool uses its machine; the numbers stay")
OWN_LOG = NotNeeded("accord writes every update's figures to the run's folder")
FOLDER = NotNeeded("accord never writes over a run")
TRACKER = "name it in monitor.trackers: trackio, wandb, tensorboard, mlflow"

PUSH = Without("a finished model is sent by accord export RUN --push hub:ORG/NAME")

# Keys of transformers.TrainingArguments, which every one of these files may have.
TRAINER: dict[str, Rule] = {
    "learning_rate": To("train.learning_rate", number),
    "weight_decay": To("train.weight_decay", number, "on matrices only"),
    "max_grad_norm": To("train.max_grad_norm", number),
    "seed": To("train.seed", whole),
    "lr_scheduler_type": To("train.schedule", schedule),
    "output_dir": To("output"),
    "save_total_limit": To("checkpoint.keep", whole),
    "adam_epsilon": Without("accord's AdamW has 1e-8", unless=(1e-8, "1e-8")),
    "neftune_noise_alpha": Without("no noise on embeddings"),
    "label_smoothing_factor": Without(
        "of the language-model loss, which DPO and its kin do not have"
    ),
    "optim": Without(memory_keys.NO_OPTIMIZER),
    "optim_args": Without("what an optimizer reads has fields: train.betas, train.momentum"),
    "fp16": Without("float16 needs loss scaling and saves nothing over bfloat16"),
    "tf32": MACHINE,
    "bf16": NotNeeded(
        "model.dtype: auto is bfloat16 where the machine has it, with float32 masters of whatever"
        " trains"
    ),
    "deepspeed": NotNeeded("several processes share a run by train.parallel, under torchrun"),
    "fsdp": NotNeeded("train.parallel: sharded, under torchrun"),
    "fsdp_config": NotNeeded("train.parallel: sharded, under torchrun"),
    "gradient_checkpointing": NotNeeded(memory_keys.CHECKPOINTING),
    "gradient_checkpointing_kwargs": MACHINE,
    "activation_offloading": MACHINE,
    "torch_compile": MACHINE,
    "use_liger_kernel": MACHINE,
    "dataloader_num_workers": MACHINE,
    "dataloader_pin_memory": MACHINE,
    "dataloader_drop_last": NotNeeded("batches differ by a row at most"),
    "per_device_eval_batch_size": NotNeeded(
        "held-out rows are packed by tokens; figures do not depend on it"
    ),
    "ddp_timeout": MACHINE,
    "ddp_find_unused_parameters": MACHINE,
    "local_rank": MACHINE,
    "remove_unused_columns": MACHINE,
    "group_by_length": NotNeeded("nothing is padded"),
    "logging_steps": OWN_LOG,
    "logging_first_step": OWN_LOG,
    "logging_strategy": OWN_LOG,
    "logging_dir": OWN_LOG,
    "run_name": OWN_LOG,
    "report_to": Without(TRACKER, unless=("none", [], ["none"])),
    "overwrite_output_dir": FOLDER,
    "save_only_model": NotNeeded(
        "checkpoints can be resumed; final/ or adapter/ has the model alone"
    ),
    "push_to_hub": PUSH,
    "hub_model_id": PUSH,
    "hub_strategy": PUSH,
    "disable_tqdm": OWN_LOG,
    "do_train": MACHINE,
    "do_eval": MACHINE,
    "resume_from_checkpoint": Without("accord resume RUN goes on with a run of accord's"),
    "load_best_model_at_end": Without(
        "the best held-out checkpoint is kept beside the others; monitor.on_flag: adapt ends"
        " with it"
    ),
    "metric_for_best_model": NotNeeded("held-out loss decides"),
    "greater_is_better": NotNeeded("held-out loss decides"),
    "dataset_num_proc": MACHINE,
    "precompute_ref_log_probs": NotNeeded("reference: auto caches log-probs when rows repeat"),
    "precompute_ref_batch_size": MACHINE,
    "padding_free": NotNeeded("nothing is padded"),
    "disable_dropout": NotNeeded("the reference and every evaluation run without dropout"),
    "trust_remote_code": Without("accord never runs a model's own code"),
    "use_reentrant": MACHINE,
    "eval_on_start": NotNeeded("held-out rows are evaluated before the first update, always"),
}

RSLORA = ("use_rslora", "peft_use_rslora")  # what the tools call it
# What concerns adapters and a quantised base, where no key was mapped with others.
ADAPTERS: dict[str, Rule] = {
    **dict.fromkeys(RSLORA, NotNeeded("no adapter is made that it would scale")),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit"), NotNeeded("no quantised base is asked for")),
    "lora_modules_to_save": Without("embeddings and head stay as they are"),
    "bnb_4bit_quant_type": NotNeeded("of a quantised base"),
    "bnb_4bit_use_double_quant": NotNeeded("of a quantised base"),
    "use_bnb_nested_quant": NotNeeded("of a quantised base"),
    "bnb_4bit_compute_dtype": NotNeeded("model.dtype says what the network computes in"),
    "bnb_4bit_quant_storage": MACHINE,
}

NO_MODEL = "smollm2"  # stands where a file names no model

# Explanations that the rules of several tools give.
HUB = (
    "a name on a hub, not a file: accord goes to no network unasked. Say hub:NAME#SPLIT, or permit"
    " it with --allow hub"
)
MODEL_HUB = "no folder here: of a hub it is hub:NAME, or permit the network with --allow hub"
SIMPO_NLL = (
    "TRL's simpo is its CPO trainer, which adds cpo_alpha (1 by default) times the NLL of the"
    " chosen answer: that is not SimPO. accord's simpo has no such term; for the paper's objective"
    " nothing is lost"
)
ORPO_NLL = (
    "TRL's NLL term runs over question and answer, accord's over the answer alone, as the paper's"
    " text has it: losses are not comparable, the odds-ratio term is the same"
)


def name_or_hub(reading: Reading, value: object, key: str, path: str) -> None:
    """Map a folder or file as it stands; map a hub's name as well, with what has to be done about
    it.

    Raises:
      UsageError: it is no name.
    """
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{key} = {value!r:.60}: expected a name or a path.")
    reading.put(path, value, key)
    if value == NO_MODEL:
        if key not in reading.given:
            says = "the file names no model: the embedded one stands there"
            reading.say("to do", path, says)
        return None
    try:
        here = Path(value).expanduser().exists()
    except (OSError, RuntimeError):  # no name that a file system takes, or no such user's home
        here = False
    if not here:
        reading.say(
            "to do", path, f"{value!r:.80} is {HUB if path.startswith('data') else MODEL_HUB}"
        )
    return None


def precision(reading: Reading) -> None:
    """Set float32 where bfloat16 is switched off; accord would take it wherever the machine
    has it.
    """
    if reading.settings.get("bf16") is False and not reading.settings.get("fp16"):
        reading.take("bf16")
        reading.put("model.dtype", "float32", "bf16", "bfloat16 is switched off")


def own_rank(reading: Reading, *keys: str) -> None:
    """Drop the rank, alpha and targets of an adapter that is trained further.

    It brings its own; a recipe that named others would be refused.
    """
    no_adapters(reading, keys, "the adapter that is trained further brings its own")


def no_adapters(reading: Reading, keys: tuple[str, ...], why: str) -> None:
    """Drop what is about adapters where none is made."""
    for key in keys:
        if reading.take(key) is not None and key in reading.given:
            reading.say("not needed", key, why)


def dora(reading: Reading, key: str) -> None:
    """Map adapters with a magnitude of each output beside them."""
    if reading.take(key, False):
        reading.put("model.lora.dora", True, key)


def lora(reading: Reading, rank: str, alpha: str, dropout: str, targets: object, key: str) -> None:
    """Map the adapters; `targets` in peft's words, or "attention"."""
    size, scale = whole(reading.take(rank)), number(reading.take(alpha))
    reading.put("model.lora.rank", size, rank)
    scaled = [name for name in RSLORA if reading.take(name) is True]
    note = f"{scale:g} × √{size}: what {scaled[0]} multiplies by is alpha / √rank" if scaled else ""
    reading.put("model.lora.alpha", scale * (math.sqrt(size) if scaled else 1), alpha, note)
    for name in scaled:
        reading.say("mapped", name, "a part of model.lora.alpha")
    reading.put("model.lora.dropout", number(reading.take(dropout, 0.0)), dropout)
    if isinstance(targets, str):
        targets = {"all": "all-linear", "all-linear": "all-linear", "attention": "attention"}.get(
            targets, [name.strip() for name in targets.split(",")]
        )
    reading.put("model.lora.targets", targets, key)


def objective(
    reading: Reading, name: str, options: dict[str, tuple[str, object]], key: str, note: str = ""
) -> None:
    """Map the loss and its options: name of the option → (key that it came from, value)."""
    reading.put("objective.name", name, key, note)
    for option, (source, value) in options.items():
        chosen = option == "divergence"  # the one option in words; YAML reads 5e-6 as text
        reading.put(f"objective.{option}", value if chosen else number(value), source)


def ignored_smoothing(reading: Reading, key: str, smoothing: float, where: str, name: str) -> float:
    """Report that TRL did nothing with a label smoothing, and what to write if it was meant; return
    0.

    Up to 0.28 TRL's sigmoid loss was conservative DPO where it was smoothed. From 0.29 on the loss
    no longer reads the setting (read in the sources of 0.28.0, 0.29.0, 1.9.0 and 1.16.0); hinge and
    ipo never did.
    """
    if smoothing:
        older = (
            f" TRL up to 0.28 did smooth it: if the run was older, or conservative DPO is what you"
            f" mean, set objective.name = 'cdpo' and objective.label_smoothing = {smoothing:g}"
            if name == "dpo"
            else ""
        )
        reading.say(
            "to do",
            key,
            f"TRL 0.29 and later, 1.16 among them, ignores {key} = {smoothing:g} under {where}:"
            f" the run that you had was {name} without smoothing, and so is this recipe.{older}",
        )
    return 0.0


def smoothed(name: str, smoothing: object) -> str:
    """Name the loss that LLaMA-Factory's sigmoid loss with label smoothing is: conservative DPO.

    LLaMA-Factory 0.9.5 holds TRL to 0.24 or older, which smooths.
    """
    return "cdpo" if name == "dpo" and number(smoothing or 0) > 0 else name
