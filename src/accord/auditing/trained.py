"""Rows that were trained on, found among others: whole, by their prompt, by their answers, or but
for a few words.

Hashes are of words alone: case, blanks and punctuation do not count, nor does a system turn.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from accord.auditing import minhash
from accord.auditing.checks.leakage import Compared, find_leaks
from accord.auditing.thresholds import limit
from accord.data.prompts import prompt_words
from accord.data.read import Dataset
from accord.runs.lineage import lineage, recorded, trained_file
from accord.runs.trained_rows import SIGNED, TrainedRows
from accord.runs.trained_rows import read as read_trained_rows
from accord.types import Example, Finding, Turn

# characters of a row's answers, from which on the same answers under another prompt are no chance:
# "yes" and "no" stand under many
TELLING = 80
# similarity from which on two prompts of one file are a form, filled in: under that of near prompts
FORM = 0.6
SHOWN = 3
PART = 65_536  # trained rows that are compared at once: their texts and signatures take memory


@dataclass(frozen=True)
class Seen:
    """Numbers of measured rows that were trained on; each counts once, where it comes first."""

    rows: int = 0  # measured
    whole: int = 0  # prompt and answers
    prompt: int = 0  # the prompt, with other answers
    answers: int = 0  # the answers, under another prompt
    near: int = 0  # the prompt but for a few words
    looked_near: str = ""  # how far the search for near prompts went, where not over all
    first: list[str] = field(default_factory=list)  # places
    trained_by: list[str] = field(default_factory=list)  # the runs, by their names

    @property
    def total(self) -> int:
        return self.whole + self.prompt + self.answers + self.near

    def as_dict(self) -> dict:
        return asdict(self) | {"total": self.total}

    def parts(self) -> str:
        """Say in words how many rows were seen in which way."""
        named = {
            "whole rows": self.whole,
            "with their prompt but other answers": self.prompt,
            "with their answers under another prompt": self.answers,
            "with their prompt but for a few words": self.near,
        }
        return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)

    def says(self) -> str:
        """Say it in one line."""
        if not self.total:
            return f"none of the {self.rows:,} rows was trained on{self.looked_near}"
        by = f" by {' and '.join(self.trained_by)}" if self.trained_by else ""
        return (
            f"{self.total:,} of {self.rows:,} rows were trained on{by}: {self.parts()}; first"
            f" {self.first[0]}. Their figures measure memory{self.looked_near}"
        )


def trained_rows(rows: Iterable[tuple[Sequence[Turn], Sequence[str]]]) -> TrainedRows:
    """Hash the rows of a run, each its prompt and its answers (none, if the policy drew them)."""
    prompts, answers = array("Q"), array("Q")
    first: dict[int, bytes] = {}  # the texts of the first different prompts
    for turns, texts in rows:
        key = _prompt_key(turns)
        prompts.append(key)
        answers.extend(map(_answer_key, texts))
        if len(first) < SIGNED and key not in first:
            first[key] = _spoken(turns)
    keys = np.asarray(prompts, np.uint64)
    return TrainedRows(
        keys,
        np.unique(np.asarray(answers, np.uint64)),
        minhash.signatures(list(first.values())),
        len(np.unique(keys)),
    )


def seen(trained: Sequence[TrainedRows], examples: Sequence[Example]) -> Seen:
    """Count the examples that are among rows that were trained on."""
    keys = np.array([_prompt_key(example.prompt) for example in examples], np.uint64)
    by_prompt = np.isin(keys, np.concatenate([each.prompts for each in trained]))
    known = np.concatenate([each.answers for each in trained])
    own = array("Q", (_answer_key(text) for each in examples for text in each.completions))
    owner = np.repeat(np.arange(len(examples)), [len(each.completions) for each in examples])
    other = owner[~np.isin(np.asarray(own, np.uint64), known)]
    by_answer = np.bincount(other, minlength=len(examples)) == 0
    telling = np.array([sum(map(len, each.completions)) >= TELLING for each in examples], bool)
    whole = by_prompt & by_answer
    moved = by_answer & telling & ~by_prompt
    near = _near(trained, examples, keys) & ~by_prompt & ~moved
    hit = by_prompt | moved | near
    signed, all_of = (
        sum(len(each.signs) for each in trained),
        sum(each.different for each in trained),
    )
    some = f" (near prompts: compared with {signed:,} of {all_of:,})" if signed < all_of else ""
    first = [str(examples[row].origin) for row in np.flatnonzero(hit)[:SHOWN].tolist()]
    return Seen(
        len(examples),
        int(whole.sum()),
        int((by_prompt & ~whole).sum()),
        int(moved.sum()),
        int(near.sum()),
        some,
        first,
    )


def near_rows(trained: Sequence[Example], held_out: Sequence[Example]) -> Finding:
    """Find held-out rows that are trained on although their prompt is another: by the same rules as
    `accord audit --held-out`.

    Rows that share their prompt are counted by data.leak and data.near_leak.
    """
    own = Compared.of_examples(held_out)
    near, contained, answers = (np.zeros(len(held_out), bool) for _ in range(3))
    for at in range(0, max(1, len(trained)), PART):
        found = find_leaks(Compared.of_examples(trained[at : at + PART]), own)
        near |= found.near
        contained |= found.contained
        answers |= found.answers
    rows = np.flatnonzero(near | contained | answers)
    kinds = {
        "a prompt with a few other words": near,
        "the question behind other text": contained,
        "the answers of another prompt": answers,
    }
    parts = [f"{int(hit.sum()):,} have {name}" for name, hit in kinds.items() if hit.any()]
    says = f"{len(rows):,} of {len(held_out):,} held-out rows are near ones that are trained on"
    first = [str(held_out[row].origin) for row in rows[:SHOWN].tolist()]
    return Finding(
        "data.near_rows",
        "warning" if len(rows) else "ok",
        says + (f": {', '.join(parts)}; first {first[0]}" if len(rows) else ""),
        {"share": len(rows) / max(1, len(held_out)), "first": first},
        "split again, near copies together: accord split DATA" if len(rows) else "",
    )


def _near(
    trained: Sequence[TrainedRows], examples: Sequence[Example], keys: np.ndarray
) -> np.ndarray:
    """Mark examples whose prompt is nearly a trained one, [M] bool.

    Prompts that are alike within their own file are built alike (one form, filled in), and are left
    out: their likeness says nothing of training.
    """
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    signs = np.concatenate([each.signs for each in trained])
    own = minhash.signatures([_spoken(examples[row].prompt) for row in first.tolist()])
    if not len(signs):
        return np.zeros(len(examples), bool)
    both = minhash.links(np.concatenate([signs, own]), limit("near_jaccard"))
    across = both[(both[:, 0] < len(signs)) & (both[:, 1] >= len(signs))]
    of_a_form = np.zeros(len(signs), bool)
    of_a_form[minhash.links(signs, FORM).ravel()] = True
    hit = np.zeros(len(own), bool)
    hit[across[~of_a_form[across[:, 0]], 1] - len(signs)] = True
    hit[minhash.links(own, FORM).ravel()] = False
    return hit[group]


def _spoken(turns: Sequence[Turn]) -> bytes:
    """Return the text of a conversation without its system turn, normalised for signatures."""
    return minhash.normal(" ".join(turn.content for turn in turns if turn.role != "system"))


def _prompt_key(turns: Sequence[Turn]) -> int:
    asked = [turn for turn in turns if turn.role != "system"]
    words = prompt_words(asked)
    return _hash(words if words else " ".join(turn.content for turn in asked))


def _answer_key(text: str) -> int:
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return _hash(words if words else text.strip())


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


# ---------------------------------------------------------------- of a model that is at hand


def seen_by(name: str | None, examples: Sequence[Example], digest: str | None) -> Seen:
    """Count the examples that a model, or one that it came out of, was trained on.

    Args:
      name: a run's folder, weights, or a model's name.
      digest: sha256 of the file that the examples are of.
    """
    found, names = [], []
    whole_file = False
    for folder in lineage(name):
        rows = read_trained_rows(folder.path)
        if rows is not None:
            found.append(rows)
        # runs of accord 0.2 and earlier have no hashes of their rows
        elif digest is not None and trained_file(folder) == digest:
            whole_file = True
        else:
            continue
        names.append(folder.path.name)
    record = recorded(Path(name).expanduser()) if name is not None else None
    if whole_file or (record is not None and digest is not None and record.train_data == digest):
        first = [str(example.origin) for example in examples[:SHOWN]]
        return Seen(len(examples), whole=len(examples), first=first, trained_by=names)
    if not found or not examples:
        return Seen(len(examples))
    counted = seen(found, examples)
    return replace(counted, trained_by=names if counted.total else [])


def seen_before(name: str, adapter: str | None, held_out: Dataset) -> list[Finding]:
    """Report held-out rows that the model which a run starts from was trained on."""
    found = []
    for start in (adapter, name):
        told = seen_by(start, held_out.examples, held_out.digest)
        if told.total:
            found.append(
                Finding(
                    "data.seen_before",
                    "warning",
                    f"held-out rows: {told.says()}",
                    told.as_dict(),
                    "hold out rows that no earlier run trained on",
                )
            )
            break
    return found
