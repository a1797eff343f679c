"""Made-up runs for the rules: a healthy one, and changes to it."""

from __future__ import annotations

import math
from dataclasses import replace

from accord.monitor.history import Facts, History
from accord.monitor.watch import look

FACTS = Facts(
    objective="dpo",
    options={"beta": 0.1, "label_smoothing": 0.0},
    steps=100,
    rows=1600,
    batch_size=16,
    batches_per_epoch=100,
    learning_rate=2e-4,
    tie_width=1e-4,
    at_reference=math.log(2),
)


def healthy(step: int) -> dict:
    """A DPO run that learns: accuracy to .75, margin to 1, chosen answers down by a little."""
    done = step / 100
    return {
        "step": step,
        "loss": math.log(2) - 0.15 * done,
        "grad_norm": 1.0 + 0.1 * math.sin(step),
        "entropy": 2.0,
        "rewards/accuracies": 0.5 + 0.25 * min(1, 2 * done),
        "rewards/margins": done,
        "rewards/chosen": 0.2 * done,
        "rewards/rejected": -0.8 * done,
        "diag/log_ratio_token/chosen": 0.05 * done,
        "diag/log_ratio_token/rejected": -0.3 * done,
        "diag/chosen_down": 0.4,
        "diag/drift": 0.2 * done,
        "diag/ties": 0.0,
        "diag/saturated": 0.1 * done,
    }


def evaluation(step: int) -> dict:
    done = step / 100
    return {
        "step": step,
        "eval_loss": math.log(2) - 0.1 * done,
        "eval_rewards/accuracies": 0.5 + 0.2 * done,
        "eval_rewards/margins": 0.7 * done,
        "diag/eval_accuracy_low": 0.45 + 0.2 * done,
        "diag/eval_accuracy_high": 0.55 + 0.2 * done,
        "diag/eval_length_correlation": 0.2,
    }


def samples(step: int) -> dict:
    figures = {
        "tokens": 30.0,
        "repeated": 0.05,
        "ended": 0.8,
        "empty": 0.0,
        "longer": 0.5,
        "entropy": 1.5,
        "top1": 0.6,
        "kl": step / 50,
    }
    return {"step": step} | {f"diag/samples_{name}": value for name, value in figures.items()}


def timing(step: int) -> dict:
    return {"step": step, "seconds": 2.0, "tokens_per_second": 500.0, "rss": 2e9}


def told(
    steps: int = 100, *, train=None, held=None, spoken=None, timed=None, facts=FACTS
) -> dict[str, int]:
    """Every flag of a made-up run with the step at which it was said. Each change is a function of
    (step, line).
    """
    history, said = History(facts), {}
    lines = {healthy: train, evaluation: held, samples: spoken, timing: timed}

    def add(make, step):
        line = make(step)
        history.add(line | (lines[make](step, line) if lines[make] else {}))

    for step in range(steps + 1):
        if step:
            add(healthy, step)
            add(timing, step)
        if step % 20 == 0:
            add(evaluation, step)
            add(samples, step)
        for finding in look(history, said):
            assert finding.check not in said
            said[finding.check] = step
    return {name.removeprefix("flag."): step for name, step in said.items()}


def facts(**changes) -> Facts:
    return replace(FACTS, **changes)
