"""Functions about rows: audit, advise, split, convert.

`data` is a path, a list of dicts, a DataFrame of pandas or a Dataset of datasets in all of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from os import fspath
from typing import Any

from accord.api.given import named_model, path_or_none
from accord.api.guard import public
from accord.api.kinds import Columns, Model, Names, Path, Rows, Tokenizer
from accord.api.outcomes import Audit, Outcome
from accord.api.progress import sayer
from accord.auditing.advised import advise_on
from accord.auditing.fix import Options
from accord.auditing.recipe import lines, write_recipe
from accord.auditing.run import audit as audit_file
from accord.auditing.scan import SAMPLE
from accord.auditing.split import split as split_file
from accord.auditing.split import summary
from accord.data.convert_file import convert_file
from accord.data.formats import named
from accord.data.memory import as_name, is_path
from accord.data.naming import Naming
from accord.data.write import check_absent
from accord.errors import UsageError


@public
def audit(
    data: Rows,
    *,
    model: Model | None = None,
    tokenizer: Tokenizer | None = None,
    held_out: Rows | None = None,
    rows: str | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    format: str = "auto",
    fix: Path | None = None,
    drop: Names = (),
    keep: Names = (),
    mend: Names = (),
    near_tie: float | None = None,
    min_chosen_score: float | None = None,
    max_per_prompt: int | None = None,
    balance_length: bool = False,
    sample: int = SAMPLE,
    model_rows: int | None = None,
    seed: int = 0,
    verbose: bool = False,
) -> Audit:
    """Find out what is wrong with preferences, before any training.

        found = accord.audit("pairs.jsonl", held_out="test.jsonl")
        found.verdict        # "fit", "fit with care" or "unfit"
        found.page("audit.html")

    Args:
      data: the preferences: a path, a list of dicts, a DataFrame, or a Dataset.
      model: adds the checks of tokens (all rows) and of hardness (a sample); as for `accord.train`.
      tokenizer: the tokenizer of a loaded model.
      held_out: rows to evaluate on: adds the checks of leakage.
      rows: "pairs", "labelled" or "demonstrations"; default: what most rows are.
      columns: names of your columns: {"prompt": "question"}.
      ignore_columns: columns, or keys of messages, that hold no content.
      format: the format to read by; "auto" judges every row.
      fix: write a cleaned JSONL file here, and what was left out beside it. The options below say
        what is left out.
      drop, keep: rules to add, such as ["cycles"], and to leave out, such as ["near-duplicates"].
      mend: what is mended in the texts, such as ["html"].
      near_tie: score gap under which a pair is dropped; default .5, or .05 for scores from 0 to 1.
      min_chosen_score: drop pairs whose chosen answer scores less.
      max_per_prompt: keep at most so many rows of a prompt.
      balance_length: make the longer answer win as often as it loses.
      sample: rows that the probes read; all other checks read every row.
      model_rows: rows that the model reads.
      seed: seed of every draw.
      verbose: print lines of progress on standard error.

    Raises:
      DataError: the rows are missing, damaged, or none can be used.
      UsageError: an option that does not exist or does nothing.
    """
    options = Options(
        tuple(drop),
        tuple(keep),
        near_tie,
        min_chosen_score,
        max_per_prompt,
        balance_length,
        seed if fix is not None else 0,
        tuple(mend),
    )
    with ExitStack() as stack:
        found = audit_file(
            stack.enter_context(as_name(data, "data")),
            model=_model(stack, model, tokenizer),
            held_out=_rows(stack, held_out, "held_out"),
            rows=rows,
            naming=_naming(columns, ignore_columns, format),
            sample=sample,
            model_rows=model_rows,
            fix_to=path_or_none(fix),
            options=options,
            seed=seed,
            say=sayer(verbose),
        )
    return Audit.of(found)


@public
def advise(
    data: Rows,
    *,
    model: Model = "smollm2",
    tokenizer: Tokenizer | None = None,
    held_out: Rows | None = None,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    format: str = "auto",
    recipe: Path | None = None,
    lora: bool = True,
    model_rows: int = 60,
    seed: int = 0,
    verbose: bool = False,
) -> Outcome:
    """Recommend a method and its settings, with reasons, from what an audit measured.

    Args:
      data, held_out, columns, ignore_columns, format, tokenizer: as for `accord.audit`.
      model: the model to train; its speed is measured. As for `accord.train`.
      recipe: write a recipe here that `accord.train` takes, each line with its reason. Needs data
        and a model that have names.
      lora: False advises on training all weights.
      model_rows: rows that the model reads.
      seed: seed of every draw.
      verbose: print lines of progress on standard error.

    Returns:
      The advice; `["ready"]` is False where something must be mended first.
    """
    if recipe is not None:
        check_absent(fspath(recipe))
        if not is_path(data) or not (held_out is None or is_path(held_out)):
            raise UsageError("recipe: a recipe names files, and these rows have none. Save them.")
        if not is_path(model):
            raise UsageError("recipe: a recipe names a model, and a loaded one has no name.")
    with ExitStack() as stack:
        advice, _ = advise_on(
            stack.enter_context(as_name(data, "data")),
            model=stack.enter_context(named_model(model, tokenizer)),
            held_out=_rows(stack, held_out, "held_out"),
            naming=_naming(columns, ignore_columns, format),
            all_weights=not lora,
            model_rows=model_rows,
            seed=seed,
            say=sayer(verbose),
        )
    if recipe is not None:
        write_recipe(advice, fspath(recipe), "accord.advise(…)")
    return Outcome("accord advice", advice.as_dict(), lines(advice))


@public
def split(
    data: Rows,
    output: Path = "split",
    *,
    share: float = 0.1,
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
    format: str = "auto",
    seed: int = 0,
) -> Outcome:
    """Split rows by prompt into train and held-out files; near copies of a prompt stay together.

    Args:
      data: the preferences: a path, a list of dicts, a DataFrame, or a Dataset.
      output: folder to write train.jsonl and held_out.jsonl into; must not exist.
      share: share of the rows to hold out, above 0 and below 1.
      columns, ignore_columns, format: as for `accord.audit`.
      seed: seed of the draw.

    Returns:
      The account: rows in = train + held out + unusable.
    """
    naming = _naming(columns, ignore_columns, format)
    with as_name(data, "data") as name:
        done = split_file(name, fspath(output), share=share, seed=seed, naming=naming)
    said = summary(done, fspath(output))
    done.pop("reading")
    return Outcome("accord split", done, said, folder=fspath(output))


@public
def convert(
    data: Rows,
    to: str,
    output: Path,
    *,
    format: str = "auto",
    columns: Columns | None = None,
    ignore_columns: Names | None = None,
) -> Outcome:
    """Write preferences in another tool's format.

    Args:
      data: the preferences: a path, a list of dicts, a DataFrame, or a Dataset.
      to: the format to write, such as "trl-conversational" or "openai"; a wrong name lists all.
      output: file to write, .jsonl or .jsonl.gz; must not exist.
      format, columns, ignore_columns: how to read, as for `accord.audit`.

    Returns:
      The account: what was written, and what the format cannot hold.
    """
    naming = Naming.of(columns, ignore_columns)
    with as_name(data, "data") as name:
        done = convert_file(name, fspath(output), to, format=format, naming=naming)
    return Outcome("accord convert", done.as_dict(), done.lines(), folder=None)


def _naming(columns: Columns | None, ignore_columns: Names | None, format: str) -> Naming:
    named(format)  # an unknown format is refused before anything is opened
    return Naming.of(columns, ignore_columns, format=format)


def _rows(stack: ExitStack, rows: Any, what: str) -> str | None:
    return None if rows is None else stack.enter_context(as_name(rows, what))


def _model(stack: ExitStack, model: Any, tokenizer: Any) -> str | None:
    if model is None and tokenizer is None:
        return None
    return path_or_none(stack.enter_context(named_model(model, tokenizer)))
