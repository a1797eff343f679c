"""The section `rollouts` of a config: answers of the policy itself, and how they are judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from accord.config.sampler_section import SamplerConfig
from accord.config.section import Positive, Section, finite


class RolloutsConfig(Section):
    rewards: Annotated[list[str], Field(min_length=1)]
    """Rewards of an answer: NAME or NAME=WEIGHT each, as `accord score --reward` takes them. Their
    weighted sum counts."""
    reward_options: dict[str, dict[str, Any]] = {}
    """Keyword arguments of a reward, by its name."""
    reward_models: Literal["auto", "each", "first"] = "auto"
    """Which of several processes hold the reward models: each a copy, or the first one, which then
    scores the answers of all. auto: copies where they take no more than half of the free memory."""
    num_generations: Annotated[int, Field(strict=True, ge=2, le=1024)] = 4
    """Answers to each prompt; the prompt is computed once. train.batch_size is the number of
    prompts."""
    max_new_tokens: Positive = 48
    """Longest answer."""
    temperature: Annotated[float, Field(strict=True, gt=0, le=10)] = 1.0
    """Temperature of the draws. A policy gradient needs answers drawn at 1, and takes no other."""
    num_iterations: Positive = 1
    """Updates made from one batch of answers before the next is drawn."""
    dynamic_sampling: Annotated[int, Field(strict=True, ge=0, le=100)] = 0
    """Rounds in which a prompt whose answers all have one reward gives way to another prompt of the
    file. 0: none. A prompt that no round could replace stays."""
    overlong: Literal["keep", "mask", "soft", "value"] = "keep"
    """Handling of answers that were cut at max_new_tokens. keep: they count as ended there. mask:
    they are compared and not trained on. soft: a penalty for length is taken off each reward.
    value: ppo's value head stands for what would have followed, in place of a reward."""
    overlong_buffer: Positive | None = None
    """soft: tokens before max_new_tokens over which the penalty grows from 0 to 1; null takes a
    fifth of max_new_tokens."""
    ahead: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    """Batches that are drawn before their turn: batch n by the weights that batch n - ahead begins
    with; a server draws them while the policy trains. 0: each by the policy as it stands. A method
    without ratios takes no other."""
    max_gap: Annotated[float, Field(strict=True, gt=0)] | None = None
    """Largest mean difference of the sampler's log-probs from the trainer's, in nats a token, in a
    batch and in a server's probes. Over it the run ends, unless `correction` makes up for it. null:
    0.1, or what rounding accounts for, as measured on this model and machine, if that is more."""
    correction: Literal["none", "tis", "mask", "icepop"] = "none"
    """Weights that make up for a sampler with other probabilities than the trainer's: ratios cut at
    correction_clip (tis); whole answers left out, by their mean gap (mask); ratios, and 0 for
    tokens outside correction_low to correction_clip (icepop)."""
    correction_clip: Annotated[float, Field(strict=True, gt=1)] | None = None
    """Upper bound of the correction's ratios. null: 2 for tis, 5 for icepop, 1.1 for mask."""
    correction_low: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None
    """Lower bound of icepop's ratios. null: 0.5."""
    pairing: Literal["best_worst", "best_random", "hard", "margin"] = "best_worst"
    """Rule that picks the answers which an objective of pairs compares; see `accord pair`."""
    margin: Annotated[float, Field(strict=True, ge=0)] = 0.0
    """Least difference of two rewards that make a pair."""
    gold: list[str] = []
    """A second judgement of the held-out answers, never trained on. It is what the rewards stand
    for, so that a policy that games them is seen."""
    gold_options: dict[str, dict[str, Any]] = {}
    """Keyword arguments of a reward of `gold`, by its name."""
    num_generations_eval: Positive = 2
    """Answers to each held-out prompt at an evaluation."""
    sampler: SamplerConfig | None = None
    """What draws the answers: null (or local) is the model in this process; the address of a vLLM
    server, or its settings, is that server. See docs/online.md."""

    @field_validator("sampler", mode="before")
    @classmethod
    def _server(cls, value):
        if value == "local":
            return None
        return {"server": value} if isinstance(value, str) else value

    @field_validator("reward_options", "gold_options")
    @classmethod
    def _finite_options(cls, value):
        return finite(value)
