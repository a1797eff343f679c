"""The task sets of reasoning-gym: prompts made by a seed, and the reward `reasoning_gym`, which
judges answers by the verifier of their own set.

A row says which task it is, and not what the answer must be:

    {"prompt": …, "reasoning_gym": {"name": "leg_counting", "seed": 7, "size": 500, "index": 0,
     "options": {}}}

The task is made again from that where it is judged. JSON would not keep it: tuples become lists,
and arc_agi and rearc then give their own right answers 0.05. Another release may make another task
of the same seed; then the prompt is not the task's and the answer is not judged.

Source: Stojanovski et al. 2025, arXiv:2505.24760.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from accord.errors import UsageError, first_line
from accord.rewards.verify import Unjudged

COLUMN = "reasoning_gym"
# Task i of a set is made from seed + i, so that seeds next to each other share nearly all tasks.
APART = 1_000_003
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.S)


def task_rows(name: str, size: int, seed: int, options: Mapping[str, Any]) -> Iterator[dict]:
    """Make the rows of a task set, in the order of their numbers.

    Args:
      seed: two seeds share no task, up to a million tasks each.
      options: settings of the set, as its documentation has them.

    Raises:
      UsageError: no set has this name, or it does not take these options.
    """
    where = {"name": name, "seed": seed * APART, "size": size, "options": dict(options)}
    try:
        made = _set(json.dumps(where, sort_keys=True))
    except (ValueError, TypeError, AssertionError) as error:
        raise UsageError(
            f"reasoning-gym makes no set {name!r}: {first_line(error, 300)}."
        ) from None
    for index in range(size):
        entry = made[index]
        yield {
            "prompt": entry["question"],
            "answer": entry["answer"],
            COLUMN: where | {"index": index},
        }


def set_names() -> list[str]:
    """Return the names of all task sets."""
    import reasoning_gym.factory

    return sorted(reasoning_gym.factory.DATASETS)


def reasoning_gym(
    prompts: Sequence[str], answers: Sequence[str], rows: Sequence[Mapping]
) -> list[float | Unjudged]:
    """Judge each answer by the verifier of its task: a number from 0 to 1. What stands in the last
    <answer>…</answer> is judged, or all of the answer without one.
    """
    return [_judge(*each) for each in zip(prompts, answers, rows, strict=True)]


def _judge(prompt: str, answer: str, row: Mapping) -> float | Unjudged:
    where = row.get(COLUMN)
    if not isinstance(where, Mapping):
        return Unjudged(f"the row has no column {COLUMN}")
    try:
        made = _set(json.dumps({k: v for k, v in where.items() if k != "index"}, sort_keys=True))
        entry = made[where["index"]]
    except Exception as error:  # a stranger's code on a stranger's row
        return Unjudged(f"the task cannot be made again ({type(error).__name__})")
    if entry["question"].strip() not in prompt:
        return Unjudged("the task of this seed is another one: made by another release")
    tagged = TAGGED.findall(answer)
    given = (tagged[-1] if tagged else answer).strip()
    try:
        return float(made.score_answer(given, entry))
    except Exception as error:
        # Some verifiers raise at an answer of another form. One that raises at the right answer
        # too judges nothing.
        try:
            made.score_answer(str(entry["answer"]), entry)
        except Exception:
            return Unjudged(f"the task's verifier raised {type(error).__name__}")
        return 0.0


@lru_cache(maxsize=8)
def _set(where: str) -> Any:
    """Make a task set: its tasks, by their numbers, and their verifier."""
    import reasoning_gym as package

    given = json.loads(where)
    return package.create_dataset(
        given["name"], size=given["size"], seed=given["seed"], **given["options"]
    )
