"""The state of a conversation: what was said, what was drawn, and with which answer it goes on.

Pure: every change gives a new conversation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from accord.types import Turn


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it was drawn."""

    text: str
    tokens: int
    logprob: float  # nats of all its tokens at temperature 1
    ended: bool  # by the model, rather than by the limit or by the user
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """The answers of one draw: one, or one of each model that is compared."""

    answers: tuple[Answer, ...]
    sides: tuple[str, ...]  # the names of their models
    seed: int  # with `row`, of the random numbers that they were drawn with
    row: int
    kept: int  # the answer that the conversation goes on with

    @property
    def answer(self) -> Answer:
        return self.answers[self.kept]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt and all draws of its answers; the last one counts."""

    number: int  # in its session, from 1
    asked: tuple[Turn, ...]  # the whole prompt, as it stood when it was asked
    draws: tuple[Draw, ...] = ()

    @property
    def text(self) -> str:
        """Return what the user wrote."""
        return self.asked[-1].content

    @property
    def last(self) -> Draw:
        return self.draws[-1]


@dataclass(frozen=True, slots=True)
class Conversation:
    """The exchanges so far, and the system prompt of the next one."""

    system: str | None = None
    exchanges: tuple[Exchange, ...] = ()
    alone: bool = False  # each text stands alone: a model without a chat template completes it

    def ask(self, text: str, number: int) -> Conversation:
        """Add a prompt, not answered yet."""
        asked = (*self._before(), Turn("user", text))
        return replace(self, exchanges=(*self.exchanges, Exchange(number, asked)))

    def _before(self) -> tuple[Turn, ...]:
        """Return the turns that stand before the next prompt."""
        if self.alone:
            return ()
        turns = [] if self.system is None else [Turn("system", self.system)]
        for exchange in self.exchanges:
            turns += [Turn("user", exchange.text), Turn("assistant", exchange.last.answer.text)]
        return tuple(turns)

    @property
    def last(self) -> Exchange | None:
        return self.exchanges[-1] if self.exchanges else None

    def add(self, draw: Draw) -> Conversation:
        """Add a draw to the last prompt."""
        return self._with_last(replace(self.exchanges[-1], draws=(*self.exchanges[-1].draws, draw)))

    def keep(self, side: int) -> Conversation:
        """Go on with this answer of the last draw."""
        last = self.exchanges[-1]
        return self._with_last(
            replace(last, draws=(*last.draws[:-1], replace(last.last, kept=side)))
        )

    def _with_last(self, exchange: Exchange) -> Conversation:
        return replace(self, exchanges=(*self.exchanges[:-1], exchange))

    def back(self) -> Conversation:
        """Take the last prompt back, with its answers."""
        return replace(self, exchanges=self.exchanges[:-1])

    def clear(self) -> Conversation:
        """Begin again; the system prompt stays."""
        return replace(self, exchanges=())

    def with_system(self, text: str | None) -> Conversation:
        """Set the system prompt of the prompts to come."""
        return replace(self, system=text)
