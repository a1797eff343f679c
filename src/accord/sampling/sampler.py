"""The protocol of samplers: prompts as token ids in, answers as token ids out, with log-probs and
the reason for each answer's end.

`sampling/local.py` samples with the model in this process, `sampling/server_sampler.py` by a vLLM
server. Another way is another class with this protocol; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal, Protocol

Prompt = tuple[int, ...]
FinishReason = Literal["stop", "length"]  # an end token came, or the limit


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer to one prompt."""

    tokens: tuple[int, ...]  # with the end token, if it came
    text: str  # without special tokens
    finish_reason: FinishReason
    # nats of each of `tokens` under the model at temperature 1, for any sampling temperature
    logps: tuple[float, ...]

    @property
    def ended(self) -> bool:
        """Tell whether the model ended the answer, rather than the limit."""
        return self.finish_reason == "stop"

    @property
    def logprob(self) -> float:
        """Compute the log-prob of the whole answer, nats."""
        # one after the other: Python's own sum rounds differently from 3.12 on
        return reduce(add, self.logps, 0.0)


class Sampler(Protocol):
    """An object that draws answers to prompts."""

    @property
    def joint(self) -> bool:
        """Tell whether all ranks of a world ask together, for the same answers, and all receive
        every answer. Otherwise each rank asks for answers of its own.
        """

    def policy_version(self) -> str:
        """Name the weights that the next answer is drawn by: the same name, the same weights."""

    def rest(self) -> None:
        """Take note that the next answers are asked for only after the policy has trained: a
        sampler on the same device may give its memory back.
        """

    def begin(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int = 0,
        first_row: int = 0,
    ) -> bool:
        """Begin to draw, by the weights as they stand, what `sample` will be asked for; do not
        wait for it. False: this sampler draws only while it is waited for, and has begun nothing.
        """

    def as_begun(self) -> AbstractContextManager[None]:
        """Put the policy, here and for `sample`, back to the weights that `begin` had; after the
        block it is as it was.
        """

    def close(self) -> None:
        """Give up what was begun: nobody asks for it any more."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        first_row: int = 0,
    ) -> list[Sample]:
        """Draw one answer to each prompt, in the order given.

        Answer i depends only on (seed, first_row + i) and its prompt. For K answers to a prompt,
        give it K times.

        Args:
          prompts: token ids, each with the generation prompt at its end.
          max_new_tokens: largest number of tokens in an answer.
          temperature: divides the logits; 0 takes the likeliest token.
          top_p: sample from the smallest set of tokens that holds this much probability (Holtzman
            et al. 2020, arXiv:1904.09751, §3.1), after the temperature.
          seed: row i draws from a generator seeded by (seed, first_row + i).
          first_row: the number of the first of these rows, if a long list is answered in
            pieces.

        Raises:
          UsageError: an option out of its range, an empty prompt, or one too long for the model.
        """
