"""The rules of `accord.monitor` over a run in progress, from its own records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from accord.evaluate.displacement import spearman
from accord.evaluate.similarity import ches, overlap
from accord.monitor.history import Facts, History
from accord.monitor.rule import PREFIX
from accord.monitor.watch import look, rule_of
from accord.objectives import OBJECTIVES, BoundObjective
from accord.objectives.hints import for_parts
from accord.runs import held_out_rows
from accord.runs.folder import RunFolder
from accord.training.prepared import PreparedRun
from accord.training.setup.common import suggested_rate
from accord.types import Finding, Tree

PAIRS_LOOKED_AT = 32  # pairs of the newest batches, when a displacement is explained


@dataclass
class Monitor:
    """The history of a run and the flags that were reported.

    It is made from the run's files, which a resume has rewound.
    """

    history: History
    said: set[str]
    objective: BoundObjective

    @classmethod
    def over(cls, ready: PreparedRun, folder: RunFolder) -> Monitor:
        """Make the monitor of a run that stands where its files end."""
        history = History(facts_of(ready))
        for name in ("metrics.jsonl", "timings.jsonl"):
            for line in folder.appended(name):
                history.add(line)
        said = {line["check"] for line in folder.appended("events.jsonl")}
        return cls(history, said, ready.learner.objective)

    def look(self) -> list[Finding]:
        """Return the findings to report now, each cause once."""
        found = look(self.history, self.said)
        self.said |= {finding.check for finding in found}
        return [worded(finding, self.objective) for finding in found]


def worded(finding: Finding, objective: BoundObjective) -> Finding:
    """Name the options and methods of a finding as the run's own objective takes them."""
    says, means, remedy = (
        for_parts(text, objective) for text in (finding.says, finding.means, finding.remedy)
    )
    return replace(finding, says=says, means=means, remedy=remedy)


def facts_of(ready: PreparedRun) -> Facts:
    """Collect the facts of a prepared run that the rules need."""
    objective, order, lora = ready.learner.objective, ready.order, ready.config.model.lora
    judge = objective.judge
    # an adapter that is gone on from brings its own
    scaled = ready.model.has_adapters and ready.config.model.adapter is None and lora is not None
    # a policy that has left its reference does not begin at the objective's value there
    starts = ready.learner.reference is None or ready.learner.reference.starts_as_policy
    at_reference = objective.at_reference if starts else None
    return Facts(
        judge.name,
        judge.options,
        ready.steps,
        ready.source.size,
        order.batch_size,
        order.batches_per_epoch,
        ready.peak,
        ready.tie_width,
        at_reference,
        ready.config.train.max_grad_norm,
        ready.source.draws,
        lora.alpha / lora.rank if scaled and lora is not None else None,
        # a rate of AdamW's says nothing of an update that is as large as its gradient
        suggested_rate(objective, ready.model) if ready.optimizer.kind.moves_by_rate else None,
        sum(p.numel() for p in ready.model.trainable().values()),
        ready.optimizer.kind.epsilon,
        *against_a_fall(objective),
        usual_beta=judge.schema.get("beta", {}).get("default"),
        rounding=_rounding(ready),
    )


def _rounding(ready: PreparedRun) -> float:
    """Return by how many nats a token rounding moved an answer where nothing had moved: the largest
    of those that step 0 measured.
    """
    floors = (each.evidence for each in ready.findings if each.check == "step0.noise_floor")
    return max((max(f["nats"], f["from_reference"]) for f in floors), default=0.0)


def against_a_fall(objective: BoundObjective) -> tuple[bool, dict[str, str], tuple[str, ...]]:
    """Tell whether an objective trains on pairs, what in it holds the chosen answers, and which
    methods of the same rows and reference do: none without a reference, or for a function of the
    user's own.
    """
    pairs = objective.rows == "pairs"
    holds = {part.name: what for part in objective.parts if (what := _holds(part, objective))}
    known = objective.judge.name in OBJECTIVES and objective.judge.reference
    holding = [each.name for each in OBJECTIVES.values() if each.holds] if pairs and known else ()
    return pairs, holds, tuple(holding)


def _holds(part: BoundObjective, whole: BoundObjective) -> str:
    imitates = part.rows == "demonstrations" and whole.rows == "pairs"
    return "imitates the chosen answer" if imitates else part.objective.holds


def explain_flag(
    ready: PreparedRun, step: int, finding: Finding, folder: Path | None = None
) -> Finding:
    """Add to a displacement the pairs that cause it, and to exchanged sides the row that shows
    them best; computed once, when it is reported.

    Labelled rows are no pairs.
    """
    if finding.check == PREFIX + "sides-exchanged" and folder is not None:
        return with_worst_row(finding, folder)
    if finding.check != PREFIX + "chosen-falling":
        return finding
    trees = ready.source.pairs_before(step, PAIRS_LOOKED_AT)
    if not trees:
        return finding
    return replace(finding, evidence={**finding.evidence, **similar_pairs(ready, trees)})


def with_worst_row(finding: Finding, folder: Path) -> Finding:
    """Name the held-out row that the newest evaluation ranks the furthest the wrong way round."""
    row = held_out_rows.worst(folder)
    if row is None:
        return finding
    says = f"{finding.says}; the first row to look at: {row['at']}, {row['shows']}"
    return replace(finding, says=says, evidence={**finding.evidence, "row": row})


@torch.no_grad()
def similar_pairs(ready: PreparedRun, trees: Sequence[Tree]) -> dict:
    """Find the pairs whose answers are most alike, and whether their chosen answers are the ones
    that fell.
    """
    learner = ready.learner
    scores = ches(ready.model, trees)
    out: dict[str, object] = {"overlap": sum(map(overlap, trees)) / len(trees)}
    if learner.reference is not None:
        change = (
            torch.cat(
                [
                    (learner.forward([t]).reduce().sum - learner.reference.logps([t]).sum)[:1]
                    for t in trees
                ]
            )
            .double()
            .cpu()
        )
        out["ches_and_fall"] = spearman(scores, -change)
    most = sorted(range(len(trees)), key=lambda i: -scores[i].item())[:5]
    return out | {
        "pairs": [
            {
                "at": ready.source.origin(trees[i]),
                "ches": scores[i].item(),
                "overlap": overlap(trees[i]),
            }
            for i in most
        ]
    }


def choose_action(
    on_flag: str, found: Sequence[Finding], can_go_back: bool
) -> tuple[str, Finding] | None:
    """Choose the action on the findings: ("stop" | "best" | "slower", the flag that asks for it),
    or nothing.

    Notes ask for none. "best" needs held-out rows that were evaluated after an update.
    """
    asking = [finding for finding in found if finding.verdict == "warning"]
    if not asking or on_flag == "warn":
        return None
    if on_flag == "stop":
        return "stop", asking[0]
    wanted = [
        (rule.adapt, finding)
        for finding in asking
        if (rule := rule_of(finding.check)) is not None and rule.adapt
    ]
    wanted = [(what, finding) for what, finding in wanted if what != "best" or can_go_back]
    return min(wanted, key=lambda pair: pair[0] != "best", default=None)
