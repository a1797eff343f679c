"""Drafts of examples: the parts of a row become a prompt and its answers, in one normal form, or a
reason why not.

Answers come alone, or after a copy of the prompt, or at the end of a whole dialogue. All three are
settled here, for every format alike: the prompt is what the answers share, split between messages
and never inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from accord.data.formats import inputs, media, messages, parts, transcripts
from accord.data.formats.parts import Row
from accord.data.formats.structured import ANSWERS
from accord.data.ledger import RowError
from accord.types import NO_INPUTS, TemplateInputs, Turn

# Two text answers that both begin with the whole prompt repeat it. Under this many characters they
# may as well do so by chance ("Hi" before "Hi there" and "Hi, what's up?"), and then nothing is
# removed.
ECHO = 20


SYSTEM = "system|system_prompt|system_message|system_instruction"
MATERIAL = "input|context|passage"  # of an instruction


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
    """Return the prompt in one of the columns `"a|b"`, after the row's history and its system text
    if it has any. Beside an instruction stands its material.
    """
    name = row.column(columns)
    value = row[name]
    before = messages.prompt(row, value, name, _answer_texts(row))
    if name == "instruction":
        before = _with_material(row, before, isinstance(value, str))
    if name != "history" and "history" in row:
        before = (*messages.exchanges(row["history"], "history"), *before)
    return after_system(row, before)


def _with_material(row: Row, before: tuple[Turn, ...], is_text: bool) -> tuple[Turn, ...]:
    """Put the material of an instruction behind it, as Alpaca does: on a line of its own."""
    name = row.name(MATERIAL)
    if name is None:
        return before
    more = row[name]
    if isinstance(more, list) and not more:
        more = ""
    more = parts.text(more, name)
    if not more.strip():
        return before
    if not is_text or len(before) != 1:
        raise RowError(
            "two prompts",
            f"instruction is a conversation, and {name} stands beside it; where it belongs is not"
            " said.",
        )
    if name != "input":
        row.notes.append(f"{name} follows the instruction, on a line of its own")
    return (Turn("user", f"{before[0].content}\n{more}"),)


def _answer_texts(row: Row) -> list[str]:
    """Return the texts that answer the prompt, without counting them as read."""
    return [value for name, value in row.items() if name in ANSWERS and isinstance(value, str)]


def after_system(row: Row, before: tuple[Turn, ...], own: object = None) -> tuple[Turn, ...]:
    """Put the row's system column in front of the turns.

    Args:
      own: a system text that stands beside the turns, in the object that holds them.

    Raises:
      RowError: two system texts, and they differ.
    """
    said = {_system_text(own), _system_text(row.pick(SYSTEM))}
    if before and before[0].role == "system":
        said.add(before[0].content)
    found = sorted(text for text in said if text.strip())
    if len(found) > 1:
        raise RowError(
            "two system texts",
            "the conversation has a system turn, and another one stands in a column beside it.",
        )
    if not found or (before and before[0].role == "system"):
        return before
    return (Turn("system", found[0]), *before)


def _system_text(value: object) -> str:
    """Return a system text, from text, a message, or a list of one of these."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], (str, dict)):
        value = value[0]
    if isinstance(value, dict) and "role" not in value and isinstance(value.get("text"), str):
        value = [value]  # a content part, as Anthropic writes a system text
    if isinstance(value, dict) and (value.get("role") or value.get("from")):
        turn = messages.turn(value, "system")
        if turn.role != "system":
            raise RowError("wrong type", f"the system column has a turn of role {turn.role}.")
        return turn.content
    return "" if parts.is_null(value) else parts.text(value, "system")


def pair(
    row: Row,
    before: tuple[Turn, ...],
    chosen: object,
    rejected: object,
    inside: object = None,
    **extra: object,
) -> list[Draft]:
    """Compare two answers in any shape; `before` is empty where the answers carry their prompt.

    Args:
      inside: the object that holds the conversation, which may hold the template's inputs as well.
    """
    chosen, rejected = _without_echo(row, before, chosen, rejected)
    prompt, good = _continuation(row, before, chosen, "chosen")
    other, bad = _continuation(row, before, rejected, "rejected")
    if prompt != other:
        raise RowError(
            "diverges before the last turn",
            "chosen and rejected differ before their last assistant turn, so they answer different"
            " prompts.",
        )
    if good.content.strip() == bad.content.strip() and good.keys == bad.keys:
        blank = "both empty" if not good.content.strip() else "the same text"
        raise RowError(
            "same answers", f"chosen and rejected are {blank}; such a pair carries no preference."
        )
    prompt = _without_answer(row, prompt, good, "chosen", bad)
    answers = (_filled(good.content, "chosen"), _filled(bad.content, "rejected"))
    return [Draft(_checked(row, prompt), answers, extra, _inputs(row, inside, good, bad))]


def labelled(row: Row, before: tuple[Turn, ...], value: object, desirable: bool) -> list[Draft]:
    """Draft one answer with its label."""
    return _single(row, before, value, (desirable,))


def demonstration(row: Row, before: tuple[Turn, ...], value: object) -> list[Draft]:
    """Draft one answer to imitate."""
    return _single(row, before, value, ())


