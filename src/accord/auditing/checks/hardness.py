"""Hardness of the pairs for a model before any training: which pairs it ranks rightly already, and
how likely both answers are to it.

The checks read a sample of the rows, drawn by the seed; its size is part of each finding. Log-probs
are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from accord.auditing.checks.shortcuts import as_dict
from accord.auditing.findings import AuditFinding, Place, percent
from accord.auditing.scan import Scan
from accord.auditing.thresholds import limit
from accord.data.templates import Template
from accord.data.trees import Limits, encode
from accord.evaluate.auc import auc_estimate
from accord.evaluate.intervals import Estimate, accuracy, bootstrap_mean
from accord.forward.choose import Forward, choose
from accord.forward.layout import micro_batches
from accord.models.language import LanguageModel
from accord.types import Tree, UsageError

ROWS = 200  # rows that the model reads by default: a minute or two of a 135M model on 2 cores
MAX_TOKENS = 1024  # longer rows are skipped
BUDGET = 2048  # unique tokens in one forward pass
# nats per token between the answers: above is an easy negative, within is a hard one
EASY, HARD = 0.5, 0.1


@dataclass(frozen=True)
class Read:
    """The model's log-probs of n rows with S answers each."""

    rows: np.ndarray  # [n] row numbers of the scan
    sums: np.ndarray  # [n, S] nats
    counts: np.ndarray  # [n, S] tokens
    # [n, S] nats per token: the expected cost of an answer that the model drew itself
    entropy: np.ndarray
    path: str

    @property
    def means(self) -> np.ndarray:
        """Return nats per token, [n, S]."""
        return self.sums / self.counts


def read_rows(
    scan: Scan, model: LanguageModel, template: Template, most: int, seed: int, say
) -> Read:
    """Compute log-probs of a sample's answers under the model.

    Raises:
      UsageError: no sampled row fits.
    """
    order = np.random.Generator(np.random.Philox(key=[seed, 9])).permutation(len(scan.sample))
    drawn = [scan.sample[at] for at in order[:most]]
    encoded = encode([each.example for each in drawn], template, Limits(MAX_TOKENS))
    trees = sorted(encoded.trees, key=lambda tree: tree.tokens)
    if not trees:
        raise UsageError(
            f"none of {len(drawn):,} sampled rows fits into {MAX_TOKENS:,} tokens of this model."
        )
    forward = choose(model, trees[: min(4, len(trees))])
    say(f"  {forward.reason}")
    parts = [
        _read_group(forward, [trees[at] for at in group])
        for group in _said(micro_batches(trees, BUDGET), len(trees), say)
    ]
    sums, counts, entropy = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Read(
        np.array([drawn[tree.row].row for tree in trees]), sums, counts, entropy, forward.path
    )


def _said(groups: list[list[int]], total: int, say):
    done = 0
    for number, group in enumerate(groups):
        if number % 20 == 0:
            say(f"  model: {done:,} of {total:,} rows")
        done += len(group)
        yield group


