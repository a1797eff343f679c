"""Real base sets, from a folder that is no part of the repository, and seeded draws of them.

A draw has a seed's own rows. Its training and held-out rows share no prompt, so that a leak between
them is a planted one.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.silentbench.files.material import Material, Row, prompt_key, text

FEWEST, MOST = 300, 900  # rows of a draw; small files are the commoner ones
SHORTEST, LONGEST = 2, 4_000  # characters of an answer: what is outside is a fault of its own


@dataclass(frozen=True)
class Base:
    """One set: its files are read as one and split by prompt anew for each seed."""

    name: str
    files: tuple[str, ...]
    labelled: bool = False


BASES = (
    Base("truthfulqa", ("truthfulqa/pairs_train.jsonl", "truthfulqa/pairs_test.jsonl")),
    Base("hh_helpful", ("hh_helpful/train.jsonl.gz", "hh_helpful/test.jsonl.gz")),
    Base(
        "ultrafeedback_small",
        ("ultrafeedback_small/pairs_train.jsonl.gz", "ultrafeedback_small/pairs_test.jsonl.gz"),
    ),
    Base("permissive_mix", ("permissive_mix/train.jsonl.gz",)),
    Base("truthfulqa_kto", ("truthfulqa/kto_train.jsonl.gz", "truthfulqa/kto_test.jsonl.gz"), True),
    Base("permissive_mix_kto", ("permissive_mix/kto_train.jsonl.gz",), True),
)
BY_NAME = {base.name: base for base in BASES}
PAIRS = tuple(base for base in BASES if not base.labelled)
LABELLED = tuple(base for base in BASES if base.labelled)


@cache
def all_rows(data: Path, base: Base) -> tuple[Row, ...]:
    """Read a base set once, without the rows that are faults already: empty, equal, endless."""
    found: list[Row] = []
    for name in base.files:
        file = data / name
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8") as lines:
            found += [row for line in lines if _sound(row := json.loads(line), base.labelled)]
    return tuple(found)


def _sound(row: Row, labelled: bool) -> bool:
    sides = ("completion",) if labelled else ("chosen", "rejected")
    answers = [text(row, side).strip() for side in sides]
    fit = all(SHORTEST <= len(answer) <= LONGEST for answer in answers)
    return fit and len(set(answers)) == len(answers) and len(prompt_key(row)) <= 2 * LONGEST


@cache
def drawn(data: Path, base: Base, seed: int) -> Material:
    """Draw the rows of a seed; do not change them, take a copy (`Material.copied`)."""
    rng = random.Random(f"files-{base.name}-{seed}")
    rows = list(all_rows(data, base))
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(prompt_key(row), []).append(row)
    prompts = sorted(by_prompt)
    rng.shuffle(prompts)
    asked = int(rng.triangular(FEWEST, min(MOST, int(len(rows) * 0.75)), FEWEST))
    held_rows = max(60, asked // 4)
    held, train = _filled(prompts, by_prompt, held_rows, rng), []
    rest = prompts[len({prompt_key(row) for row in held}) :]
    train = _filled(rest, by_prompt, asked, rng)
    return Material(base.name, base.labelled, train, held, rng, others=_others(data, base))


def _filled(
    prompts: list[str], by_prompt: dict[str, list[Row]], rows: int, rng: random.Random
) -> list[Row]:
    """Take whole prompts, at most four rows of each, until there are enough; then mix the rows."""
    found: list[Row] = []
    for prompt in prompts:
        if len(found) >= rows:
            break
        mine = by_prompt[prompt]
        found += mine if len(mine) <= 4 else rng.sample(mine, 4)
    rng.shuffle(found)
    return found


def _others(data: Path, base: Base) -> dict[str, Callable[[], list[Row]]]:
    """Name the other sets of the same kind, for a held-out file of another source."""
    return {
        other.name: lambda other=other: list(all_rows(data, other))  # type: ignore[misc]
        for other in BASES
        if other.labelled == base.labelled and other.name.split("_")[0] != base.name.split("_")[0]
    }