def _single(row: Row, before: tuple[Turn, ...], value: object, rest: tuple) -> list[Draft]:
    if isinstance(value, str) and row.transcript is None and _repeats(before, value):
        # one answer may quote the question
        row.notes.append("answer begins with the prompt: kept as it is")
    prompt, said = _continuation(row, before, value, "the answer")
    prompt = _without_answer(row, prompt, said, "the answer")
    answers = (_filled(said.content, "the answer"), *rest)
    return [Draft(_checked(row, prompt), answers, {}, _inputs(row, None, said))]


def _inputs(row: Row, inside: object, *answers: Turn) -> TemplateInputs:
    found = inputs.inputs_of(row, inside)
    keys = tuple(answer.keys for answer in answers)
    return replace(found, answers=keys) if any(keys) else found


def _continuation(
    row: Row, before: tuple[Turn, ...], value: object, where: str
) -> tuple[tuple[Turn, ...], Turn]:
    """Split an answer into the prompt it continues and its own turn.

    The answer stands alone, or after context that holds `before` at its start or its end. A first
    user message repeated (UltraFeedback) and a whole dialogue with its last question as `prompt`
    are both such contexts.
    """
    if isinstance(value, str):
        value = _text_answer(row, before, parts.text(value, where), where)
    said = messages.answer(row, value, where)
    if not said:
        raise RowError("empty answer", f"{where} is an empty list of messages.")
    *context, last = said
    if last.role != "assistant":
        raise RowError(
            "not an assistant turn",
            f"{where} ends in a turn of role {last.role}, not in an answer.",
        )
    if any(name == "tool_calls" for name, _ in last.keys):
        raise RowError(
            "tool calls", f"{where} calls a tool; the call would be lost, since only text is kept."
        )
    if not context:
        return before, last
    system = before[:1] if before and before[0].role == "system" else ()
    if system and context[0].role == "system":
        if system[0].content.strip() != context[0].content.strip():
            raise RowError("two system texts", f"{where} and the prompt have different ones.")
        system = ()
    if not _holds(context, before):
        raise RowError(
            "several messages in an answer",
            f"{where} has {len(said)} messages, which do not begin with the prompt's; an answer is"
            " one message.",
        )
    return (*system, *context), last


def _holds(context: Sequence[Turn], before: Sequence[Turn]) -> bool:
    """Tell whether the context of an answer begins or ends with the prompt."""
    found, asked = folded(context), folded(before)
    return not asked or asked in (found[: len(asked)], found[-len(asked) :])


def folded(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Return the turns with every run of blanks as one: copies of a transcript differ in these."""
    return [(turn.role, " ".join(turn.content.split())) for turn in turns if turn.role != "system"]


def _text_answer(row: Row, before: tuple[Turn, ...], value: str, where: str) -> object:
    """Return a text answer without what belongs to a transcript: the prompt before it, and marks.

    Beside a prompt that was split, blanks around the answer are the transcript's layout.
    """
    bare = transcripts.without_tags(value)
    if bare != value:
        row.notes.append("NeMo's tags around an answer: removed")
    whole = transcripts.split_answer(bare, where)
    if whole and row.transcript and folded(whole.turns[:-1]) == folded(before):
        return (whole.turns[-1],)
    if whole and not row.transcript and _holds(whole.turns[:-1], before):
        row.notes.append(whole.note)
        return whole.turns
    if row.transcript is None:
        # whole dialogues beside their last question
        is_hh = bare.startswith("\n\nHuman:") and "\n\nAssistant:" in bare
        return transcripts.hh_dialogue(bare) if is_hh else bare
    said = bare.strip()
    if row.transcript.text and said.startswith(row.transcript.text):
        return said.removeprefix(row.transcript.text).strip()
    if whole and row.transcript.family is not None and whole.family == row.transcript.family:
        raise RowError(
            "diverges before the last turn",
            f"{where} is a transcript that does not begin with the prompt's turns.",
        )
    if not row.transcript.hands_over and row.transcript.family:
        said = transcripts.without_marker(said, row.transcript.family).strip()
    return said


def _without_answer(
    row: Row, prompt: tuple[Turn, ...], good: Turn, where: str, bad: Turn | None = None
) -> tuple[Turn, ...]:
    """Cut the answer off a prompt that already ends in it.

    Raises:
      RowError: the prompt ends in the rejected answer.
    """
    if not prompt or prompt[-1].role != "assistant":
        return prompt
    end = prompt[-1].content.strip()
    if bad is not None and end == bad.content.strip() != good.content.strip():
        raise RowError(
            "prompt ends in the rejected answer",
            "the conversation already ends in the rejected answer, so the chosen one would follow"
            " it.",
        )
    if end != good.content.strip():
        return prompt
    row.notes.append(
        f"conversation already ends in {where.replace('chosen', 'the chosen answer')}: cut"
    )
    return prompt[:-1]


def _without_echo(
    row: Row, before: tuple[Turn, ...], chosen: object, rejected: object
) -> tuple[object, object]:
    """Remove the prompt from two text answers that both repeat it, where that is beyond doubt."""
    if row.transcript or not (isinstance(chosen, str) and isinstance(rejected, str)):
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
    elif prompt[0].role == "assistant":
        row.notes.append("conversation begins with an assistant turn")
    media.refuse_columns(row)
    media.refuse_marks(prompt)
    return prompt


def _filled(answer: str, where: str) -> str:
    if not answer.strip():
        raise RowError(
            "empty answer", f"{where} is empty or blank; there is no token to learn from."
        )
    return answer
