"""Pure checks of an update's rows: they are the order's, and their records follow from their own
log-probs. Numbers in, findings out; `invariants` makes them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch

from accord.engine.step import Batch
from accord.evaluate.records import Records
from accord.forward.rounding import Bounds
from accord.objectives import BoundObjective
from accord.objectives.closed_forms import Answer, Row, mean_slopes
from accord.types import Finding, Tree
from accord.verify.independent import close
from accord.verify.weight_probes import broken

SIDES = ("chosen", "rejected")
LOSS = 1e-3  # relative, absolute under 1: float32 log-probs of hundreds of nats
# of a row's loss along its answers' log-probs, absolute, beside LOSS as a relative one
SLOPE = 1e-5
NOTHING_KEPT: Mapping[str, float] = MappingProxyType({})


def bookkeeping(
    batch: Batch,
    records: Records,
    expected: Sequence[Tree],
    seen: Counter[int],
    most: Sequence[int] | None = None,
) -> list[Finding]:
    """Check that the rows of the gradient are those that the order names, none more often in this
    epoch than it may come, with all their tokens.

    Args:
      seen: how often each row came in this epoch before.
      most: how often each row of the batch may come in an epoch. None: in one batch alone.
    """
    rows, named = [tree.row for tree in batch.trees], [tree.row for tree in expected]
    if rows != named:
        return [
            broken(
                "batch",
                f"update {batch.index} was given other rows than its order names",
                given=rows[:8],
                named=named[:8],
            )
        ]
    if other := [tree.row for tree, own in zip(batch.trees, expected, strict=True) if tree != own]:
        says = (
            f"update {batch.index} was given other text than its rows have, or its answers' sides"
            f" changed: row {other[0]}"
        )
        return [broken("batch", says, rows=other[:8])]
    if records.row != rows:
        return [
            broken(
                "batch",
                f"update {batch.index} computed {len(records.row)} of its {len(rows)} rows, or in"
                " another order",
            )
        ]
    own = Counter(rows)
    allowed = own if most is None else dict(zip(rows, most, strict=True))
    if again := [row for row in own if seen[row] + own[row] > allowed[row]]:
        times = seen[min(again)] + own[min(again)]
        return [
            broken(
                "batch",
                f"row {min(again)} comes {_often(times)} in this epoch (update {batch.index})",
                rows=sorted(again)[:8],
            )
        ]
    tokens = [sum(tree.counts) for tree in batch.trees]
    if records["tokens"].tolist() != tokens:
        return [
            broken(
                "batch",
                f"update {batch.index} scored {int(records['tokens'].sum())} answer tokens; its"
                f" rows have {sum(tokens)}",
            )
        ]
    texts = {(tree.prompt, completion) for tree in batch.trees for completion in tree.completions}
    matched = sum((tree.prompt, tree.completions[0]) in texts for tree in batch.mismatched)
    # if most answers are the same text, a match is chance
    varied = len({completion for _, completion in texts}) > len(texts) / 2
    if matched and matched == len(batch.mismatched) and varied:
        says = (
            f"all {matched} rows behind the baseline answer their own prompt: it estimates"
            " something else then"
        )
        return [broken("baseline", says)]
    return []


def _often(times: int) -> str:
    return "a second time" if times == 2 else f"{times} times"


def metrics_as_recorded(metrics: dict, records: Records, tie_width: float) -> list[Finding]:
    """Compute again, in plain Python, the margins and the share of pairs whose chosen answer has
    the higher reward.
    """
    if "rewards/accuracies" not in metrics:
        return []
    margins = (records["rewards/chosen"] - records["rewards/rejected"]).tolist()
    if any(map(math.isnan, margins)):
        return []
    wins = sum(0.5 if abs(margin) <= tie_width else float(margin > 0) for margin in margins)
    counted = {
        "rewards/accuracies": wins / len(margins),
        "rewards/margins": sum(margins) / len(margins),
    }
    if "loss" in metrics:  # pairs, so that the mean is over rows
        counted["loss"] = math.fsum(records["loss"].tolist()) / len(margins)
    for name, value in counted.items():
        if not math.isclose(metrics[name], value, rel_tol=1e-6, abs_tol=1e-6):
            return [
                broken(
                    "metrics",
                    f"{name} is reported as {metrics[name]:.6g}; its rows give {value:.6g}",
                )
            ]
    return []


def losses_as_closed(
    objective: BoundObjective,
    trees: Sequence[Tree],
    records: Records,
    running: Mapping[str, float] = NOTHING_KEPT,
) -> list[Finding]:
    """Compare each row's loss with the closed form at the log-probs that were recorded with it.

    Args:
      running: what the objective has kept of the updates before, if it keeps anything.
    """
    form = objective.closed_form
    if form is None or "loss" not in records:
        return []
    whole = whole_of(objective, trees, records, running)
    for row, tree, loss in zip(
        numbers_of(trees, records), trees, records["loss"].tolist(), strict=True
    ):
        wanted, _ = form(row, objective.options, whole)
        if not abs(loss - wanted) <= LOSS * max(1.0, abs(wanted)):
            says = (
                f"row {tree.row} has the loss {loss:.6g}; {objective.name} of its own log-probs is"
                f" {wanted:.6g}"
            )
            return [
                broken(
                    "objective",
                    says,
                    "the loss that runs is not the one configured, or changes on the way",
                    row=tree.row,
                )
            ]
    return []


def slopes_as_closed(
    objective: BoundObjective,
    trees: Sequence[Tree],
    records: Records,
    running: Mapping[str, float] = NOTHING_KEPT,
) -> list[Finding]:
    """Compare the gradient at each answer's log-prob with the closed form's over the batch's one
    denominator.

    Args:
      running: what the objective has kept of the updates before, if it keeps anything.
    """
    form = objective.closed_form
    if form is None or "slope/chosen" not in records:
        return []
    tokens = sum(len(completion) for tree in trees for completion in tree.completions)
    total = tokens if objective.denominator == "tokens" else len(trees)
    got = [records[f"slope/{side}"].tolist() for side in SIDES]
    whole = whole_of(objective, trees, records, running)
    for number, (row, tree) in enumerate(zip(numbers_of(trees, records), trees, strict=True)):
        _, wanted = form(row, objective.options, whole)
        for side, slope in zip(sides_of(tree), mean_slopes(row, wanted), strict=True):
            found = got[side][number] * total
            if not abs(found - slope) <= SLOPE + LOSS * abs(slope):
                says = (
                    f"the gradient along the {SIDES[side]} answer of row {tree.row} is"
                    f" {found:.6g}/{total}; {objective.name} has {slope:.6g}/{total}: a wrong"
                    " denominator, rows counted more than once, or another loss"
                )
                return [broken("gradient", says, row=tree.row)]
    return []


def sides_of(tree: Tree) -> tuple[int, ...]:
    """Return for each of a row's answers its side in the records."""
    return (0, 1) if len(tree.completions) == 2 else (int(tree.desirable is False),)


