"""The figures of a run that are drawn, and the figures beside them; the same for one run and for
several.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from accord.pages.figures import Line, Mark, Point, chart, smooth
from accord.pages.words import short
from accord.runs.recorded import Recorded

# title, [(line's name, training metric, held-out metric)], a level to mark with a line
FIGURES = (
    ("Reward of its own answers", [("reward", "rollouts/reward", "eval_reward")], None),
    ("The gold judgement of them", [("gold", "eval_gold", "eval_gold")], None),
    (
        "KL of its own answers to the reference, nats an answer",
        [("KL", "rollouts/kl", "eval_kl")],
        0.0,
    ),
    ("Loss", [("loss", "loss", "eval_loss")], None),
    ("Reward accuracy", [("accuracy", "rewards/accuracies", "eval_rewards/accuracies")], 0.5),
    ("Reward margin", [("margin", "rewards/margins", "eval_rewards/margins")], 0.0),
    (
        "Change of log-prob, nats a token",
        [
            ("chosen", "diag/log_ratio_token/chosen", "diag/eval_log_ratio_token/chosen"),
            ("rejected", "diag/log_ratio_token/rejected", "diag/eval_log_ratio_token/rejected"),
        ],
        0.0,
    ),
    ("Entropy, nats a token", [("entropy", "entropy", "eval_entropy")], None),
    ("Gradient norm", [("gradient", "grad_norm", None)], None),
    ("Learning rate", [("rate", "learning_rate", None)], None),
    ("KTO's baseline z0", [("z0", "kl", "eval_kl")], 0.0),
    ("Tokens an answer", [("tokens", "rollouts/tokens", "eval_tokens")], None),
    (
        "Answers without a reward, prompts with one reward for all",
        [
            ("missing", "rollouts/missing", "eval_missing"),
            ("gold missing", None, "eval_gold_missing"),
            ("alike", "rollouts/flat_groups", None),
        ],
        0.0,
    ),
    ("Tokens outside the clip", [("clipped", "policy/clip_ratio", None)], 0.0),
    (
        "Share of the returns that the value head foresees",
        [("foreseen", "rollouts/value_explained", None)],
        0.0,
    ),
)
SAMPLED = (
    ("KL on fresh samples, nats an answer", [("KL", "diag/samples_kl")], 0.0),
    ("Tokens of samples", [("tokens", "diag/samples_tokens")], None),
    (
        "Likeliest token's share, repeated 4-grams",
        [("top token", "diag/samples_top1"), ("repeated", "diag/samples_repeated")],
        None,
    ),
)
DISPLACED = (
    (
        "Share of pairs whose chosen answer fell",
        [("fell", "diag/chosen_down", "diag/eval_chosen_down")],
        0.5,
    ),
    (
        "Rows without gradient left, ties",
        [("saturated", "diag/saturated", None), ("ties", "diag/ties", None)],
        0.0,
    ),
    (
        "Change of log-prob, nats an answer",
        [
            ("chosen", "diag/log_ratio/chosen", "diag/eval_log_ratio/chosen"),
            ("rejected", "diag/log_ratio/rejected", "diag/eval_log_ratio/rejected"),
        ],
        0.0,
    ),
)


def marks(run: Recorded) -> list[Mark]:
    """Mark the steps of raised flags, with their numbers in the list of flags. Flags of one step
    share a line.
    """
    steps: dict[int, list[tuple[int, dict]]] = {}
    for number, event in enumerate(run.events, 1):
        steps.setdefault(event["step"], []).append((number, event))
    return [_mark(step, events) for step, events in steps.items()]


def _mark(step: int, events: list[tuple[int, dict]]) -> Mark:
    kind = "warning" if any(event["verdict"] == "warning" for _, event in events) else "note"
    names = ", ".join(short(event["check"]) for _, event in events)
    return Mark(step, ",".join(str(number) for number, _ in events), f"step {step}: {names}", kind)


def training_curves(run: Recorded, figures=FIGURES) -> list[Markup]:
    """Draw raw and smoothed training figures with the held-out ones, and the flags on the time
    axis.
    """
    found = []
    for title, lines, level in figures:
        drawn: list[Line] = []
        for colour, (name, training, held) in enumerate(lines, 1):
            points = run.training.recorded(training)
            if points:
                drawn += _drawn(name, training, points, colour, keyed=len(lines) > 1)
            if _is_held(run, training, held) and (points := run.held_out.recorded(held)):
                drawn.append(
                    Line(
                        f"{name}, held-out",
                        points,
                        colour,
                        "held",
                        keyed=len(lines) > 1 and not drawn,
                    )
                )
        found.append(chart(title, drawn, marks(run), level))
    return [figure for figure in found if figure is not None]


def _is_held(run: Recorded, training: str | None, held: str | None) -> bool:
    """Tell whether a held-out figure belongs to a training figure of this run. Two are called
    eval_kl: the KL of a policy's own answers, and KTO's z0.
    """
    return held is not None and (held != "eval_kl" or (training != "kl") == run.answers_itself)


def _drawn(name: str, metric: str, points: Sequence[Point], colour: int, keyed: bool) -> list[Line]:
    """Return a line of all updates and one of the trend. The learning rate has no noise and needs
    only one.
    """
    if metric == "learning_rate":
        return [Line(name, points, colour, keyed=keyed)]
    trend = smooth(points, max(2.0, len(points) / 25))
    return [
        Line(f"{name}, each update", points, colour, "raw", keyed=False),
        Line(name, trend, colour, "smooth", keyed=keyed),
    ]


def sample_curves(run: Recorded) -> list[Markup]:
    found = []
    # a run's own held-out answers have tokens and KL already, of many more prompts
    for title, lines, level in SAMPLED[2:] if run.answers_itself else SAMPLED:
        drawn = [
            Line(name, run.sampled.points(metric), colour, "held")
            for colour, (name, metric) in enumerate(lines, 1)
        ]
        found.append(chart(title, drawn, (), level))
    return [figure for figure in found if figure is not None]


def side_by_side(runs: Sequence[Recorded]) -> list[Markup]:
    """Draw the held-out figures of several runs in one picture each. Without held-out rows the
    training figures are drawn.
    """
    found = []
    for title, lines, level in FIGURES[:7]:
        for name, training, held in lines:
            drawn = []
            for colour, run in enumerate(runs, 1):
                known = run.held_out.recorded(held) if _is_held(run, training, held) else []
                points = known or smooth(run.training.points(training), 5.0)
                drawn.append(Line(run.name, points, colour, "held" if known else "smooth"))
            found.append(chart(title if len(lines) == 1 else f"{title}: {name}", drawn, (), level))
    return [figure for figure in found if figure is not None]
