"""The rows of a run: read, encoded, checked; training and held-out."""

from __future__ import annotations

from typing import overload

from accord.config.mixed_files import NamedFile
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


def load_train(config: Config, kind: str, template: Template, display: Display) -> list[Rows]:
    """Load the rows of every training file."""
    files = config.data.train_files
    if not files:
        return [load_rows(config, config.train_file, kind, template, display)]
    named = [Naming(each.columns, each.ignore_columns) for each in files]
    return [
        load_rows(config, each.path, kind, template, display, naming=naming)
        for each, naming in zip(files, named, strict=True)
    ]


def load_held_out(
    config: Config, objective: BoundObjective, template: Template, display: Display
) -> list[Rows]:
    """Load the rows of every held-out file; none where there is none.

    Pairs stay pairs for an objective of labels, since accuracy is a statement about pairs.
    """
    rows = load_evaluated(config, objective.rows, template, display)
    kinds = {each.dataset.kind for each in rows}
    if objective.rows == "labelled" and kinds == {"pairs"}:
        rows = load_evaluated(config, "pairs", template, display)
    return rows


def load_evaluated(config: Config, kind: str, template: Template, display: Display) -> list[Rows]:
    """Load the rows of every held-out file as one kind."""
    files = config.data.held_out_files
    if not files:
        path = config.held_out_file
        return [] if path is None else [load_rows(config, path, kind, template, display)]
    return [
        load_rows(config, each.path, kind, template, display, naming=naming_of(config, each))
        for each in files
    ]


def naming_of(config: Config, file: NamedFile) -> Naming:
    """Return the names of one of several held-out files: its own, or those of the training file."""
    if file.columns or file.ignore_columns:
        return Naming(file.columns, file.ignore_columns)
    return Naming(config.data.columns, config.data.ignore_columns, lenient=True)


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
