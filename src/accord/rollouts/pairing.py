"""The choice of pairs among scored answers to a prompt, by a policy with a name.

    best_worst   the best against the worst
    best_random  the best against another one, drawn by the seed
    hard         the best against the best answer that is worse by at least the margin: a hard
                 negative
    margin       every two that are at least the margin apart

Source: best against worst as in Meng et al. 2024, arXiv:2405.14734, §3 (on-policy data); best
against a random one, Yuan et al. 2024, arXiv:2401.10020, and Dong et al. 2024, arXiv:2405.07863,
compare such choices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from accord.types import UsageError

FEW, TIED, SAME = (
    "fewer than two answers with a reward and a text",
    "no two answers far enough apart",
    "all pairs have equal texts",
)


@dataclass(frozen=True)
class Pairing:
    """The policy that chooses pairs, and its options."""

    policy: str = "best_worst"
    margin: float = 0.0  # of rewards; closer answers, and ties, make no pair
    seed: int = 0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UsageError(f"--policy {self.policy}: expected one of {', '.join(POLICIES)}.")
        if not 0 <= self.margin < float("inf"):
            raise UsageError(f"--margin {self.margin}: expected a number of at least 0.")

    def pairs(
        self, rewards: Sequence[float | None], texts: Sequence[str], group: int
    ) -> tuple[list[tuple[int, int]], str]:
        """Choose the pairs (chosen, rejected) among one prompt's answers.

        Args:
          rewards: K; an answer whose reward is None is in no pair.
          group: number of the prompt; random choices depend on it.

        Returns:
          the pairs; if there are none, the reason.
        """
        scored = {i: reward for i, reward in enumerate(rewards) if reward is not None}
        if len(scored) < 2:
            return [], FEW
        order = sorted(scored, key=lambda i: (-scored[i], i))
        found = POLICIES[self.policy](
            order,
            lambda a, b: self._apart(scored[a], scored[b]),
            np.random.default_rng((self.seed, group)),
        )
        if not found:
            return [], TIED
        kept = [(good, bad) for good, bad in found if texts[good] != texts[bad]]
        return kept, "" if kept else SAME

    def _apart(self, better: float, worse: float) -> bool:
        return better > worse and better - worse >= self.margin


Order = list[int]  # the scored answers, best first
Apart = Callable[[int, int], bool]


def _best_worst(order: Order, apart: Apart, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [(order[0], order[-1])] if apart(order[0], order[-1]) else []


def _best_random(order: Order, apart: Apart, rng: np.random.Generator) -> list[tuple[int, int]]:
    others = [i for i in order[1:] if apart(order[0], i)]
    return [(order[0], others[rng.integers(len(others))])] if others else []


def _hard(order: Order, apart: Apart, rng: np.random.Generator) -> list[tuple[int, int]]:
    return next(([(order[0], i)] for i in order[1:] if apart(order[0], i)), [])


def _margin(order: Order, apart: Apart, rng: np.random.Generator) -> list[tuple[int, int]]:
    return [
        (good, bad) for at, good in enumerate(order) for bad in order[at + 1 :] if apart(good, bad)
    ]


POLICIES: dict[str, Callable[[Order, Apart, np.random.Generator], list[tuple[int, int]]]] = {
    "best_worst": _best_worst,
    "best_random": _best_random,
    "hard": _hard,
    "margin": _margin,
}
