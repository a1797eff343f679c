"""The functions that Python programs call, with the same schema as recipes and flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.config.build import build, split_keywords
from accord.runs.display import Display, SilentDisplay
from accord.training.run import Result, start
from accord.training.run import resume as resume_run


def train(
    recipe: str | Mapping | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    allow: tuple[str, ...] = (),
    verbose: bool = False,
    **keywords: Any,
) -> Result:
    """Train a run and return its result.

        accord.train(model="smollm2", data="pairs.jsonl", method="dpo", beta=0.1, steps=100,
        output="runs/first")

    Args:
      recipe: path of a YAML recipe, or a mapping of the same shape.
      set: further fields by their full path: {"train.warmup": 0.2}.
      allow: permissions for what is refused otherwise.
      verbose: print progress to standard error.
      keywords: model, data, held_out, columns (a mapping, or "prompt=question,chosen=good"),
        ignore_columns, method, steps, epochs, batch_size, learning_rate, seed,
        output, lora, adapter, reference, max_tokens, template, dtype, on_flag; any other is an
        option of the objective (beta, gamma, …).

    Raises:
      accord.types.AccordError: of the class that its cause has.
    """
    short, options = split_keywords(keywords)
    fields = {**{f"objective.{name}": value for name, value in options.items()}, **(set or {})}
    config = build(recipe, fields=fields, allow=allow, **short)
    return start(config, Display() if verbose else SilentDisplay())


def resume(run: str, *, verbose: bool = False) -> Result:
    """Resume a run that was stopped; bit for bit what the uninterrupted run would have done (on a
    CPU).
    """
    return resume_run(run, Display() if verbose else SilentDisplay())
