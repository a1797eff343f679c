"""The objectives: what each needs and is for, what its β means, and what a preference costs in KL
where it is known exactly.
"""

from __future__ import annotations

import math

from accord.objectives import OBJECTIVES, POLICY_OBJECTIVES, resolve
from making.figures import result
from making.text import literal, plain, table

BETAS = (0.01, 0.05, 0.1, 0.5, 1.0)


def needs() -> str:
    """A line an objective: what it needs and is for, options with their defaults, source."""
    rows = [
        (f"**{name}**", each.group, plain(each.when), _options(each.schema), plain(each.source))
        for name, each in (OBJECTIVES | POLICY_OBJECTIVES).items()
    ]
    return table(("method", "needs", "for", "options", "source"), rows)


def holding() -> str:
    """A line a method that holds a chosen answer under the reference: how, and what it is for."""
    rows = [
        (f"**{name}**", plain(each.holds), plain(each.when))
        for name, each in OBJECTIVES.items()
        if each.holds
    ]
    return table(("method", "what it does", "for"), rows)


def remedies_in_world() -> str:
    """What each remedy of a falling chosen answer does in the playground's preset, a line each."""
    head = ("remedy", "flag raised", "chosen, nats", "rejected, nats", "chosen is said")
    rows = [
        (*_moved(name, run), f"{run['probability']:.1%}")
        for name, run in result("remedies")["preset"].items()
    ]
    return table(head, rows)


def remedies_in_gallery() -> str:
    """What each does in runs of the gallery's model, on held-out pairs."""
    found = result("remedies")
    head = (
        "remedy",
        "flag raised",
        "chosen, nats",
        "rejected, nats",
        "chosen is less likely",
        "accuracy",
        "other flags",
    )
    rows = [
        (
            *_moved(name, run),
            f"{run['down']:.0%} of the pairs",
            f"{run['accuracy']:.3f}",
            ", ".join(flag for flag in run["also"] if flag != "chosen-falling") or "–",
        )
        for name, run in found["runs"].items()
    ]
    updates = next(iter(found["runs"].values()))["updates"]
    words = f"The case “{found['case']}”, {updates} updates, seed {found['seed']}."
    return f"{table(head, rows)}\n\n{words}"


def _moved(name: str, run: dict) -> tuple[str, ...]:
    flag = "no" if run["flag"] is None else f"update {run['flag']:,}"
    known = f"**{name}**" if name in OBJECTIVES else name
    return known, flag, f"{run['chosen']:+.2f}", f"{run['rejected']:+.2f}"


def policy_losses() -> str:
    """A line a policy gradient: what divides it, what its clip means, its slope at ratio 1, and
    where a token has none.
    """
    divided = {"rows": "answers", "tokens": "tokens"}
    rows = [
        (
            f"**{name}**",
            divided[each.denominator],
            each.facts.clip,
            each.facts.at_one,
            each.facts.vanishes,
        )
        for name, each in POLICY_OBJECTIVES.items()
    ]
    return table(
        ("method", "divided by the batch's", "the clip bounds", "slope at ρ = 1", "no slope"), rows
    )


def _options(schema: dict) -> str:
    return (
        ", ".join(
            literal(f"{name}={option.get('default', 'required')}")
            for name, option in schema.items()
        )
        or "–"
    )


def conventions() -> str:
    """What a run says aloud at its start, each objective at its defaults."""
    return table(
        ("method", "said at the start of the run"),
        [(f"**{n}**", plain(resolve(n).convention)) for n in OBJECTIVES],
    )


def kl_spent(agreement: str) -> str:
    """Two answers that the reference gives equally often; people prefer one with the given share:
    where DPO's minimum lies.

    The minimum has βh = logit(share), h = log(p / (1 − p)) for a reference of one half, and
    KL = p log 2p + (1 − p) log 2(1 − p).
    """
    share = float(agreement)
    pull = math.log(share / (1 - share))
    return table(
        ("β", "margin h, nats", "policy gives the better answer", "KL to the reference, nats"),
        [
            (
                f"{beta:g}",
                f"{pull / beta:.2f}",
                f"{_sigmoid(pull / beta):.4f}",
                f"{_kl(_sigmoid(pull / beta)):.4f}",
            )
            for beta in BETAS
        ],
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _kl(p: float) -> float:
    """Of (p, 1 − p) from (½, ½), nats; at most log 2."""
    return sum(q * math.log(2 * q) for q in (p, 1 - p) if q > 0)
