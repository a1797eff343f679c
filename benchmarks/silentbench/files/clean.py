"""Clean files: whatever accuses one of them is a false alarm.

Rule, written before any run: a finding whose verdict is "warning" or "refused" and whose aspect is
not "size" is a false alarm, of the audit of the file alone or beside a held-out file of the same
kind (every other seed has one). A note is none.

A careful reader finds nothing wrong in any of them: the chosen answer is the better one for what it
says, prompts come once unless the kind says so, and wording is drawn for both answers alike.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

from accord.auditing.split import split
from accord.types import DataError
from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.bases import BY_NAME, all_rows
from benchmarks.silentbench.files.clean_code import CODES
from benchmarks.silentbench.files.clean_facts import COUNTRIES, FACTS
from benchmarks.silentbench.files.clean_talk import TALKS
from benchmarks.silentbench.files.material import Row, prompt_key
from benchmarks.silentbench.files.rule import is_accusation
from benchmarks.silentbench.files.trial import SHORT, audit_file, write

TASKS = {**FACTS, **CODES, **TALKS}
NOT_ENGLISH = ("Chinese", "Arabic", "Hindi")
SIZES = (80, 120, 200, 350, 500, 800)
Make = Callable[[random.Random, int], list[Row]]  # rows with distinct prompts, in a drawn order


def _distinct(draw: Callable[[], Row], count: int) -> list[Row]:
    """Draw rows until there are so many with prompts of their own; a narrow task has fewer."""
    found: dict[str, Row] = {}
    for _ in range(6 * count):
        row = draw()
        if not _equal(row):
            found.setdefault(prompt_key(row), row)
        if len(found) == count:
            break
    return list(found.values())


def _equal(row: Row) -> bool:
    return row["chosen"].strip() == row["rejected"].strip()


def pairs(task: str, rng: random.Random, count: int) -> list[Row]:
    """Draw pairs of a task, as strings or as messages."""
    as_messages, led = rng.random() < 0.4, task not in NOT_ENGLISH

    def draw() -> Row:
        prompt, chosen, rejected = TASKS[task](rng)
        if led and isinstance(prompt, str):
            prompt = f"{words.lead(rng)} {prompt}"
        if as_messages and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}

    return _distinct(draw, count)


def labelled(task: str, rng: random.Random, count: int) -> list[Row]:
    """Draw answers of a task, each labelled as right or wrong."""
    rate = rng.choice((0.35, 0.5, 0.6))
    found = []
    for row in pairs(task, rng, count):
        good = rng.random() < rate
        answer = row["chosen" if good else "rejected"]
        found.append({"prompt": row["prompt"], "completion": answer, "label": good})
    return found


def mixed(rng: random.Random, count: int) -> list[Row]:
    """Mix many tasks, with a column that says which."""
    tasks = rng.sample(sorted(set(TASKS) - {"dialogue"}), 6)
    found: list[Row] = []
    for task in tasks:
        rows = _strings(pairs(task, rng, count // 6))
        found += [{**row, "source": task.replace(" ", "_").lower()} for row in rows]
    return found


def _strings(rows: list[Row]) -> list[Row]:
    return [{**row, "prompt": prompt_key(row)} for row in rows]


def system_prompt(rng: random.Random, count: int) -> list[Row]:
    """Give all rows one system prompt, as a turn or as text."""
    task = rng.choice(("facts", "maths", "code", "summaries", "JSON"))
    system, as_turn = words.preamble(rng, rng.randint(1, 10)), rng.random() < 0.5
    found = []
    for row in _strings(pairs(task, rng, count)):
        if as_turn:
            turns = [{"role": "system", "content": system}]
            row["prompt"] = [*turns, {"role": "user", "content": row["prompt"]}]
        else:
            row["prompt"] = f"{system}\n\n{row['prompt']}"
        found.append(row)
    return found


def few_shot(rng: random.Random, count: int) -> list[Row]:
    """Put the same few examples before every prompt."""
    task = rng.choice(("facts", "one-word labels", "translations", "maths"))
    rows = _strings(pairs(task, rng, count + 3))
    shots = "\n\n".join(f"Q: {row['prompt']}\nA: {row['chosen']}" for row in rows[:3])
    return [{**row, "prompt": f"{shots}\n\nQ: {row['prompt']}\nA:"} for row in rows[3:]]


def several(rng: random.Random, count: int) -> list[Row]:
    """Compare some answers to each prompt: one right one with several wrong ones."""
    found: list[Row] = []
    while len(found) < count:
        row = rng.choice(COUNTRIES)
        at = rng.choice((1, 2, 4))
        what = ("", "capital", "currency", "", "neighbour")[at]
        who, city = rng.choice(words.FIRST), rng.choice(COUNTRIES)[1]
        prompt = (
            f"{who} in {city} asks: what is a {what} of {row[0]}? Say it with a {what} of Mali."
        )
        wrong = rng.sample(sorted({each[at] for each in COUNTRIES} - {row[at]}), rng.randint(2, 5))
        for each in wrong:
            texts = [
                rng.choice(
                    (
                        f"{value} for {row[0]}, {who}, and I am not sure of Mali.",
                        f"The {what} is {value}. Of Mali I know less.",
                        f"Well, {who}: {value}. Please look up Mali.",
                    )
                )
                for value in (row[at], each)
            ]
            found.append({"prompt": prompt, "chosen": texts[0], "rejected": texts[1]})
    rng.shuffle(found)
    return found


def honest_duplicates(rng: random.Random, count: int) -> list[Row]:
    """Show one row in two hundred to a second annotator, who agrees."""
    rows = pairs("summaries", rng, max(count, 400))
    annotators = [f"a{rng.randint(10, 99)}" for _ in range(5)]
    again = rng.sample(rows, max(1, len(rows) // 200))
    found = [{**row, "annotator": rng.choice(annotators)} for row in [*rows, *again]]
    rng.shuffle(found)
    return found


def scored(rng: random.Random, count: int) -> list[Row]:
    """Give both sides a score that agrees with the label."""
    name = rng.choice(("score", "rating", "reward"))
    found = []
    for row in pairs(rng.choice(("facts", "maths", "poems")), rng, count):
        middle = rng.uniform(5, 6.5)
        gap = rng.uniform(1.0, 3.0)
        row[f"{name}_chosen"], row[f"{name}_rejected"] = round(middle + gap, 2), round(middle, 2)
        found.append(row)
    return found


def with_metadata(rng: random.Random, count: int) -> list[Row]:
    """Add what files carry beside the texts: ids, times, languages, a strength without sign."""
    found = []
    for i, row in enumerate(pairs(rng.choice(("facts", "SQL", "summaries")), rng, count)):
        row["id"] = f"{rng.getrandbits(48):012x}"
        row["row"] = i
        row["created_at"] = f"{words.date(rng, 0)}T{rng.randint(0, 23):02}:00:00Z"
        row["language"] = "en"
        row["turns"] = rng.randint(1, 3)
        row["confidence"] = round(rng.uniform(0.5, 1.0), 2)
        row["annotator"] = f"w{rng.randint(1, 12)}"
        found.append(row)
    return found


def models_compared(rng: random.Random, count: int) -> list[Row]:
    """Say which of four equal models wrote each side."""
    models = [f"{words.code_word(rng)}-{rng.randint(1, 70)}b" for _ in range(4)]
    found = []
    for row in pairs("facts", rng, count):
        row["chosen_model"], row["rejected_model"] = rng.sample(models, 2)
        found.append(row)
    return found


# --- slices of real sets


@cache
def _read(file: Path) -> list[Row]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def grade_school(data: Path, rng: random.Random, count: int) -> list[Row]:
    """Take problems with worked answers; one step of the wrong work is of another problem."""
    found = []
    problems = _read(data / "gsm8k" / "train.jsonl.gz")
    for row in rng.sample(problems, count):
        *steps, last = re.sub(r"<<[^>]*>>", "", row["answer"]).split("\n")
        number = re.search(r"-?[\d,]+", last)
        if not 2 <= len(steps) <= 4 or number is None:  # of long ones the two are nearly the same
            continue
        right = int(number[0].replace(",", ""))
        wrong = right + rng.choice((-5, -2, -1, 1, 2, 3, 10))
        stray = re.sub(r"<<[^>]*>>", "", rng.choice(problems)["answer"]).split("\n")
        slipped = list(steps)  # as many steps: their number would tell
        slipped[rng.randrange(len(steps))] = rng.choice(stray[:-1])
        texts = ["\n".join([*each, f"#### {n}"]) for each, n in ((steps, right), (slipped, wrong))]
        found.append({"prompt": row["question"], "chosen": texts[0], "rejected": texts[1]})
    return found


# Slices of truthfulqa's labelled answers are no clean files: 3 % of them end where a program cut
# them, at 38 words. Some rows of real sets hold marks of models, of which an auditor rightly warns
CONTROL = re.compile(r"\[/?INST\]|</?s>|<\||(?:Human|Assistant|User|Bot): ")


def real(base: str, source: str, data: Path, rng: random.Random, count: int) -> list[Row]:
    """Draw rows of a real set, or of one of its sources, each prompt once."""
    rows = all_rows(data, BY_NAME[base])
    by_prompt: dict[str, Row] = {}
    for row in rng.sample(rows, len(rows)):
        if CONTROL.search(json.dumps(row)):
            continue
        if row.get("source", source) == source or not source:
            by_prompt.setdefault(prompt_key(row), row)
        if len(by_prompt) == count:
            break
    return [dict(row) for row in by_prompt.values()]


def clear_scores(data: Path, rng: random.Random, count: int) -> list[Row]:
    """Draw scored pairs of a real set whose scores differ clearly."""
    rows = real("ultrafeedback_small", "", data, rng, 900)
    return [row for row in rows if row["score_chosen"] - row["score_rejected"] >= 1.0][:count]


def _kinds() -> dict[str, Callable[[Path, random.Random, int], list[Row]]]:
    made: dict[str, Make] = {task: partial(pairs, task) for task in TASKS}
    made |= {
        f"labelled, {task}": partial(labelled, task)
        for task in (
            *("facts", "maths", "code", "Chinese", "Arabic", "one-word labels", "summaries"),
            *("dialogue", "SQL", "long answers"),
        )
    }
    made |= {
        "mixed tasks": mixed,
        "shared system prompt": system_prompt,
        "few-shot": few_shot,
        "several pairs a prompt": several,
        "honest duplicates": honest_duplicates,
        "scores that agree": scored,
        "metadata": with_metadata,
        "models compared": models_compared,
    }
    found = {name: _apart_from_data(make) for name, make in made.items()}
    found |= {
        "grade school maths": grade_school,
        "real, truthfulqa": partial(real, "truthfulqa", ""),
        "real, hh_helpful": partial(real, "hh_helpful", ""),
        "real, clear scores": clear_scores,
        "real, feedback on questions": partial(real, "permissive_mix", "qa_feedback"),
    }
    return found


def _apart_from_data(make: Make) -> Callable[[Path, random.Random, int], list[Row]]:
    return lambda data, rng, count: make(rng, count)


KINDS = _kinds()


def rows_of(data: Path, kind: str, seed: int) -> tuple[list[Row], list[Row] | None]:
    """Make a clean file, and a held-out one for every other seed."""
    rng = random.Random(f"clean-{kind}-{seed}")
    rows = KINDS[kind](data, rng, SIZES[(seed + sorted(KINDS).index(kind)) % len(SIZES)])
    rng.shuffle(rows)
    if seed % 2:
        return rows, None
    return _split(rows, seed)


def _split(rows: list[Row], seed: int) -> tuple[list[Row], list[Row] | None]:
    """Hold out a fifth as accord's users are told to, by `accord split`. A file that it refuses to
    split has no held-out file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, output = write(Path(folder) / "all.jsonl", rows), Path(folder) / "split"
        try:
            split(file, output, share=0.2, seed=seed)
        except DataError:
            return rows, None
        parts = [output / f"{name}.jsonl" for name in ("train", "held_out")]
        train, held = (
            [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
            for part in parts
        )
        return train, held


def do(data: Path, kind: str, seed: int) -> dict:
    """Audit one clean file; the record for the results."""
    began = time.monotonic()
    record: dict = {"kind": kind, "seed": seed}
    try:
        rows, held = rows_of(data, kind, seed)
        with tempfile.TemporaryDirectory() as folder:
            file = write(Path(folder) / "train.jsonl", rows)
            other_file = write(Path(folder) / "test.jsonl", held) if held else None
            found = audit_file(file, other_file)
    except Exception:  # a defect of the bench or of the audit: shown, never counted as silent
        return record | {"size": 0, "failed": traceback.format_exc()[-900:]}
    alarms = [
        {"check": each.check, "verdict": each.verdict, "says": each.says[:SHORT]}
        for each in found
        if is_accusation(each)
    ]
    seconds = round(time.monotonic() - began, 2)
    return record | {
        "size": len(rows),
        "held": len(held or ()),
        "alarms": alarms,
        "seconds": seconds,
    }


def do_all(data: Path, files: Sequence[tuple[str, int]]) -> list[dict]:
    """Do some files, one after the other."""
    return [do(data, kind, seed) for kind, seed in files]
