"""accord's side of a training: its own step on a model, without the run around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gpu_stages import models
from gpu_stages.shapes import Counts, update_flops
from gpu_stages.tasks import Given, time_updates, wait
from peak import forget_device_peak

from accord.types import Tree

RATE = 1e-4  # of both sides
BUDGETS = (16_384, 65_536, 4_096)  # unique tokens at once; the likeliest first
COMPARED = ("loss", "logps/chosen", "logps/rejected")


def run(given: Given) -> None:
    """Report numbers in float32, then time updates."""
    shape, stage = given.shape, given.stage
    size = models.size_of(stage.shape, given.tiny)
    batches = [models.trees_of(b) for b in models.make_batches(size, shape.vocab, given.tiny)]
    given.emit(facts=facts(given, batches))
    check(given)
    model = models.accord_model(shape, stage.trains, given.dtype, given.device)
    trainer = Trainer(model, batches[0], len(batches))
    forward = trainer.learner.forward
    given.emit(path=forward.path, reason=forward.reason, estimated_gb=estimates(trainer, batches))

    def attempt(
        budget: int,
        work: Sequence[list[Tree]],
        until: float | None,
        heard: Callable[[list[float]], None],
    ) -> list[float]:
        trainer.reset(budget)
        forget_device_peak()
        seconds: list[float] = []
        for index, trees in enumerate(work):
            if until is not None and time.time() > until:
                break
            wait(given.device)
            began = time.perf_counter()
            trainer.update(index, trees)
            wait(given.device)
            seconds.append(time.perf_counter() - began)
            heard(seconds)
        return seconds

    time_updates(given, {str(budget): budget for budget in BUDGETS}, attempt, batches)


def facts(given: Given, batches: list[list[Tree]]) -> dict[str, Any]:
    """Count an update: tokens and operations, the mean over the batches."""
    shared, alone = ([count(b) for b in batches] for count in (Counts.shared, Counts.alone))

    def flops(counts: list[Counts]) -> float:
        each = [update_flops(given.shape, c, given.stage.trains) for c in counts]
        return sum(each) / len(each)

    return {
        "batch": len(batches[0]),
        "weights": given.shape.weights,
        "unique_tokens_an_update": sum(c.tokens for c in shared) / len(shared),
        "flops_an_update": flops(shared),
        "tokens_an_update_unshared": sum(c.tokens for c in alone) / len(alone),
        "flops_an_update_unshared": flops(alone),
        "dtype": given.dtype,
    }


def check(given: Given) -> None:
    """Report losses and log-probs of a few small updates in float32, for the comparison with TRL's;
    or that memory does not hold it.
    """
    from accord.compat import is_out_of_memory
    from accord.engine.release import release

    shape = given.shape
    batches = models.make_batches(models.CHECK, shape.vocab, given.tiny)
    try:
        model = models.accord_model(shape, given.stage.trains, "float32", given.device)
        trainer = Trainer(model, models.trees_of(batches[0]), len(batches))
        trainer.reset(10**9)
        lines = [trainer.update(i, models.trees_of(rows)) for i, rows in enumerate(batches)]
        given.emit(check=[{name: line[name] for name in COMPARED} for line in lines])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        given.emit(check="out of memory")
    model = trainer = None  # 32 GB, before the next model is made
    release()


class Trainer:
    """accord's step: forward path chosen, reference, optimizer."""

    def __init__(self, model: Any, first: list[Tree], updates: int):
        from accord.config.schema import TrainConfig
        from accord.engine.micro_budget import MicroBudget
        from accord.engine.optimizer import Optimizer
        from accord.engine.step import UpdateContext
        from accord.forward.choose import choose
        from accord.forward.reference import AdaptersOff, Frozen
        from accord.objectives import resolve
        from accord.verify.preflight import probe

        forward = choose(model, probe(first)[:2])
        reference = Frozen.copy_of(forward) if model.peft is None else AdaptersOff(forward)
        self.learner = UpdateContext(forward, resolve("dpo"), reference, MicroBudget(BUDGETS[0]), 0)
        self.optimizer = Optimizer(
            model.trainable(), TrainConfig(warmup=0, schedule="constant"), RATE, updates
        )

    def reset(self, budget: int) -> None:
        """Compute so many unique tokens at once from now on; forget gradients of an update that
        failed.
        """
        self.learner = self.learner.with_budget(budget)
        self.optimizer.masters.zero_grad()

    def update(self, index: int, trees: list[Tree]) -> dict[str, float]:
        """Make one update; return the figures that a run would log of it."""
        from accord.engine.step import accumulate, make_batch
        from accord.evaluate.records import summarise

        batch = make_batch(self.learner, index, trees)
        records = accumulate(self.learner, batch, self.optimizer.masters)
        norm = self.optimizer.grad_norm()
        assert torch.isfinite(norm), "the gradient is not finite"
        self.optimizer.update(index, norm)
        return summarise(records, self.learner.objective)


def estimates(trainer: Trainer, batches: list[list[Tree]]) -> dict[str, float]:
    """Compute what a run would expect the peak to be with each budget: its constants for a GPU were
    chosen, not measured.
    """
    from accord.engine.memory import estimate

    forward, optimizer = trainer.learner.forward, trainer.optimizer
    return {
        str(budget): estimate(forward, optimizer, batches, budget).peak / 1e9 for budget in BUDGETS
    }
