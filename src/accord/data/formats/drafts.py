"""Drafts of examples: the parts of a row become a prompt and its answers, in one normal form, or a
reason why not.

Answers come alone, or after a copy of the prompt, or at the end of a whole dialogue. All three are
settled here, for every format alike: the prompt is what the answers share, split between messages
and never inside one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accord.data.formats import parts
from accord.data.formats.parts import Row
from accord.data.ledger import RowError
from accord.types import NO_INPUTS, TemplateInputs, Turn

# Two text answers that both begin with the whole prompt repeat it. Under this many characters they
# may as well do so by chance ("Hi" before "Hi there" and "Hi, what's up?"), and then nothing is
# removed.
ECHO = 20


@dataclass(frozen=True, slots=True)
class Draft:
    """A row as a format read it: an example without its origin and its other columns."""

    prompt: tuple[Turn, ...]
    # the example's fields after the prompt: (chosen, rejected), (completion, desirable),
    # (completion,)
    answers: tuple
    extra: dict = field(default_factory=dict)
    inputs: TemplateInputs = NO_INPUTS


def prompt_of(row: Row, columns: str) -> tuple[Turn, ...]:
    """Return the prompt in one of the columns `"a|b"`, after the row's system text if it
    has any.
    """
    name = row.column(columns)
    return after_system(row, parts.prompt(row[name], name))


def after_system(row: Row, before: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Put the row's system column in front of the turns."""
    said = row.pick("system|system_prompt", "")
    if said in ("", None) or (before and before[0].role == "system"):
        return before
    return (Turn("system", parts.text(said, row.column("system|system_prompt"))), *before)


def pair(
    row: Row, before: tuple[Turn, ...], chosen: object, rejected: object, **extra: object
) -> list[Draft]:
    """Compare two answers in any shape; `before` is empty where the answers carry their prompt."""
    chosen, rejected = _without_echo(row, before, chosen, rejected)
    prompt, good = _continuation(before, parts.answer(chosen, "chosen"), "chosen")
    other, bad = _continuation(before, parts.answer(rejected, "rejected"), "rejected")
    if prompt != other:
        raise RowError(
            "diverges before the last turn",
            "chosen and rejected differ before their last assistant turn, so they answer different"
            " prompts.",
        )
    if good.strip() == bad.strip():
        blank = "both empty" if not good.strip() else "the same text"
        raise RowError(
            "same answers", f"chosen and rejected are {blank}; such a pair carries no preference."
        )
    return [
        Draft(_checked(row, prompt), (_filled(good, "chosen"), _filled(bad, "rejected")), extra)
    ]


def labelled(row: Row, before: tuple[Turn, ...], value: object, desirable: bool) -> list[Draft]:
    """Draft one answer with its label."""
    return _single(row, before, value, (desirable,))


def demonstration(row: Row, before: tuple[Turn, ...], value: object) -> list[Draft]:
    """Draft one answer to imitate."""
    return _single(row, before, value, ())


def _single(row: Row, before: tuple[Turn, ...], value: object, rest: tuple) -> list[Draft]:
    if isinstance(value, str) and _repeats(before, value):
        # one answer may quote the question
        row.notes.append("answer begins with the prompt: kept as it is")
    prompt, said = _continuation(before, parts.answer(value, "the answer"), "the answer")
    return [Draft(_checked(row, prompt), (_filled(said, "the answer"), *rest))]


def _continuation(
    before: tuple[Turn, ...], said: tuple[Turn, ...], where: str
) -> tuple[tuple[Turn, ...], str]:
    """Split an answer into the prompt it continues and its own text.

    `said` is the answer alone, or context that holds `before` at its start or its end, and then the
    answer. A first user message repeated (UltraFeedback) and a whole dialogue with its last
    question as `prompt` are both such contexts.
    """
    if not said:
        raise RowError("empty answer", f"{where} is an empty list of messages.")
    *context, last = said
    if last.role != "assistant":
        raise RowError(
            "not an assistant turn",
            f"{where} ends in a turn of role {last.role}, not in an answer.",
        )
    if not context:
        return before, last.content
    system = before[:1] if before and before[0].role == "system" != context[0].role else ()
    asked = _stripped(before[len(system) :])
    found = _stripped(context)
    if asked and asked not in (found[: len(asked)], found[-len(asked) :]):
        raise RowError(
            "several messages in an answer",
            f"{where} has {len(said)} messages, which do not begin with the prompt's; an answer is"
            " one message.",
        )
    return (*system, *context), last.content


def _stripped(turns) -> list[tuple[str, str]]:
    return [(turn.role, turn.content.strip()) for turn in turns]


def _without_echo(
    row: Row, before: tuple[Turn, ...], chosen: object, rejected: object
) -> tuple[object, object]:
    """Remove the prompt from two text answers that both repeat it, where that is beyond doubt."""
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        return chosen, rejected
    repeats = [_repeats(before, answer) for answer in (chosen, rejected)]
    if not any(repeats):
        return chosen, rejected
    asked = before[-1].content
    rest = chosen[len(asked) :], rejected[len(asked) :]
    if all(repeats) and len(asked) >= ECHO and rest[0].strip() and rest[1].strip():
        row.notes.append("prompt repeated in both answers: removed")
        return rest
    row.notes.append("answer begins with the prompt: kept as it is")
    return chosen, rejected


def _repeats(before: tuple[Turn, ...], answer: str) -> bool:
    """Tell whether a text answer begins with the whole prompt, which is one user turn, perhaps
    after a system turn.
    """
    asked = [turn.content for turn in before if turn.role != "system"]
    return len(asked) == 1 and bool(asked[0].strip()) and answer.startswith(asked[0])


def _checked(row: Row, prompt: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Check that the prompt asks something; note what a person should know of it."""
    if not any(turn.content.strip() for turn in prompt if turn.role != "system") or not prompt:
        if any(turn.role == "system" and turn.content.strip() for turn in prompt):
            raise RowError(
                "no user turn", "the prompt has a system turn and nothing that the user says."
            )
        raise RowError("no prompt", "there is no prompt, or nothing but blanks in it.")
    if not any(turn.role == "user" for turn in prompt):
        raise RowError(
            "no user turn", "the prompt has no turn of the user; a chat needs one to answer."
        )
    if prompt[-1].role == "assistant":
        row.notes.append("prompt ends in an assistant turn: the answer continues it")
    if row.get("tools"):
        row.notes.append("tools are not shown to the model")
    if row.get("images") or row.get("image"):
        raise RowError("not text", "the row has images; only text can be used.")
    return prompt


def _filled(answer: str, where: str) -> str:
    if not answer.strip():
        raise RowError(
            "empty answer", f"{where} is empty or blank; there is no token to learn from."
        )
    return answer
