"""The rows of a run: read, encoded, checked; training and held-out."""

from __future__ import annotations

from typing import overload

from accord.config.schema import Config
from accord.data.encoding_findings import CHANGES, change_remedy
from accord.data.naming import Naming
from accord.data.order import draw_rows
from accord.data.roundtrip_checks import markers
from accord.data.rows import Rows
from accord.data.store.encode import Wanted, encoded_file
from accord.data.templates import Template
from accord.data.tokenizer_digest import tokenizer_digest
from accord.data.trees import Limits
from accord.errors import plural
from accord.evaluate.held_out import HeldOut
from accord.objectives import BoundObjective
from accord.runs.display import Display
from accord.types import DataError


def load_rows(
    config: Config,
    path: str,
    kind: str,
    template: Template,
    display: Display,
    *,
    naming: Naming | None = None,
) -> Rows:
    """Read and encode one file.

    Args:
      naming: renamed and ignored columns; the config's by default, which must all be in the
        training file and apply to other files where these have them.

    Raises:
      DataError: no row of it can be used; the message has the commonest reason and its first place.
    """
    display.phase("data", f"reading {path}")
    data = config.data
    named = naming or Naming(data.columns, data.ignore_columns, lenient=path != data.train)
    limits = Limits(config.data.max_tokens, config.data.long_prompts, config.data.long_answers)
    digest = tokenizer_digest(template.tokenizer)
    found = encoded_file(
        Wanted(path, kind, named, template, limits, digest, data.format),
        lambda done, total: display.progress("tokens", done, total),
        display.line,
    )
    dataset, encoding = found.dataset, found.encoding
    for line in dataset.ledger.reading_lines():
        display.line(line)
    if not encoding.trees:
        reason, count = encoding.reasons.most_common(1)[0]
        first = next(r for r in encoding.unfit if r.reason == reason)
        foreign = markers(template)
        hint = (
            ""
            if foreign.verdict == "ok"
            else f"\n{foreign.check}: {foreign.says}; {foreign.remedy}."
        )
        if reason.startswith(CHANGES):
            hint = f"\n  what to do: {change_remedy(reason, template)}{hint}"
        raise DataError(
            f"{path}: no row is usable. {plural(count, 'row')}: {reason} ({first.says}; first at"
            f" {first.origin}).{hint}"
        )
    return Rows(dataset, encoding, found.checks)


def load_held_out(
    config: Config, objective: BoundObjective, template: Template, display: Display
) -> Rows | None:
    """Load the held-out rows.

    Pairs stay pairs for an objective of labels, since accuracy is a statement about pairs.
    """
    path = config.held_out_file
    if path is None:
        return None
    rows = load_rows(config, path, objective.rows, template, display)
    if objective.rows == "labelled" and rows.dataset.kind == "pairs":
        rows = load_rows(config, path, "pairs", template, display)
    return rows


@overload
def held_out_of(config: Config, rows: Rows, objective: BoundObjective) -> HeldOut: ...


@overload
def held_out_of(config: Config, rows: None, objective: BoundObjective) -> None: ...


@overload
def held_out_of(config: Config, rows: Rows | None, objective: BoundObjective) -> HeldOut | None: ...


def held_out_of(config: Config, rows: Rows | None, objective: BoundObjective) -> HeldOut | None:
    """Choose the rows to evaluate on: all, or as many as asked for, drawn by the seed."""
    if rows is None:
        return None
    trees = [
        rows.trees[i] for i in draw_rows(len(rows.trees), config.evaluate.rows, config.train.seed)
    ]
    groups: dict[tuple[int, ...], int] = {}
    prompts = [groups.setdefault(tree.prompt, len(groups)) for tree in trees]
    kind = "pairs" if len(trees[0].completions) == 2 else objective.rows
    return HeldOut(trees, kind, prompts, 2 * config.train.micro_tokens)
