"""Faults of settings: values that do nothing, too much, or something else than they say."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.kinds import PAIRS, Kind

BEGIN = ("train", "dry run")
LOUD = ("train",)


def setting(name: str, values: tuple, **more) -> Callable[[Case], str]:
    """Draw one of the values for a field."""

    def spoil(case: Case) -> str:
        value = case.rng.choice(values)
        case.settings[name] = value
        case.settings |= {key.replace("__", "."): other for key, other in more.items()}
        return f"{name} {value}"

    return spoil


def word(flag: str, values: tuple) -> Callable[[Case], str]:
    def spoil(case: Case) -> str:
        value = case.rng.choice(values)
        case.words += [flag, str(value)]
        return f"{flag} {value}"

    return spoil


def key_twice(case: Case) -> str:
    text, key = case.rng.choice(
        (
            ("objective:\n  beta: 0.1\n  beta: 0.5\n", "beta"),
            ("train:\n  seed: 1\n  warmup: 0.1\n  seed: 2\n", "seed"),
            ("train:\n  warmup: 0.2\nevaluate:\n  every: 0\ntrain:\n  seed: 3\n", "train"),
        )
    )
    case.extra_keys = text
    return f"{key} twice"


def one_reward_for_all(case: Case) -> str:
    """A verified reward that no answer of this model can earn."""
    case.settings["rollouts.rewards"] = '["format"]'
    case.settings["rollouts.reward_options"] = json.dumps({"format": {"pattern": "<think>.*"}})
    return "format, which no answer has"


def moving_never(case: Case) -> str:
    every = case.rng.choice((500, 10_000))
    case.settings |= {"reference": "moving", "moving.every": every}
    return f"every {every} updates of 6"


BETA = r"\bbeta\b|β"
# a remedy that says "lower the learning rate" has not said that it is the cause
RATE = (
    r"learning_rate|learning rate (of |is |= ?)?\d|learning rate .*(too|so) (large|high|small|low)"
)
SETTINGS = (
    Kind(
        "a large beta",
        BETA,
        setting("objective.beta", (10.0, 100.0, 1000.0)),
        BEGIN,
        ("dpo", "kto"),
    ),
    Kind("a large beta, ipo", BETA, setting("objective.beta", (100.0, 1000.0)), BEGIN, ("ipo",)),
    Kind(
        "a large beta, simpo", BETA, setting("objective.beta", (300.0, 2000.0)), BEGIN, ("simpo",)
    ),
    Kind(
        "a small beta", BETA, setting("objective.beta", (1e-6, 1e-4)), BEGIN, ("dpo", "ipo", "kto")
    ),
    Kind(
        "a margin far over beta",
        r"gamma|γ",
        setting("objective.gamma", (100.0, 1000.0)),
        BEGIN,
        ("simpo",),
    ),
    Kind(
        "weights of labels far apart",
        r"weight|desirable|undesirable",
        setting("objective.desirable_weight", (1e4, 1e6)),
        BEGIN,
        ("kto",),
    ),
    Kind(
        "a clip that leaves nothing",
        r"clip|max_grad_norm",
        setting("train.max_grad_norm", (1e-9, 1e-7)),
        BEGIN,
        (*PAIRS, "kto", "bradley_terry"),
    ),
    Kind(
        "adapters of no strength",
        r"alpha",
        setting("model.lora.alpha", (1e-4, 1e-3)),
        BEGIN,
        ("dpo", "simpo", "kto"),
    ),
    Kind(
        "adapters of too much strength",
        r"alpha",
        setting("model.lora.alpha", (32_000.0, 1e6)),
        BEGIN,
        ("dpo", "simpo", "bradley_terry"),
    ),
    Kind(
        "dropout of nearly everything",
        r"dropout",
        setting("model.lora.dropout", (0.95, 0.99)),
        BEGIN,
    ),
    Kind(
        "a large learning rate",
        RATE,
        word("--learning-rate", (0.3, 0.9)),
        LOUD,
        (*PAIRS, "kto", "bradley_terry"),
    ),
    Kind(
        "a small learning rate",
        RATE,
        word("--learning-rate", (1e-12, 1e-10)),
        LOUD,
        ("dpo", "simpo", "bradley_terry"),
    ),
    Kind(
        "a warm-up longer than the run",
        r"warm.?up",
        setting("train.warmup", (50.0, 1000.0)),
        BEGIN,
        (*PAIRS, "kto", "grpo"),
    ),
    Kind(
        "a batch larger than the data",
        r"batch",
        word("--batch-size", (64, 512)),
        BEGIN,
        ("dpo", "simpo", "grpo"),
    ),
    Kind(
        "weight decay that eats the weights",
        r"decay",
        setting("train.weight_decay", (100.0, 1000.0)),
        BEGIN,
        ("dpo", "orpo", "kto"),
    ),
    Kind(
        "moments that forget all",
        r"\bbetas\b|moment|β2",
        setting("train.betas", ([0.999, 0.0], [0.999, 0.5])),
        BEGIN,
    ),
    Kind(
        "a key twice", r"twice|duplicate|more than once|repeated", key_twice, BEGIN, ("dpo", "ipo")
    ),
    Kind(
        "labels smoothed away",
        r"smoothing",
        setting("objective.label_smoothing", (0.5, 0.9)),
        BEGIN,
        ("cdpo", "robust"),
    ),
    Kind(
        "rows that do not fit",
        r"max_tokens|too long|long",
        setting("data.max_tokens", (12, 16)),
        BEGIN,
        ("dpo", "kto"),
    ),
    Kind(
        "one reward for all answers",
        r"reward.*(equal|same|alike|constant|0)|no gradient"
        r"|nothing to (learn|compare)",
        one_reward_for_all,
        BEGIN,
        ("grpo", "rloo"),
    ),
    Kind("a reference that never moves", r"moving|every", moving_never, BEGIN, ("dpo",)),
)
