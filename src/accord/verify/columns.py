"""Proof of what an objective reads of log-probs beside their sums: each column compared with its
definition, computed apart from the forward path.

    shared      the sum over as many first tokens as the shortest answer of the prompt has
    collision   the sum over tokens of -log Σ p²
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.engine.step import UpdateContext
from accord.models.language import LanguageModel
from accord.types import Finding, Logps, Tree
from accord.verify.independent import answer_log_softmax, close, own_attention

CHECK = "step0.columns"


@torch.no_grad()
def columns_finding(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Compare the columns of the policy, and of the reference, with their definitions."""
    forward, reference = learner.forward, learner.reference
    own = columns_by_definition(forward.model, trees)
    got = {"policy": (forward.token_logps(trees).reduce(), own)}
    if reference is not None:
        got["reference"] = (reference.logps(trees), own)
        if not reference.starts_as_policy:
            with forward.model.as_reference():
                base = columns_by_definition(forward.model, trees)
            got["reference"] = (got["reference"][0], base)
    worst = 0.0
    for whose, (logps, wanted) in got.items():
        for name in sorted(learner.objective.columns):
            # no objective reads a reference's predictions
            if whose == "reference" and name == "collision":
                continue
            column = getattr(logps, name)
            if column is None:
                return _refused(name, f"the {whose}'s log-probs come without their column {name}")
            gaps = (column - getattr(wanted, name)).abs() / wanted.count
            if not close(gaps, forward.bounds):
                return _refused(
                    name,
                    f"the {whose}'s column {name} is up to {gaps.max():.3g} nats a token from its"
                    " definition",
                )
            worst = max(worst, gaps.max().item())
    said = " and ".join(sorted(learner.objective.columns))
    says = (
        f"the columns that the objective reads ({said}) are as defined ({worst:.1e} nats a token)"
    )
    return Finding(CHECK, "ok", says, {"nats": worst})


def columns_by_definition(model: LanguageModel, trees: Sequence[Tree]) -> Logps:
    """Compute sums, shared sums and collision entropies, [N] each, one answer at a time from whole
    logits.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    counts = []
    with own_attention(model):
        for tree in trees:
            shortest = min(map(len, tree.completions))
            for completion in tree.completions:
                predictions = answer_log_softmax(model, tree.prompt, completion)
                ids = torch.tensor(completion, device=predictions.device)
                values = predictions.gather(1, ids[:, None]).squeeze(1)
                collision = -(predictions.exp() ** 2).sum(-1).log()
                sums = (values, values[:shortest], collision)
                rows.append(tuple(each.double().sum() for each in sums))  # type: ignore[arg-type]
                counts.append(len(completion))
    total, shared, collided = (torch.stack(column) for column in zip(*rows, strict=True))
    return Logps(total, torch.tensor(counts, device=total.device), shared, collided)


def _refused(name: str, says: str) -> Finding:
    remedy = "the forward path or the reference computes another column; report this"
    return Finding(CHECK, "refused", says, {"column": name}, remedy)
