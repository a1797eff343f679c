"""Prompts in seeded order: a slice for each round, none twice until all were used; and those that
no round trains on.

A slice is a file of prompts with the other columns of their rows, by which answers may be verified,
and with their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from accord.assess.generation import prompt_column
from accord.config.schema import DataConfig
from accord.data.columns import other_columns
from accord.data.prompts import ALONE, LEAK, Questions, prompt_words, read_prompts
from accord.data.write import new_file, write_row
from accord.types import DataError, UsageError

PLACE = "source"  # column of a slice: file:line of the prompt's own row


def slice_of(total: int, size: int, number: int, seed: int) -> list[int]:
    """The prompts of round `number` (from 1), of `total`: in an order drawn by the seed, none twice
    until all were used.

    Where the prompts run out in the middle of a round they are shuffled anew, and those that the
    round has are put off.
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
    """Some of a file's prompts as a file of their own.

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
                {"prompt": prompt_column(question.turns), **others, PLACE: str(question.origin)},
            )
    if [question.turns for question in read_prompts(str(file)).prompts] != [
        question.turns for question in asked
    ]:
        file.unlink()
        raise DataError(
            f"{path}: its prompts cannot be told from the other columns once they stand in a file"
            " of their own.\nGive a file with the prompts in a column `prompt`."
        )


def require_plain(data: DataConfig) -> None:
    """
    Raises:
      UsageError: settings that are not looked at where prompts are read; or no prompts to measure
        on.
    """
    if data.format != "auto" or data.columns:
        raise UsageError(
            "data.format and data.columns do nothing for prompts. Name the column `prompt`, or"
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
    """
    Raises:
      DataError: more than a hundredth of the held-out prompts are answered in training, but for
        case and punctuation.
    """
    trained = {prompt_words(question.turns) for question in read.prompts}
    shared = [question for question in held_out.prompts if prompt_words(question.turns) in trained]
    if len(shared) > LEAK * len(held_out.prompts) and "shared_prompts" not in allow:
        raise DataError(
            f"{len(shared):,} of {len(held_out.prompts):,} held-out prompts are trained on as well,"
            f" such as {shared[0].origin}: what is measured there would be memory.\nSplit by prompt"
            " (accord split), or accept it: --allow shared_prompts"
        )
