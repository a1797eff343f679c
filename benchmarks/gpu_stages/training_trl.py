"""TRL's side of a training: DPOTrainer on the same weights, rows and adapters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import trl_side
from gpu_stages import models
from gpu_stages.shapes import Shape
from gpu_stages.tasks import Given, time_updates
from gpu_stages.training import COMPARED
from peak import forget_device_peak

SETTINGS = {
    f"{micro} rows a micro-batch{', activation checkpointing' if checkpointing else ''}": {
        "micro": micro,
        "checkpointing": checkpointing,
    }
    for micro, checkpointing in ((8, False), (2, False), ("all", True), ("all", False))
}


class Clock(trl_side.Clock):
    """Seconds of each update, told to somebody; it stops a training whose time is over."""

    def __init__(self, until: float | None, heard: Callable[[list[float]], None]):
        super().__init__()
        self.until, self.heard = until, heard

    def on_step_end(self, arguments, state, control, **more):
        super().on_step_end(arguments, state, control, **more)
        self.heard(self.seconds)
        if self.until is not None and time.time() > self.until:
            control.should_training_stop = True


def run(given: Given) -> None:
    """Report numbers in float32, then time updates."""
    shape, stage = given.shape, given.stage
    check(given)
    size = models.size_of(stage.shape, given.tiny)

    def attempt(
        setting: dict,
        work: Sequence[list[dict]],
        until: float | None,
        heard: Callable[[list[float]], None],
    ) -> list[float]:
        return train(given, given.dtype, setting, work, Clock(until, heard)).seconds

    batches = models.make_batches(size, shape.vocab, given.tiny)
    time_updates(given, SETTINGS, attempt, batches)


def check(given: Given) -> None:
    """Report losses and log-probs of a few small updates in float32; or that memory does not hold
    it.
    """
    from accord.compat import is_out_of_memory
    from accord.engine.release import release

    batches = models.make_batches(models.CHECK, given.shape.vocab, given.tiny)
    clock = Clock(None, lambda seconds: None)
    try:
        train(given, "float32", {"micro": "all", "checkpointing": False}, batches, clock)
        given.emit(check=[{name: float(line[name]) for name in COMPARED} for line in clock.logs])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        given.emit(check="out of memory")
    release()


def train(
    given: Given, dtype: str, setting: dict, batches: Sequence[list[dict]], clock: Clock
) -> Clock:
    """Train a fresh model on some batches, an update each."""
    from accord.engine.release import release

    release()  # the model of the training before
    model, reference = both(given.shape, given.stage.trains, dtype, given.device)
    options = trl_side.options_of(
        setting,
        batch=len(batches[0]),
        updates=len(batches),
        max_tokens=given.shape.positions,
        output=given.folder / "trl",
        cpu=given.device == "cpu",
    )
    rows = [row for batch in batches for row in batch]
    tokenizer = models.make_tokenizer(given.shape.vocab)
    trainer = trl_side.dpo(model, options, rows, tokenizer, clock, reference)
    forget_device_peak()
    trainer.train()
    return clock


def both(shape: Shape, trains: str, dtype: str, device: str) -> tuple[Any, Any]:
    """Make what trains, and the reference where it is a model of its own."""
    if trains == "all":
        network = models.random_network(shape, dtype, device)
        return network, models.random_network(shape, dtype, device).requires_grad_(False)
    network = (
        quantized_network(shape, dtype, device)
        if trains == "qlora"
        else models.random_network(shape, dtype, device)
    )
    model = models.language_model(network, shape.vocab)
    models.choose_trained(model, "lora")
    return model.peft, None


def quantized_network(shape: Shape, dtype: str, device: str) -> Any:
    """Quantise the same weights as transformers does when it loads a model: nf4, scales in 8 bits
    too. They are handed over on the device.
    """
    import torch
    from transformers import BitsAndBytesConfig

    dense = models.random_network(shape, dtype, device)
    kind = getattr(torch, dtype)
    return type(dense).from_pretrained(
        None,
        config=dense.config,
        state_dict=dense.state_dict(),
        dtype=kind,
        device_map={"": device},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        ),
    )
