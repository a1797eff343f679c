"""The same small run with TRL: its errors, and whatever it and its libraries say at the level of a
warning.
"""

from __future__ import annotations

import logging
import traceback
import warnings
from contextlib import contextmanager

import torch

from benchmarks.silentbench.fault import Outcome, Spoil
from benchmarks.silentbench.world import World

SETTINGS = dict(
    per_device_train_batch_size=4,
    max_steps=10,
    learning_rate=1e-3,
    logging_steps=1,
    report_to=[],
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    max_length=512,
    save_strategy="no",
    disable_tqdm=True,
    seed=0,
    eval_strategy="no",
)
TOO_MUCH = 600  # characters of a message that are kept


def run(world: World, spoil: Spoil) -> Outcome:
    """Spoil the world, train ten updates with DPOTrainer (or KTOTrainer), evaluate, save."""
    crash, done = "", 0
    with world.stack, heard() as messages:
        try:
            spoil(world)
            trainer = make(world)
            trainer.train()
            done = trainer.state.global_step
            if trainer.eval_dataset is not None:
                trainer.evaluate()
            trainer.save_model(str(world.folder / "trl-final"))
        # any error stops the run; whether it names the cause is for the pattern to say
        except Exception as error:
            messages.append(f"{type(error).__name__}: {error}"[:TOO_MUCH])
            crash = traceback.format_exc()[-TOO_MUCH:]
    return Outcome(
        messages,
        ["error" if crash and m is messages[-1] else "warning" for m in messages],
        done,
        crash,
    )


def make(world: World):
    import trl
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = dict(world.trl)
    kind, peft, targets = (
        asked.pop("_trainer", "dpo"),
        asked.pop("_peft", world.peft),
        asked.pop("_targets", ["q_proj", "k_proj", "v_proj", "o_proj"]),
    )
    prepare, dtype = asked.pop("_prepare", None), asked.pop("_dtype", torch.float32)
    trainer, config = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
    }[kind]

    def rows(file: str):
        return load_dataset(
            "json", data_files=file, split="train", cache_dir=str(world.folder / "datasets")
        )

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(world.model, dtype=dtype)
    made = trainer(
        model=model,
        args=config(output_dir=str(world.folder / "trl"), **SETTINGS | asked),
        train_dataset=rows(world.train_file()),
        eval_dataset=rows(world.held_file()) if world.held else None,
        processing_class=AutoTokenizer.from_pretrained(world.model),
        peft_config=(
            LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM")
            if peft
            else None
        ),
    )
    if prepare is not None:
        prepare(made)
    return made


class _Ear(logging.Handler):
    def __init__(self, messages: list[str]):
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage()[:TOO_MUCH])


@contextmanager
def heard():
    """All warnings of a run, from Python's warnings and from every library's log, each once."""
    messages: list[str] = []
    ear = _Ear(messages)
    loggers = [
        logging.getLogger(name)
        for name in ("trl", "transformers", "accelerate", "datasets", "peft", "torch")
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for logger in loggers:
            logger.addHandler(ear)
        try:
            yield messages
        finally:
            for logger in loggers:
                logger.removeHandler(ear)
            messages[:0] = list(dict.fromkeys(str(each.message)[:TOO_MUCH] for each in caught))
