"""DAPO's dynamic sampling: a prompt whose answers all have one reward gives way to another prompt.

Answers with equal rewards teach nothing when they are compared with each other: the advantage of
each is 0, and the batch is as much smaller. In up to `rollouts.dynamic_sampling` rounds such
prompts are replaced by further ones of the file, which come in an order of their own: a pure
function of the seed and the batch's number. They come in their own turn as well. A prompt that no
round could replace stays, so that a batch always has its size, and a run whose prompts are all
solved goes on and says so.

Source: Yu et al. 2025, arXiv:2503.14476, §3.2, Eq. 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np

from accord.rollouts.record import Answer

Group = list[Answer]


def informative(group: Sequence[Answer]) -> bool:
    """Tell whether two answers to a prompt have different rewards."""
    return len({a.reward for a in group if a.reward is not None}) > 1


def further_prompts(prompts: int, batch: Sequence[int], seed: int, number: int) -> Iterator[int]:
    """Yield the prompts that are not in batch `number`, each once, in an order of its own."""
    taken = set(batch)
    order = np.random.default_rng((seed, number)).permutation(prompts)
    return (int(i) for i in order if int(i) not in taken)


def replace_flat(
    groups: Sequence[Group],
    others: Iterator[int],
    draw: Callable[[Sequence[int], int], list[Group]],
    rounds: int,
) -> tuple[list[Group], list[dict]]:
    """Replace groups whose rewards are all equal, in at most `rounds` rounds of draws.

    Args:
      others: further prompts.
      draw: prompts and the number of the round, from 1, to their groups, with rewards.

    Returns:
      the groups, as many as before and in their places; and a record of each that was drawn and is
      not trained on: its round (0: the batch's own), prompt and rewards.
    """
    out, dropped = list(groups), []
    rounds_of = [0] * len(out)
    for number in range(1, rounds + 1):
        flat = [i for i, group in enumerate(out) if not informative(group)]
        asked = list(islice(others, len(flat)))
        if not asked:
            break
        # the file may hold fewer further prompts than there are flat groups
        for i, fresh in zip(flat, draw(asked, number), strict=False):
            if informative(fresh):
                dropped.append(_record(out[i], rounds_of[i]))
                out[i], rounds_of[i] = fresh, number
            else:
                dropped.append(_record(fresh, number))
    return out, dropped


def _record(group: Group, number: int) -> dict:
    return {
        "round": number,
        "prompt": group[0].prompt,
        "rewards": [a.reward for a in group],
        "tokens": sum(a.count for a in group),
    }
