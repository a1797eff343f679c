"""A reward model that the first of several processes holds, and computes for all of them: where a
copy in each process would take more memory than there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from accord.distributed.world import World
from accord.rewards.model import ModelReward
from accord.rewards.reward import Conversation, Rewards
from accord.rewards.trust import Trust
from accord.types import Turn


@dataclass
class OnFirst:
    """The reward of a model in the first process. All processes must ask at the same time, each
    for the answers that it drew, of which there may be none.
    """

    name: str
    trust: Trust
    fingerprint: str
    world: World
    held: ModelReward | None  # on the first rank

    @classmethod
    def of(cls, world: World, make: Callable[[], ModelReward]) -> OnFirst:
        """Load the model on the first rank.

        Raises:
          AccordError: it cannot be loaded; on every rank.
        """
        held: list[ModelReward] = []

        def load() -> list:
            held.append(make())
            return [held[0].name, asdict(held[0].trust), held[0].fingerprint]

        name, trust, fingerprint = world.on_first(load)
        return cls(name, Trust(**trust), fingerprint, world, held[0] if held else None)

    def __call__(
        self, prompts: Sequence[Conversation], answers: Sequence[str], rows: Sequence[Mapping]
    ) -> Rewards:
        own = [[[asdict(turn) for turn in prompt] for prompt in prompts], list(answers)]
        asked = self.world.gather(own)
        begin = sum(len(texts) for _, texts in asked[: self.world.rank])
        told = self.world.on_first(lambda: self._score(asked))[begin : begin + len(answers)]
        return Rewards.of(
            [value for value, _ in told], {i: why for i, (_, why) in enumerate(told) if why}
        )

    def account(self) -> dict:
        return {}

    def _score(self, asked: Sequence) -> list[tuple[float | None, str]]:
        """Score the answers of all ranks together, as one process would."""
        assert self.held is not None, "the first rank holds the model"
        prompts = [_conversation(prompt) for each, _ in asked for prompt in each]
        answers = [answer for _, texts in asked for answer in texts]
        found = self.held(prompts, answers, [{}] * len(answers))
        return [
            (None if math.isnan(value) else value, found.failures.get(i, ""))
            for i, value in enumerate(found.values.tolist())
        ]


def _conversation(told: Sequence[dict]) -> Conversation:
    """Make a conversation of its record, whose tuples have become lists."""
    return tuple(
        Turn(turn["role"], turn["content"], tuple(map(tuple, turn["keys"]))) for turn in told
    )
