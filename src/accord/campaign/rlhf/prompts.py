"""Prompts in seeded order: a slice for each round, with no prompt used twice before all were used;
and held-out prompts, which no round trains on.

A slice is a file of prompts with their place and the other columns of their rows, since answers may
be verified against those.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accord.config.schema import DataConfig
from accord.data.columns import other_columns
from accord.data.convert import prompt_columns
from accord.data.naming import Naming
from accord.data.prompts import ALONE, LEAK, Questions, prompt_words, read_prompts
from accord.data.write import new_file, write_row
from accord.types import DataError, UsageError

PLACE = "source"  # column of a slice: file:line of the prompt's own row


def slice_of(total: int, size: int, number: int, seed: int) -> list[int]:
    """Choose the prompts of round `number` (from 1) out of `total`. The order is drawn by the seed,
    and no prompt comes twice before all were used.

    If the prompts run out in the middle of a round they are shuffled anew, and those that the round
    already has come later.
    """
    assert 1 <= size <= total, "a round would ask a prompt twice"
    left: list[int] = []  # the next one last
    shuffles = 0
    taken: dict[int, None] = {}
    for _ in range(number):
        taken, put_off = {}, []
        while len(taken) < size:
            if not left:
                left = (
                    np.random.Generator(np.random.Philox(key=[seed, shuffles]))
                    .permutation(total)
                    .tolist()
                )
                shuffles += 1
            index = left.pop()
            if index in taken:
                put_off.append(index)
            else:
                taken[index] = None
        left += reversed(put_off)
    return list(taken)


def write_prompts(file: Path, path: str, read: Questions, chosen: Sequence[int]) -> None:
    """Write some of a file's prompts to a file of their own.

    Raises:
      DataError: one of them would be read there as another prompt.
    """
    columns = other_columns(path, read)
    asked = [read.prompts[index] for index in chosen]
    with new_file(file) as stream:
        for question in asked:
            others = {
                k: v
                for k, v in columns.get(question.origin.line, {}).items()
                if k not in ALONE.split("|")
            }
            write_row(
                stream,
                {
                    **others,
                    **prompt_columns(question.turns, question.inputs),
                    PLACE: str(question.origin),
                },
            )
    back = [(question.turns, question.inputs) for question in read_prompts(str(file)).prompts]
    if back != [(question.turns, question.inputs) for question in asked]:
        file.unlink()
        raise DataError(
            f"{path}: its prompts cannot be told from the other columns once they stand in a file"
            " of their own.\nGive a file with the prompts in a column `prompt`."
        )


def naming_of(data: DataConfig) -> Naming:
    """Return the renamed and ignored columns of files of prompts."""
    return Naming(data.columns, data.ignore_columns)


def require_plain(data: DataConfig) -> None:
    """Require settings that make sense for files of prompts.

    Raises:
      UsageError: settings that have no effect on prompts, or no prompts to measure on.
    """
    data.require_one_file("this command")
    if data.format != "auto":
        raise UsageError(
            "data.format does nothing for prompts. Name their column (--columns prompt=COLUMN), or"
            " convert: accord convert."
        )
    if "-" in (data.train, data.held_out):
        raise UsageError(
            "Prompts are read again whenever the command goes on: give a file in place of standard"
            " input."
        )
    if data.held_out is None:
        raise UsageError(
            "Rewards are measured on prompts that no round trains on: --set data.held_out=FILE.\n"
            f"None at hand? Cut some off by prompt: accord split {data.train}"
        )


def require_apart(read: Questions, held_out: Questions, allow: Sequence[str]) -> None:
    """Require held-out prompts that are not trained on.

    Raises:
      DataError: more than a hundredth of the held-out prompts are also answered in training. Case
        and punctuation do not count.
    """
    trained = {prompt_words(question.turns) for question in read.prompts}
    shared = [question for question in held_out.prompts if prompt_words(question.turns) in trained]
    if len(shared) > LEAK * len(held_out.prompts) and "shared_prompts" not in allow:
        raise DataError(
            f"{len(shared):,} of {len(held_out.prompts):,} held-out prompts are trained on as well,"
            f" such as {shared[0].origin}: what is measured there would be memory.\nSplit by prompt"
            " (accord split), or accept it: --allow shared_prompts"
        )
