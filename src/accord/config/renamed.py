"""Config keys that had another name in a former version, or have one in TRL.

In a recipe or after --set, an old name is an error that gives the new one. A run of the former
version can continue: its config.yaml and its checkpoints are read with the new names.
"""

from __future__ import annotations

from collections.abc import Mapping

# old path -> new path, in the same section
RENAMED = {
    "rollouts.k": "rollouts.num_generations",
    "rollouts.passes": "rollouts.num_iterations",
    "rollouts.held_out_k": "rollouts.num_generations_eval",
    "train.clip": "train.max_grad_norm",
}

# TRL's names of settings -> the names here.
TRL_NAMES = {
    "model_name_or_path": "model.name",
    "dataset_name": "data.train",
    "per_device_train_batch_size": "train.batch_size",
    "gradient_accumulation_steps": (
        "train.batch_size (rows per update; micro-batches follow from train.micro_tokens)"
    ),
    "max_length": "data.max_tokens",
    "max_steps": "train.steps",
    "num_train_epochs": "train.epochs",
    "beta": "objective.beta",
    "loss_type": "objective.name",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "warmup_ratio": "train.warmup",
    "max_grad_norm": "train.max_grad_norm",
    "num_generations": "rollouts.num_generations",
    "num_iterations": "rollouts.num_iterations",
    "lr_scheduler_type": "train.schedule",
    "learning_rate": "train.learning_rate",
    "optim": "train.optimizer",
    "adam_beta1": "train.betas",
    "adam_beta2": "train.betas",
    "gradient_checkpointing": "train.recompute=always",
    "eval_steps": "evaluate.every",
    "save_steps": "checkpoint.every",
    "output_dir": "output",
    "label_smoothing": "objective.label_smoothing",
    "max_prompt_length": "data.max_tokens (TRL removed it; prompts are cut at turns)",
    "bf16": "model.dtype=bfloat16",
}


def rename_keys(raw: Mapping) -> dict:
    """Give a config's sections their current names; the order of keys stays."""
    return {
        section: (
            {_new(f"{section}.{key}").rpartition(".")[2]: value for key, value in node.items()}
            if isinstance(node, Mapping)
            else node
        )
        for section, node in raw.items()
    }


def rename_paths(flat: Mapping[str, object]) -> dict[str, object]:
    """Rename the keys of a config that maps paths to values; otherwise like `rename_keys`."""
    return {_new(path): value for path, value in flat.items()}


def _new(path: str) -> str:
    return RENAMED.get(path, path)
