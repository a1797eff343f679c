"""The model card of a run: what was trained, on which data, against which reference, with which
convention, and how to load it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from accord.config.mixed_files import JOIN
from accord.errors import plural
from accord.evaluate.intervals import format_interval
from accord.models.quantized import words
from accord.training.prepared import PreparedRun

REPORTED = (
    "reward",
    "gold",
    "kl",
    "tokens",
    "loss",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
)
BESIDE = (  # under diag/, if a run has them
    "diag/eval_auc",
    "diag/eval_calibration_error",
    "diag/eval_brier",
    "diag/eval_score_length",
    "diag/eval_accuracy_shorter",
    "diag/eval_accuracy_longer",
)


def model_card(
    ready: PreparedRun, saved: Path, before: dict, after: dict, command: list[str], read_back: str
) -> str:
    """Write the card in Markdown. Every figure is from this run's own records."""
    objective, accounts = ready.learner.objective, ready.source.accounts()
    train, held = accounts["train"], accounts.get("held_out")
    adapter = ready.model.has_adapters
    files = JOIN.join(Path(each["path"]).name for each in train.get("files", [train]))
    options = ", ".join(f"{key} = {value}" for key, value in objective.flat_options.items())
    lines = [
        f"# {_plain(objective.name)} on {files}",
        "",
        (
            f"- **Objective**: {_plain(objective.name)} ({options or 'no options'})."
            f" {objective.convention}. Source: {objective.source}"
        ),
        f"- **Reference**: {ready.reference_kind}",
        (
            f"- **Starting model**: {ready.model.source}, weights sha256 `{ready.weights[:16]}…`,"
            f" {_dtype(ready)}{_quantised(ready)}"
        ),
        (
            f"- **Trained**: {'LoRA adapters' if adapter else 'all weights'},"
            f" {plural(ready.steps, 'update')} of {ready.order.batch_size} rows, peak learning"
            f" rate {ready.peak:g}, seed"
            f" {ready.config.train.seed}"
        ),
        (
            f"- **Training data**: {train['path']}, sha256 `{train['sha256'][:16]}…`,"
            f" {plural(train['ledger']['rows'], 'row')}, {ready.source.size:,} used as"
            f" {'prompts' if ready.source.draws else objective.rows}"
        ),
    ]
    lines += _mixed(ready)
    if held is not None:
        lines.append(
            f"- **Held-out data**: {held['path']}, sha256 `{held['sha256'][:16]}…`,"
            f" {plural(ready.source.evaluated_rows(), 'row')} evaluated"
        )
    lines += [
        f"- **Saved**: `{saved.name}/`; read back from disk, {read_back}",
        "",
        *_table(before, after),
        "## Use",
        "",
        "```python",
        *_usage(ready, saved, adapter),
        "```",
        "",
        "## Made by",
        "",
        "```",
        shlex.join(command) if command else "accord.train(...)",
        "```",
        "",
    ]
    return "\n".join(lines)


def _mixed(ready: PreparedRun) -> list[str]:
    """Say what an epoch takes of each of several files."""
    order = ready.order
    taken = [
        f"{plural(part.taken(order.unit) * order.unit, 'row')} of {file.path} (weight"
        f" {file.weight:g})"
        # not strict: a list of one file is no mix, and its order has no parts
        for file, part in zip(ready.config.data.train_files, order.parts, strict=False)
    ]
    return [f"- **Each epoch**: {', '.join(taken)}"] if taken else []


def _dtype(ready: PreparedRun) -> str:
    return (
        f"computed in {str(ready.model.dtype).removeprefix('torch.')} with float32"
        f" {ready.model.measures} and masters"
    )


def _quantised(ready: PreparedRun) -> str:
    quantization = ready.model.quantization
    if quantization is None:
        return ""
    return (
        f", {words(quantization.settings)}: {quantization.bits:.2f} bits a weight of its linear"
        f" layers, off by {quantization.error:.1%} of their size"
    )


def _table(before: dict, after: dict) -> list[str]:
    """Make the table of held-out metrics before and after."""
    names = [f"eval_{name}" for name in REPORTED if f"eval_{name}" in after]
    names += [name for name in BESIDE if name in after]
    if not names:
        return [
            "No held-out rows were given, so nothing is known of how this model generalises.",
            "",
        ]
    rows = [f"| {n} | {before.get(n, float('nan')):.4f} | {after[n]:.4f} |" for n in names]
    lines = ["| held-out | before | after |", "|---|---|---|", *rows, ""]
    if "diag/eval_accuracy_low" in after:
        shown = format_interval(
            {
                "value": after["eval_rewards/accuracies"],
                "low": after["diag/eval_accuracy_low"],
                "high": after["diag/eval_accuracy_high"],
            }
        )
        lines += [f"Accuracy after: {shown}, the 95 % interval clustered by prompt.", ""]
    return lines


def _usage(ready: PreparedRun, saved: Path, adapter: bool) -> list[str]:
    """Explain how to load the model.

    The loader of a reward model's adapter must be given what it needs beyond its base's
    configuration.
    """
    auto = ready.model.auto
    if not adapter:
        return [
            f"from transformers import {auto}, AutoTokenizer",
            f'model = {auto}.from_pretrained("{saved}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{saved}")',
        ]
    auto = auto.replace("Auto", "AutoPeft", 1)
    options = "".join(f", {name}={value}" for name, value in ready.model.load_options.items())
    quantised = [
        "# the base as it was saved; the adapter was trained on it quantised: accord loads it so",
        "# (accord export RUN --merge writes the trained model, dense)",
    ]
    return [
        *(quantised if ready.model.quantization is not None else []),
        f"from peft import {auto}",
        "from transformers import AutoTokenizer",
        f'model = {auto}.from_pretrained("{saved}"{options})',
        f'tokenizer = AutoTokenizer.from_pretrained("{saved}")',
    ]


def _plain(name: str) -> str:
    """Write a name whose stars are none of Markdown's."""
    return name.replace("*", r"\*")
