"""The rows that every cell reads and every model is measured on: read, checked and written once.

DIR/data/train.jsonl      pairs with both answers usable and nothing cut, so that every method can
                          train on all of them
DIR/data/held_out.jsonl   pairs to measure on; no cell ever reads them
DIR/data/trials/          the training rows cut by prompt, near copies together: trials of learning
                          rates see these alone
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from accord.auditing.run_rows import foreign_marks
from accord.auditing.split import split
from accord.auditing.trained import near_rows, seen_before
from accord.config.schema import Config
from accord.data.containers import locate
from accord.data.convert import to_format
from accord.data.endings import endings_alone
from accord.data.rows import Rows
from accord.data.templates import template_of
from accord.data.tree_table import packed
from accord.data.write import new_file, write_row
from accord.models.load import load
from accord.objectives.configured import resolve_objective
from accord.runs.display import MARKS, Display
from accord.runs.files import put_in_place, read_json, staged, write_json, writing
from accord.runs.folder import vars_of
from accord.training.setup.common import require_accepted
from accord.training.setup.plan import plan_order
from accord.training.setup.rows import held_out_of, load_rows
from accord.types import DataError, Example, Refused, Tree, UsageError
from accord.verify.rows import near_overlap, overlap, row_findings

FORMAT = "trl-conversational"  # holds every pair; each row is read back before it is written
VALIDATION = 0.1  # share of the training rows that learning rates are chosen on


@dataclass(frozen=True)
class SharedData:
    """Files of rows, and the number of updates of all cells."""

    folder: Path
    account: dict  # account of the source files

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def held_out(self) -> Path:
        return self.folder / "held_out.jsonl"

    @property
    def trial_train(self) -> Path:
        return self.folder / "trials" / "train.jsonl"

    @property
    def validation(self) -> Path:
        return self.folder / "trials" / "held_out.jsonl"

    @property
    def steps(self) -> int:
        return self.account["steps"]


def require_held_out(base: Config, rows: str, option: str = "--set data.held_out=FILE") -> None:
    """Require a file that no cell trains on.

    Args:
      rows: the name of the training rows, for the command that cuts some off.
      option: what names such a file.

    Raises:
      UsageError: the config names none.
    """
    if base.data.held_out is None:
        raise UsageError(
            f"A comparison needs rows that no cell trains on: {option}.\n"
            f"None at hand? Cut some off by prompt: accord split {shlex.quote(rows)}"
        )


def gather_shared_data(
    base: Config, folder: Path, *, trials: bool, planned: bool, display: Display
) -> SharedData:
    """Prepare the rows of a comparison, if that is not done yet.

    Args:
      trials: cut the training rows as well.
      planned: True if a plan was made with the files that are there: they stay, even if the
        recipe has changed.

    Raises:
      UsageError: no held-out rows are named. DataError: rows are unfit, or shared by both files.
        CheckpointError.
    """
    require_held_out(base, base.data.train)
    target, source = folder / "data", source_of(base)
    if _account_of(target).get("source") != source and not planned:
        with writing(folder):
            staging = staged(target)
            write_json(
                staging / "account.json", {**_write(base, staging, display), "source": source}
            )
            put_in_place(staging, target)
    material = SharedData(target, _account_of(target))
    if trials and not material.validation.is_file():
        with writing(folder):
            staging = staged(target / "trials")
            staging.rmdir()  # `split` makes its own folder
            split(material.train, staging, share=VALIDATION, seed=base.train.seed)
            put_in_place(staging, target / "trials")
    return material


def source_of(base: Config) -> dict:
    """Record everything that the rows depend on: the files as they are now, the way their rows are
    read, and the length of all runs.
    """
    files = {}
    for side in ("train", "held_out"):
        with locate(getattr(base.data, side)) as source:
            files[f"data.{side}"] = source.digest()
    read = base.data.model_dump(mode="json", exclude={"train", "held_out"})
    length = {"train.steps": base.train.steps, "train.epochs": base.train.epochs}
    return (
        files
        | {f"data.{name}": value for name, value in read.items()}
        | {"evaluate.rows": base.evaluate.rows}
        | length
    )


def _account_of(folder: Path) -> dict:
    return read_json(folder / "account.json", {})


def _write(base: Config, folder: Path, display: Display) -> dict:
    """Write both files of pairs. Return the account of their sources."""
    model = load(
        base.model.name, dtype=base.model.dtype, device=base.model.device, hub="hub" in base.allow
    )
    stops = model.stop_ids
    template = template_of(base, model.tokenizer, stops)
    train = load_rows(base, base.data.train, "pairs", template, display)
    held = load_rows(base, base.data.held_out_file, "pairs", template, display)
    found = [
        *row_findings(base, train, template, "training rows", stops),
        *row_findings(base, held, template, "held-out rows", stops),
    ]
    allowed = "foreign_marks" in base.allow
    found += [
        foreign_marks(train, "training rows", allowed=allowed),
        foreign_marks(held, "held-out rows", allowed=allowed),
        overlap(base, train, held),
        near_overlap(train, held),
        near_rows(train.dataset.examples, held.dataset.examples),
        *seen_before(base.model.name, base.model.adapter, held.dataset),
    ]
    unfit = any(f.refused for f in found if f.check in ("data.ledger", "data.leak"))
    require_accepted(found, DataError if unfit else Refused)
    told = [finding for finding in found if finding.verdict == "warning"]
    for finding in told:
        display.line(f"  {MARKS[finding.verdict]} {finding.check:<22} {finding.says}")
    measured = held_out_of(base, held, resolve_objective(base)).trees
    # A prompt is cut to the answer that follows: the two labels of a pair would have different
    # prompts.
    whole = [tree for tree in train.trees if tree.row not in train.encoding.rows_cut]
    _write_pairs(folder / "train.jsonl", train, whole)
    _write_pairs(folder / "held_out.jsonl", held, measured)
    return {
        "steps": plan_order(base, packed(whole))[1],
        "train": _account(train, len(whole)),
        "held_out": _account(held, len(measured)),
        "warnings": [vars_of(finding) for finding in told],
    }


def _account(rows: Rows, used: int) -> dict:
    return {
        "path": rows.dataset.path,
        "sha256": rows.dataset.digest,
        "rows": rows.dataset.ledger.rows,
        "usable": len(rows.trees),
        "used": used,
    }


def _write_pairs(file: Path, rows: Rows, trees: Iterable[Tree]) -> None:
    chosen = (rows.encoding.examples[tree.row] for tree in trees)
    examples: Iterable[Example] = (
        replace(example, extra=endings_alone(example.extra)) for example in chosen
    )
    with new_file(file) as stream:
        for row in to_format(examples, FORMAT):
            write_row(stream, row)
