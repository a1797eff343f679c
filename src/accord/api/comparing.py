"""Functions that compare: methods with each other, and settings of one method."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import fspath
from pathlib import Path as FilePath
from typing import Any

from accord.api.given import path_or_none
from accord.api.guard import public
from accord.api.kinds import Fields, Names, Path, Recipe, Rows
from accord.api.measuring import reward_options
from accord.api.outcomes import Outcome
from accord.api.progress import display_for
from accord.api.training import config_of
from accord.campaign.compare.run import Terms
from accord.campaign.compare.run import compare as compare_methods
from accord.campaign.compare.run import sweep as sweep_settings
from accord.campaign.compare.search import trials_of
from accord.campaign.compare.shared_data import require_held_out
from accord.config.schema import Config
from accord.data.memory import is_path, write_rows
from accord.errors import UsageError
from accord.pages.comparison import write_page
from accord.pages.comparison_lines import lines
from accord.pages.page import check_page
from accord.runs import files

ROWS = {"data": "train.jsonl", "held_out": "held_out.jsonl"}


@public
def compare(
    recipe: Recipe | None = None,
    *,
    methods: Names,
    data: Rows | None = None,
    held_out: Rows | None = None,
    output: Path = "comparison",
    seeds: int = 3,
    trials: int = 1,
    samples: int = 24,
    sample_tokens: int = 48,
    prompts: Path | None = None,
    scorer: str | None = None,
    scorer_set: Fields | None = None,
    page: Path | None = None,
    verbose: bool = False,
    progress: bool | None = None,
    **keywords: Any,
) -> Outcome:
    """Compare methods on the same rows, in the same order, with the same updates: who is better,
    with intervals. A stopped comparison is continued by the same call.

        accord.compare(methods=["dpo", "simpo"], model="smollm2", data="pairs.jsonl",
                       held_out="test.jsonl", steps=50)

    Args:
      recipe: a YAML file, or a mapping of the same shape.
      methods: names of methods.
      data, held_out: pairs, as for `accord.train`. Rows in memory are saved beside the output, in
        the folder OUTPUT-rows.
      output: folder to write, or to go on with.
      seeds: seeds of each method; the recipe's and the ones after it. 3 or more give intervals.
      trials: learning rates tried for each method on rows cut off the training rows; 1: its own.
      samples: prompts that every model answers. sample_tokens: longest answer, in tokens.
      prompts: text file of prompts, one a line; default: the held-out ones.
      scorer: scores the answers: "vader", a reward model's folder, "module:function".
      scorer_set: its options: {"NAME.KEY": value}.
      page: the HTML page; default: comparison.html in the folder.
      verbose, progress: as for `accord.train`.
      keywords: model, steps, batch_size, set, … as for `accord.train`.

    Returns:
      The content of comparison.json; `page` is the page.
    """
    named = ",".join(methods)
    base = _base(recipe, data, held_out, output, keywords, compare)
    terms = _terms(output, seeds, trials, samples, sample_tokens, prompts, scorer, scorer_set)
    _require_page(page)
    record = compare_methods(base, named, terms, display_for(verbose, progress))
    return _outcome("comparison", record, output, page)


@public
def sweep(
    recipe: Recipe | None = None,
    *,
    set: Fields,
    data: Rows | None = None,
    held_out: Rows | None = None,
    search: str = "grid",
    trials: int | None = None,
    output: Path = "sweep",
    seeds: int = 1,
    kl_budget: float | None = None,
    samples: int = 24,
    sample_tokens: int = 48,
    prompts: Path | None = None,
    scorer: str | None = None,
    scorer_set: Fields | None = None,
    page: Path | None = None,
    verbose: bool = False,
    progress: bool | None = None,
    **keywords: Any,
) -> Outcome:
    """Run one method over a grid of settings, or search through them. A stopped sweep is continued
    by the same call.

        accord.sweep("recipe.yaml", set={"objective.beta": [0.05, 0.1, 0.5]})

    Args:
      set: fields and their values: a list, or with `search` a range such as "log:0.01..1".
      search: "grid" (every combination) or "optuna" (settings that Optuna proposes).
      trials: settings that a search tries; default 20.
      kl_budget: nats an answer: which β keeps to it, read off between measured ones.
      recipe, data, held_out, output, seeds, …: as for `accord.compare`.

    Returns:
      The content of comparison.json; `page` is the page.
    """
    base = _base(recipe, data, held_out, output, keywords, sweep)
    terms = _terms(
        output,
        seeds,
        trials_of(search, trials),
        samples,
        sample_tokens,
        prompts,
        scorer,
        scorer_set,
        kl_budget=kl_budget,
        search=search,
    )
    assignments = [f"{path}={_values(path, values)}" for path, values in set.items()]
    display = display_for(verbose, progress)
    _require_page(page)
    record = sweep_settings(base, assignments, terms, display)
    return _outcome("sweep", record, output, page)


def _terms(
    output: Path,
    seeds: int,
    trials: int,
    samples: int,
    sample_tokens: int,
    prompts: Path | None,
    scorer: str | None,
    scorer_set: Mapping[str, object] | None,
    **more: Any,
) -> Terms:
    options = reward_options(scorer_set, "scorer_set")
    asked = path_or_none(prompts)
    terms = Terms(fspath(output), seeds, trials, samples, sample_tokens, asked, scorer, **more)
    return replace(terms, scorer_options=options)


def _base(
    recipe: Recipe | None,
    data: Rows | None,
    held_out: Rows | None,
    output: Path,
    keywords: Mapping[str, Any],
    function: Callable,
) -> Config:
    """Build the config that all cells share; rows in memory are written beside the output, so that
    the same call finds them there again.
    """
    model = keywords.get("model")
    if model is not None and not is_path(model):
        raise UsageError(
            "model: a comparison loads it anew for each cell. Save the loaded one with"
            " save_pretrained, with its tokenizer, and give the folder."
        )
    also = inspect.signature(function).parameters
    base = config_of(
        recipe, {**keywords, "data": data, "held_out": held_out}, function.__name__, also
    )
    rows_name = "rows of data" if data is not None and not is_path(data) else base.data.train
    require_held_out(base, rows_name, "--held-out FILE")
    named = {}
    for name, rows in (("data", data), ("held_out", held_out)):
        if rows is None or is_path(rows):
            named[name] = path_or_none(rows)
            continue
        folder = FilePath(f"{fspath(output).rstrip('/')}-rows").expanduser()
        with files.writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(rows, folder / ROWS[name], name)
        named[name] = str(folder / ROWS[name])
    return config_of(recipe, {**keywords, **named}, function.__name__, also)


def _values(path: str, values: object) -> str:
    """Write the values of a field as the command line has them.

    Raises:
      UsageError: a value that would be several there.
    """
    if isinstance(values, str):
        return values
    words = [
        one if isinstance(one, str) else json.dumps(one)
        for one in (values if isinstance(values, list) else [values])
    ]
    if several := [word for word in words if "," in word]:
        raise UsageError(
            f"set: {path} has the value {several[0]:.60}, which is several. A sweep varies numbers,"
            " words, True, False and None."
        )
    return ",".join(words)


def _require_page(page: Path | None) -> None:
    if page is not None:
        check_page(fspath(page))


def _outcome(kind: str, record: dict, output: Path, page: Path | None) -> Outcome:
    file = write_page(record, fspath(output), path_or_none(page))
    return Outcome(f"accord {kind}", record, lines(record), folder=fspath(output), page=file)
