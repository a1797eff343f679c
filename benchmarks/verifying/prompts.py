"""The three files of rlvr.py: prompts to train on, held-out ones with other requests, and IFEval's
own.

Requests are questions of TruthfulQA and first turns of HH-helpful, each set by its own split; a
held-out request that shares most of its words with one that is trained on is left out.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

from verifying.tasks import apart, asked, requests_of

from accord.rewards.constraints import constraints

TRAIN, HELD_OUT, IFEVAL = 1_200, 160, 120  # prompts
SOURCES = {
    "train": ("truthfulqa/pairs_train.jsonl", "hh_helpful/train.jsonl.gz"),
    "held_out": ("truthfulqa/pairs_test.jsonl", "hh_helpful/test.jsonl.gz"),
}
LONGEST = 60  # words or so that an answer of 96 tokens has room for


def make(data: Path, folder: Path, seed: int = 0) -> dict[str, int]:
    """Write train.jsonl, held_out.jsonl and ifeval.jsonl; how many prompts each has. The same seed
    gives the same files.
    """
    rng = random.Random(seed)
    train, held_out = (
        [text for name in SOURCES[side] for text in _requests(data / name)] for side in SOURCES
    )
    held_out = apart(held_out, train)
    for texts in (train, held_out):
        rng.shuffle(texts)
    files = {
        "train": [asked(text, seed=seed) for text in train[:TRAIN]],
        "held_out": [asked(text, seed=seed) for text in held_out[:HELD_OUT]],
        "ifeval": ifeval(data / "ifeval/prompts.jsonl.gz", rng),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return {name: len(rows) for name, rows in files.items()}


def _requests(path: Path) -> list[str]:
    prompts = (row["prompt"] for row in rows_of(path))
    return requests_of(
        sorted({text if isinstance(text, str) else text[0]["content"] for text in prompts})
    )


def ifeval(path: Path, rng: random.Random) -> list[dict]:
    """Some of IFEval's prompts: of kinds that the reward knows, and not such as ask for more than a
    short answer can hold.
    """
    rows = [
        row
        for row in rows_of(path)
        if not isinstance(constraints()("An answer.", row), str) and not _long(row)
    ]
    rng.shuffle(rows)
    return rows[:IFEVAL]


def _long(row: dict) -> bool:
    counts = (
        "num_words",
        "num_sentences",
        "num_paragraphs",
        "num_sections",
        "frequency",
        "let_frequency",
    )
    least = {"num_words": LONGEST, "num_sentences": 5, "num_paragraphs": 3, "num_sections": 3}
    return any(
        given.get("relation", "at least") == "at least"
        and isinstance(given.get(name), int)
        and given[name] >= least.get(name, 6)
        for given in row["kwargs"]
        for name in counts
    ) or any(
        "repeat_prompt" in name or "two_responses" in name for name in row["instruction_id_list"]
    )


def rows_of(path: Path) -> Iterator[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)
