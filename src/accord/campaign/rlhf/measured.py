"""One model on held-out prompts: its answers, their KL to the first model, and their rewards.

    DIR/STAGE/held_out_answers.jsonl    answers at temperature 1, each with its KL to the first
                                        model
    DIR/STAGE/held_out_scored.jsonl     the same with rewards
    DIR/STAGE/held_out_gold.jsonl       the same with the rewards of another scorer, which training
                                        never saw

Every model answers the same prompts with the same randomness, so that differences between two are
paired.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from accord.assess.generation import Sampling
from accord.assess.opened import OpenModel, open_start_of
from accord.assess.rollouts import sample_opened, score_file
from accord.campaign.folder import CampaignFolder
from accord.campaign.stages import make_once
from accord.config.schema import Config
from accord.data.prompts import read_prompts
from accord.evaluate.intervals import (
    AT_LEAST_ZERO,
    UNBOUNDED,
    Estimate,
    bootstrap_difference,
    bootstrap_mean,
)
from accord.evaluate.probe import KLReference, divergences
from accord.forward.choose import Forward
from accord.models.lora import forget_reference_adapter
from accord.sampling.sampler import Prompt, Sample

ANSWERS, SCORED, GOLD = "held_out_answers.jsonl", "held_out_scored.jsonl", "held_out_gold.jsonl"


@dataclass(frozen=True)
class Questions:
    """The questions that every model answers, and the options for drawing answers."""

    prompts: Path  # file
    answers: int  # to each
    tokens: int  # longest answer
    seed: int

    def sampling(self) -> Sampling:
        return Sampling(self.answers, self.tokens, 1.0, 1.0, self.seed)


# opens a model, and the first one to measure KL to; None for the first one itself (KL is 0)
Open = Callable[[], tuple[OpenModel, KLReference | None]]


def answer(
    desk: CampaignFolder, name: str, folder: Path, model: Open, questions: Questions, about: dict
) -> Path:
    """Write the answers of a model. The model is opened only if they are not there yet."""
    target, prompts = folder / ANSWERS, str(questions.prompts)

    def make() -> None:
        opened, first = model()

        def kl(ids: Sequence[Prompt], samples: Sequence[Sample]) -> Mapping[str, Sequence]:
            return {
                "kl": (
                    divergences(opened.model, ids, samples, first)
                    if first is not None
                    else [0.0] * len(samples)
                )
            }

        read = read_prompts(prompts)
        sample_opened(
            opened,
            read,
            prompts,
            str(target),
            questions.sampling(),
            say=without_figures,
            about=about,
            beside=kl,
            world=desk.world,
            poll=desk.stop.poll,
        )

    return make_once(desk, f"{name}/held-out answers", target, make, together=True)


def without_figures(text: str) -> None:
    """Drop a stage's own progress lines: stages are short, and there are many."""


def score(
    desk: CampaignFolder,
    name: str,
    answers: Path,
    output: str,
    rewards: Sequence[str],
    options: Mapping[str, Mapping],
) -> Path:
    """Write the rewards of a file of answers, beside it."""
    target = answers.with_name(output)
    return make_once(
        desk,
        f"{name}/{target.stem.replace('_', ' ')}",
        target,
        lambda: score_file(
            str(answers),
            str(target),
            rewards,
            options,
            without_figures,
            world=desk.world,
            poll=desk.stop.poll,
        ),
        together=True,
    )


def kl_start(opened: OpenModel, config: Config) -> KLReference:
    """Return the model that the recipe starts from, to measure KL of one that was trained from it.

    For adapters on a bare model it is the network with all of them off. Otherwise it is loaded a
    second time.
    """
    policy = Forward(opened.model, "padded", "", 0.0)
    if not opened.model.has_adapters or config.model.adapter is not None:
        return KLReference(Forward(open_start_of(config).model, "padded", "", 0.0), nullcontext)
    if opened.model.has_reference_adapter:
        forget_reference_adapter(opened.model)
    return KLReference(policy, opened.model.as_reference)


# ---------------------------------------------------------------- figures


def figures(folder: Path, first: Path) -> dict:
    """Compute the figures of one model's files and their change from the first model's, with gold
    rewards if there are any.
    """
    out = Scored.read(folder / SCORED).figures(Scored.read(first / SCORED))
    if (folder / GOLD).is_file():
        gold = Scored.read(folder / GOLD)
        out |= {
            "gold": gold.mean(gold.reward),
            "gold_change": gold.change(Scored.read(first / GOLD)),
        }
    return out


@dataclass(frozen=True)
class Scored:
    """Answers and rewards of a file in one list: prompt after prompt, `answers` to each."""

    prompt: list[int]  # [N] which prompt
    reward: np.ndarray  # [N] NaN where there is none
    kl: np.ndarray  # [N] nats an answer
    tokens: np.ndarray  # [N]
    ended: np.ndarray  # [N] bool

    @classmethod
    def read(cls, file: Path) -> Scored:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
        columns = {
            name: [value for row in rows for value in row[name]]
            for name in ("rewards", "kl", "tokens", "ended")
        }
        rewards = [math.nan if value is None else value for value in columns["rewards"]]
        prompt = [number for number, row in enumerate(rows) for _ in row["completions"]]
        return cls(
            prompt,
            np.array(rewards, float),
            *(np.array(columns[name]) for name in ("kl", "tokens", "ended")),
        )

    def figures(self, first: Scored) -> dict:
        """Compute means with intervals clustered by prompt, and the change of the reward since the
        first model.

        An answer without a reward is counted; it is in no mean of rewards.
        """
        out = {
            "answers": len(self.prompt),
            "without_reward": int(np.isnan(self.reward).sum()),
            "reward": self.mean(self.reward),
            "kl": self.mean(self.kl, AT_LEAST_ZERO),
            "tokens": self.mean(self.tokens, AT_LEAST_ZERO),
            "ended": float(self.ended.mean()),
        }
        return out | {"reward_change": self.change(first)}

    def mean(self, values: np.ndarray, bounds: tuple[float, float] = UNBOUNDED) -> dict | None:
        there = ~np.isnan(np.asarray(values, float))
        clusters = list(compress(self.prompt, there))
        return (
            _interval(bootstrap_mean(values[there], clusters=clusters, bounds=bounds), clusters)
            if there.any()
            else None
        )

    def change(self, first: Scored) -> dict | None:
        """Return this model's reward minus the first model's, on the same prompt with the same
        randomness.
        """
        there = ~np.isnan(self.reward - first.reward)
        clusters = list(compress(self.prompt, there))
        if not there.any():
            return None
        return _interval(
            bootstrap_difference(self.reward[there], first.reward[there], clusters=clusters),
            clusters,
        )


def _interval(estimate: Estimate, clusters: Sequence[int]) -> dict:
    return estimate.as_dict() | {"prompts": len(set(clusters))}
