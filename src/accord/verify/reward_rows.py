"""Checks on the margins of rows, and on the last token of those that a reward model trains on."""

from __future__ import annotations

import math

import numpy as np

from accord.data.example_table import Picked
from accord.data.rows import Rows
from accord.errors import plural
from accord.models.language import LanguageModel
from accord.models.reward import RewardModel
from accord.objectives import BoundObjective
from accord.objectives.hints import for_parts
from accord.types import Finding

SHOWN = 3  # rows in a finding
NOT_APPLICABLE = (
    "step0.reference (a reward model has none), samples, prompts and pairs.json (it has no"
    " log-probs and gives no answers)"
)


def take_margins(rows: Rows, objective: BoundObjective, name: str) -> list[Finding]:
    """Put each row's `margin` column into its tree, where the objective looks at margins; report
    what there was.

    A margin that is no finite number refuses: it would silently be none. So does a file without
    margins, where the objective is another one without them.
    """
    if not objective.margins:
        return []
    margins, bad = np.full(len(rows.trees), math.nan), 0
    first: list[dict[str, str]] = []  # rows whose margin is no number
    for at, example in enumerate(Picked(rows.encoding.examples, rows.trees.rows)):
        margin = example.extra.get("margin")
        if _finite(margin):
            margins[at] = margin
        elif margin is not None:
            bad += 1
            if len(first) < SHOWN:
                first.append({"at": str(example.origin), "detail": f"margin = {margin!r:.60}"})
    if bad:
        says = f"{name}: {plural(bad, 'row has', 'rows have')} a margin that is no finite number"
        return [
            Finding(
                "data.margin",
                "refused",
                says,
                {"first": first},
                "mend them" + ("" if objective.answers else ", or --set objective.margin=none"),
            )
        ]
    rows.encoding.trees = rows.trees.with_margins(np.nan_to_num(margins))
    given = int((~np.isnan(margins)).sum())
    if not given and objective.answers:
        says = (
            f"{name}: no row has a margin, and {objective.name} reads margins; without them it is"
            " another objective"
        )
        remedy = for_parts("name the column `margin`, or --method dpo", objective)
        return [Finding("data.margin", "refused", says, {}, remedy)]
    if not given:
        return [
            Finding(
                "data.margin", "ok", f"{name}: no row has a margin: each comparison counts alike"
            )
        ]
    low, high = np.nanmin(margins), np.nanmax(margins)
    says = (
        f"{name}: {given:,} of {len(rows.trees):,} rows have a margin, from {low:g} to"
        f" {high:g}; the others count as 0"
    )
    return [
        Finding("data.margin", "ok" if given == len(rows.trees) else "note", says, {"rows": given})
    ]


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def padding_findings(model: LanguageModel, rows: Rows) -> list[Finding]:
    """Check that no answer ends in the padding token.

    Classifiers find the last token by skipping padding by its id. Other models give no finding.
    """
    if not isinstance(model, RewardModel):
        return []
    pad = model.network.config.pad_token_id
    hit = [tree for tree in rows.trees if any(ids[-1] == pad for ids in tree.completions)]
    token = model.tokenizer.convert_ids_to_tokens(pad)
    if hit:
        says = (
            f"{plural(len(hit), 'answer ends', 'answers end')} in the padding token {token!r}:"
            " whoever loads the model"
            " would read them one token early"
        )
        first = {"first": [rows.origin(t) for t in hit[:3]]}
        return [
            Finding(
                "model.padding", "refused", says, first, "use another template or padding token"
            )
        ]
    says = f"padded with {token!r}, which ends no answer; not applicable: {NOT_APPLICABLE}"
    return [Finding("model.padding", "ok", says, {"pad_token_id": pad})]