@torch.no_grad()
def _read_group(forward: Forward, trees: list[Tree]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens = forward.token_logps(trees)
    logps = tokens.reduce()
    sides = len(trees[0].completions)
    sums, counts, entropy = (
        each.double().cpu().numpy().reshape(-1, sides)
        for each in (logps.sum, logps.count, tokens.mean_entropy())
    )
    return sums, counts, entropy


def hardness_findings(scan: Scan, read: Read) -> list[AuditFinding]:
    """Build the findings from the model's log-probs."""
    if scan.kind == "demonstrations":
        return [_on_policy(scan, read)]
    return [
        _ranks(scan, read),
        *([_negatives(scan, read)] if scan.paired else []),
        _on_policy(scan, read),
    ]


def _of(scan: Scan, read: Read) -> str:
    return f"{len(read.rows):,} of {len(scan):,} {scan.noun}, read by the model"


def _ranks(scan: Scan, read: Read) -> AuditFinding:
    groups = scan.groups[read.rows].tolist()
    if scan.paired:
        by_sum, by_mean = (
            accuracy(each[:, 0] - each[:, 1], clusters=groups) for each in (read.sums, read.means)
        )
    else:
        by_sum, by_mean = (
            auc_estimate(each[:, 0], scan.desirable[read.rows], groups)
            for each in (read.sums, read.means)
        )
    verdict = "note" if by_mean.low > limit("easy") else "ok"
    says = (
        f"before training the model ranks {by_mean} of them rightly by log-prob a token, {by_sum}"
        f" by the sum ({_of(scan, read)})"
    )
    return AuditFinding(
        "hardness.ranked",
        verdict,
        says,
        {"by_mean": as_dict(by_mean), "by_sum": as_dict(by_sum), "n": len(read.rows)},
        "harder negatives: answers of the model itself" if verdict == "note" else "",
        title="What the reference ranks already",
        why=(
            "Pairs that the reference ranks already teach little; pairs that it ranks the other way"
            " cost most."
        ),
        harm=max(0.0, by_mean.low - 0.5),
    )


def _negatives(scan: Scan, read: Read) -> AuditFinding:
    gap = read.means[:, 0] - read.means[:, 1]
    easy, hard = float((gap > EASY).mean()), float((np.abs(gap) < HARD).mean())
    wrong = float((gap < -EASY).mean())
    worst = np.argsort(gap, kind="stable")[:3]
    says = (
        f"easy negatives (over {EASY} nats a token less likely than the chosen) {percent(easy)},"
        f" hard ones (within {HARD}) {percent(hard)}, far the other way {percent(wrong)}"
        f" ({_of(scan, read)})"
    )
    return AuditFinding(
        "hardness.negatives",
        "note" if easy > limit("easy") else "ok",
        says,
        {
            "easy": easy,
            "hard": hard,
            "wrong_way": wrong,
            "margin_quantiles": np.quantile(gap, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(),
            "margins": gap.round(4).tolist(),
        },
        "take rejected answers from the model itself" if easy > limit("easy") else "",
        title="Easy and hard negatives",
        why=(
            "Style alone separates easy negatives; the objective is satisfied before it"
            " learns what was meant."
        ),
        harm=0.3 * easy,
        places=tuple(
            Place(
                scan.at(int(read.rows[i])),
                f"the model prefers the rejected answer by {-gap[i]:.2f} nats a token",
                int(read.rows[i]),
            )
            for i in worst
            if gap[i] < 0
        ),
    )


def _on_policy(scan: Scan, read: Read) -> AuditFinding:
    """Measure surprise minus entropy. It is 0 for text drawn from the model at temperature 1, and
    larger for text of other writers.
    """
    names = ("chosen", "rejected") if scan.paired else ("answer",)
    groups = scan.groups[read.rows].tolist()
    excess = {
        name: bootstrap_mean(-read.means[:, at] - read.entropy[:, at], clusters=groups)
        for at, name in enumerate(names)
    }
    nll: dict[str, Estimate] = {
        name: bootstrap_mean(-read.means[:, at], clusters=groups) for at, name in enumerate(names)
    }
    worst = max(each.value for each in excess.values())
    verdict = "note" if worst > limit("far") else "ok"  # it says as much of the model
    says = "; ".join(
        f"{name} {nll[name].value:.2f} nats a token, {excess[name].value:+.2f} over the model's own"
        " entropy"
        for name in names
    )
    return AuditFinding(
        "hardness.on_policy",
        verdict,
        f"{says} ({_of(scan, read)})",
        {
            "nll": {k: as_dict(v) for k, v in nll.items()},
            "excess": {k: as_dict(v) for k, v in excess.items()},
            "n": len(read.rows),
        },
        (
            "one epoch of sft on the chosen answers first, or answers drawn from the model (online)"
            if verdict == "note"
            else ""
        ),
        title="Distance from what the model would say",
        why=(
            "Answers that the model would never give move it through unlikely text; gains there do"
            " not reach its own answers."
        ),
        harm=0.1 * max(0.0, worst),
    )