def baseline_of(records: Records) -> float:
    return records["extra/kl"][0].item() if "extra/kl" in records else 0.0


def whole_of(
    objective: BoundObjective, trees: Sequence[Tree], records: Records, running: Mapping[str, float]
) -> float:
    """Return the number that closed forms take from beyond the row: a baseline, what the sizes of
    the batch's answers give, or what the updates before give.
    """
    counts = [[len(completion) for completion in tree.completions] for tree in trees]
    given = objective.of_batch(counts) | objective.from_running(running)
    return next((value.item() for value in given.values()), baseline_of(records))


def numbers_of(trees: Sequence[Tree], records: Records) -> Iterator[Row]:
    """Yield each row of the records in the form of the closed forms' argument."""
    # a reward model computes the reward itself
    what = "logps" if "logps/chosen" in records else "rewards"
    policy = [records[f"{what}/{side}"].tolist() for side in SIDES]
    ratio = [
        records[f"diag/log_ratio/{side}"].tolist() if f"diag/log_ratio/{side}" in records else None
        for side in SIDES
    ]
    for number, tree in enumerate(trees):
        answers = []
        for side, completion in zip(sides_of(tree), tree.completions, strict=True):
            value = policy[side][number]
            against = ratio[side]
            reference = value - (against[number] if against else 0.0)
            more = _asked(records, SIDES[side], number)
            answers.append(Answer(value, reference, len(completion), **more))
        yield Row(f"row {tree.row}", tuple(answers), tree.desirable, tree.margin)


def _asked(records: Records, side: str, number: int) -> dict:
    """Return what only some objectives read of an answer."""
    found: dict = {}
    if f"collision/{side}" in records:
        found["collision"] = records[f"collision/{side}"][number].item()
    if f"shared/{side}" in records:
        sums = [
            records[f"{name}/{side}"][number].item()
            for name in ("shared", "shared_reference")
            if f"{name}/{side}" in records
        ]
        found["shared"] = (sums[0], sums[-1])
    return found


def untouched(trees: Sequence[Tree], records: Records, bounds: Bounds, where: str) -> list[Finding]:
    """Check that policy and reference are one before the first update: log-ratios are 0 up to
    rounding.
    """
    ratios = [
        abs(answer.ratio) / answer.count
        for row in numbers_of(trees, records)
        if "diag/log_ratio/chosen" in records
        for answer in row.answers
    ]
    if not ratios or close(torch.tensor(ratios), bounds):
        return []
    says = (
        f"policy and reference differ by up to {max(ratios):.3g} nats a token {where}, before"
        f" anything has moved (mean {sum(ratios) / len(ratios):.2g}, allowed {bounds.mean:.2g}"
        f" and {bounds.answer:.2g})"
    )
    return [
        broken(
            "first",
            says,
            "the reference's log-probs are of other rows, other tokens or other weights: stale or"
            " misaligned",
        )
    ]
