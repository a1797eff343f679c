"""TRL's part of vs_trl.py, one task a process. It gets accord's token ids: both compute on the same
tokens.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path

# What accord sets for itself, so that neither side waits worse than the other.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from model_shapes import model_folder  # noqa: E402
from peak import device_peak_gb, peak_gb  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.disable_progress_bar()
logging.set_verbosity_error()


class Clock(TrainerCallback):
    """Seconds of each update, from its first micro-batch to the end of its optimizer step; and what
    TRL logs.
    """

    def __init__(self):
        self.seconds, self.logs = [], []

    def on_step_begin(self, *_, **__):
        self._wait()
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__):
        self._wait()
        self.seconds.append(time.perf_counter() - self.began)

    def _wait(self):
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def on_log(self, arguments, state, control, logs=None, **__):
        if logs and "loss" in logs:
            self.logs.append(logs)


def train(spec: dict) -> dict:
    case, folder = spec["case"], Path(spec["folder"])
    clock = run(case, folder, spec["setting"], folder / "rows.json", case["batch"], spec["updates"])
    return {"seconds": clock.seconds, "peak_gb": peak_gb(), "device_peak_gb": device_peak_gb()}


def check(spec: dict) -> dict:
    from accord_side import CHECK_UPDATES, CHECKED, compared

    case, folder = {**spec["case"], "dtype": "float32"}, Path(spec["folder"])
    clock = run(case, folder, spec["setting"], folder / "check.json", CHECKED, CHECK_UPDATES)
    return {"metrics": compared(case, clock.logs)}


def run(case: dict, folder: Path, setting: dict, ids: Path, batch: int, updates: int) -> Clock:
    """Train the case's model for `updates` updates on the batches in `ids`."""
    weights = model_folder(case, folder)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=getattr(torch, case["dtype"]))
    if not case["all_weights"]:
        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    options = options_of(
        setting,
        batch=batch,
        updates=updates,
        max_tokens=case["max_tokens"],
        output=folder / "trl",
        cpu=not torch.cuda.is_available(),
    )
    clock = Clock()
    rows = [row for rows in json.loads(ids.read_text())[:updates] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(weights)
    trainer = TRAINERS[case["method"]](model, options, rows, tokenizer, clock)
    trainer.train()
    return clock


def options_of(
    setting: dict, *, batch: int, updates: int, max_tokens: int, output: Path, cpu: bool
) -> dict:
    """Options of a trainer that computes what accord computes, whatever the setting."""
    micro = batch if setting["micro"] == "all" else min(setting["micro"], batch)
    return dict(
        output_dir=str(output),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        max_steps=updates,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        warmup_steps=0,
        max_grad_norm=1.0,
        weight_decay=0.0,
        bf16=False,
        use_cpu=cpu,
        gradient_checkpointing=setting["checkpointing"],
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        seed=0,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        max_length=max_tokens,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
    )


def dpo(model, options: dict, rows: list[dict], tokenizer, clock: Clock, reference=None):
    """A trainer; without `reference` TRL makes its own, from the adapter or the model's folder."""
    from trl import DPOConfig, DPOTrainer

    DPOTrainer._prepare_dataset = lambda self, dataset, *_: dataset
    data = [
        {
            "prompt_ids": r["prompt"],
            "chosen_ids": r["completions"][0],
            "rejected_ids": r["completions"][1],
        }
        for r in rows
    ]
    return DPOTrainer(
        model,
        ref_model=reference,
        args=DPOConfig(beta=0.1, **options),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[clock],
    )


def kto(model, options: dict, rows: list[dict], tokenizer, clock: Clock):
    from trl import KTOConfig, KTOTrainer

    KTOTrainer._prepare_dataset = lambda self, dataset, *_: dataset
    data = [
        {
            "prompt_ids": r["prompt"],
            "completion_ids": r["completions"][0],
            "KL_completion_ids": r["mismatched"],
            "label": r["desirable"],
        }
        for r in rows
    ]
    return KTOTrainer(
        model,
        args=KTOConfig(beta=0.1, **options),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[clock],
    )


def orpo(model, options: dict, rows: list[dict], tokenizer, clock: Clock):
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    def tokens(self, row, model=None):
        out = {"prompt_input_ids": row["ids"][0], "prompt_attention_mask": [1] * len(row["ids"][0])}
        for side, answer in zip(("chosen", "rejected"), row["ids"][1:], strict=True):
            ids = row["ids"][0] + answer
            out |= {
                f"{side}_input_ids": ids,
                f"{side}_attention_mask": [1] * len(ids),
                f"{side}_labels": [-100] * len(row["ids"][0]) + answer,
            }
        return out

    ORPOTrainer.tokenize_row = tokens
    data = [
        {"prompt": "", "chosen": "", "rejected": "", "ids": [r["prompt"], *r["completions"]]}
        for r in rows
    ]
    args = ORPOConfig(beta=0.1, **options)
    return ORPOTrainer(
        model,
        args=args,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[clock],
    )


TRAINERS = {"dpo": dpo, "kto": kto, "orpo": orpo}


if __name__ == "__main__":
    print(json.dumps({"train": train, "check": check}[sys.argv[1]](json.loads(sys.argv[2]))))
