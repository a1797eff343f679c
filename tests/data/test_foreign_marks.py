"""Rows rendered for other models are found, side by side with rows that only talk about it.

Every template of `rendered.STYLES` is written out around generated conversations; `find_marks` must
name each fault at its side and the right family, and nothing else.
"""

from __future__ import annotations

import random
import time

import pytest
from data.about_marks import ABOUT_MARKS, row_about_marks
from data.rendered import RENDERED_OTHERWISE, STYLES, WITH_END, conversation, plain_row, sentence

from accord.data.chat_marks import FAMILIES, TOKENS, UNKNOWN, best_family, marks_in, part_of
from accord.data.foreign_marks import ENDED, FRAME, INCLUDED, NEXT_TURN, REPEATED, find_marks
from accord.data.repeated_texts import prefix_end, suffix_start
from accord.types import Demonstration, Labelled, Origin, Pair, Turn

HERE = Origin("rows.jsonl", 1)
SEEDS = 20


def pair(prompt, chosen: str = "Yes, it is so.", rejected: str = "No, never!") -> Pair:
    turns = (Turn("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    return Pair(turns, chosen, rejected, HERE)


def found(example) -> dict[tuple[str, str], str]:
    """(kind, side) -> family."""
    return {(hit.kind, hit.side): hit.family for hit in find_marks(example)}


# ---------------------------------------------------------------- rendered for another model


@pytest.mark.parametrize("name", STYLES)
def test_a_rendered_prompt_is_found_with_its_family(name):
    rng = random.Random(name)
    style = STYLES[name]
    for _ in range(SEEDS):
        prompt = style.prompt(conversation(rng))
        row = found(pair(prompt, f"Yes, {sentence(rng)}."))
        assert list(row) == [(FRAME, "prompt")], prompt
        assert row[FRAME, "prompt"].startswith(style.family), prompt


def test_an_end_token_behind_code_that_is_cut_off_is_found():
    """The fence is never closed, and the line is indented; nothing else stands behind the token."""
    answer = "```python\ndef f():\n    return 1</s>"
    assert list(found(pair("Write it.", answer))) == [(ENDED, "chosen")]


def test_a_prompt_whose_answer_is_begun_is_found():
    prompt = "<|im_start|>user\nIs it so?<|im_end|>\n<|im_start|>assistant\nSure, it"
    assert list(found(pair(prompt, " is."))) == [(FRAME, "prompt")]


def test_the_family_is_named_by_the_marks_that_few_families_share():
    """Zephyr explains two of three marks, as GLM does; but nobody else begins with [gMASK]."""
    assert best_family(marks_in("[gMASK]<|user|>\nhi</s>")) == "GLM"
    assert best_family(marks_in("<|zz_user|>")) == UNKNOWN and best_family([]) == UNKNOWN


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("name", WITH_END)
def test_an_end_token_is_found_at_its_side_alone(name, side):
    rng = random.Random(f"{name}{side}")
    answers = [f"Yes, {sentence(rng)}.", "42", "```\nx = 1\n```", sentence(rng)]
    # "... the token is </s>": behind a blank, a long text has to end a sentence
    for answer in answers[: 3 if STYLES[name].end.startswith(" ") else 4]:
        row = found(pair(sentence(rng) + "?", **{side: answer + STYLES[name].end}))
        # GLM ends an answer with the mark of the next speaker
        assert list(row) == [(NEXT_TURN if name == "glm" else ENDED, side)], answer


# A plain word in front of an answer alone is no mark.
PLAIN = ("", "答：", "Output:", "Falcon:")


@pytest.mark.parametrize("name", [n for n in STYLES if STYLES[n].ask.strip() not in PLAIN])
def test_an_answer_with_its_own_opening_mark_is_found(name):
    rng = random.Random(name)
    style = STYLES[name]
    row = found(pair(sentence(rng) + "?", rejected=f"{style.ask}Yes, {sentence(rng)}.{style.end}"))
    assert (FRAME, "rejected") in row and not [side for _, side in row if side != "rejected"]


@pytest.mark.parametrize("name", STYLES)
def test_the_next_speaker_behind_an_answer_is_found(name):
    rng = random.Random(name)
    style = STYLES[name]
    end = style.end if name in WITH_END else ""
    for _ in range(SEEDS):
        answer = f"Yes, {sentence(rng)}.{end}\n" + style.turns["user"].format(sentence(rng) + "?")
        assert list(found(pair(sentence(rng) + "?", answer))) == [(NEXT_TURN, "chosen")], answer


@pytest.mark.parametrize("prompt, answer", RENDERED_OTHERWISE)
def test_other_renderings_are_found_too(prompt, answer):
    """On the side that is rendered, and not on the other."""
    side = "chosen" if prompt == "{Q}" else "prompt"
    prompt, answer = (
        text.replace("{Q}", "Where is the old river?").replace("{A}", "It is in the north.")
        for text in (prompt, answer)
    )
    assert {at for _, at in found(pair(prompt, answer))} == {side}


def test_rows_of_each_kind_name_their_one_answer():
    turns = (Turn("user", "Is it so?"),)
    for example in (
        Labelled(turns, "Yes, it is.</s>", True, HERE),
        Demonstration(turns, "Yes, it is.</s>", HERE),
    ):
        assert list(found(example)) == [(ENDED, "completion")]


def test_marks_in_any_turn_of_a_conversation_are_found():
    turns = [Turn("user", "Is it so?"), Turn("assistant", "Yes, it is.</s>"), Turn("user", "Why?")]
    assert list(found(pair(turns))) == [(ENDED, "prompt")]
    turns[1] = Turn("assistant", "<|im_start|>assistant\nYes.<|im_end|>")
    assert list(found(pair(turns))) == [(FRAME, "prompt")]


@pytest.mark.parametrize("mark", [mark for mark in TOKENS if "<" in mark])
def test_every_mark_of_the_table_is_read_as_one_mark(mark):
    assert [each.token for each in marks_in(f"{mark}\nhello")] == [mark]


def test_no_mark_has_two_parts():
    parts = {}
    for family, marks in FAMILIES.items():
        for part, tokens in marks.items():
            for token in tokens.split():
                assert parts.setdefault(token, part) == part, (family, token)


@pytest.mark.parametrize(
    "token, part",
    [
        ("<|zz_end|>", "end"),
        ("<|eot_zz|>", "end"),
        ("<|my_user|>", "user"),
        ("<|bot|>", "assistant"),
        ("<begin_of_msg>", "open"),
        ("<|image_pad|>", "other"),
        ("[|human|]", "user"),
    ],
)
def test_the_part_of_an_unknown_mark_follows_from_its_words(token, part):
    assert part_of(token) == part


# ---------------------------------------------------------------- texts about marks


def test_generated_texts_about_marks_stay_silent():
    for seed in range(1_000):
        row = row_about_marks(random.Random(seed))
        assert find_marks(pair(**row)) == [], row


@pytest.mark.parametrize("text", ABOUT_MARKS)
def test_a_written_text_about_marks_stays_silent(text):
    """As a question, and as an answer to a question that names no mark."""
    assert find_marks(pair(text)) == []
    assert find_marks(pair("How does a model know when to stop?", text)) == []


def test_plain_rows_stay_silent():
    rng = random.Random(0)
    assert [hit for _ in range(300) for hit in find_marks(pair(**plain_row(rng)))] == []


@pytest.mark.parametrize(
    "prompt, answer",
    [
        ("Write a dialogue.", "Anna comes in.\n\nUser: Hello!\nAssistant: Hi!"),
        ("Is it up?", "It is, with these fields.\nUser: root\nHost: box"),
        ("Show it.", "The lines are:\n\nHuman: hello"),
        ("Show it.", "```\nq\nHuman: hello\n```\nSo."),
        ("Who is it?", "Human: a being of flesh and blood."),
        ("Show it.", "It is this.\n\n    <|user|>\n    Hello"),
        ("Show it.", "Use this.\n\n### Response: so\nHello<|im_end|>"),
        ("Show it.", "He said to them all,\nHuman: be kind"),
        ("Who ends it?", "Generation simply goes on and on before somebody types </s>"),
        ("Decode <|im_end|>", "It is a piece of text."),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nIs this template right?", "No."),
        ("How do I cook it?", "With care.\n### Instructions:\n1. Heat it.\n2. Eat it."),
    ],
)
def test_lines_that_look_like_a_speaker_and_are_none(prompt, answer):
    assert find_marks(pair(prompt, answer)) == []


# ---------------------------------------------------------------- repeated texts

QUESTION = "Where did the old cat sit?"


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize(
    "answer",
    [
        f"{QUESTION} On the mat.",
        f"{QUESTION}\n\nOn the mat.",
        f" {QUESTION.replace(' ', '  ')}\nOn it.",
        QUESTION,
        f"\n\nHuman: {QUESTION}\n\nAssistant: On the mat.",
    ],
)
def test_a_repeated_prompt_is_found(answer, side):
    assert (REPEATED, side) in found(pair(QUESTION, **{side: answer}))
    several = [Turn("user", "Hi!"), Turn("assistant", "Hello."), Turn("user", QUESTION)]
    assert (REPEATED, side) in found(pair(several, **{side: answer}))


@pytest.mark.parametrize(
    "prompt, answer",
    [
        (QUESTION, "Where did the old cat go?"),
        (QUESTION, "On the mat. Where did the old cat sit? There."),
        ("Yes?", "Yes? No."),
        ("Repeat this: a b c d e f", "Repeat this: a b c d e f"),
        ("Complete the line: the old cat sat on", "Complete the line: the old cat sat on it."),
    ],
)
def test_what_is_no_repeated_prompt(prompt, answer):
    assert find_marks(pair(prompt, answer)) == []


def test_a_prompt_that_ends_in_an_answer_is_found_with_the_side():
    answer = "It sat on the mat."
    for side in ("chosen", "rejected"):
        for prompt in (
            [Turn("user", QUESTION), Turn("assistant", answer)],
            [Turn("user", QUESTION), Turn("assistant", f" {answer}\n")],
            f"{QUESTION}\n\n{answer}",
            f"{QUESTION}\nAnswer: {answer}",
            f"{QUESTION}\n{answer} \n",
        ):
            assert list(found(pair(prompt, **{side: answer}))) == [(INCLUDED, side)]


@pytest.mark.parametrize(
    "prompt",
    [
        [Turn("user", QUESTION), Turn("assistant", "It sat on")],
        f"{QUESTION}\nIt ran off to sea.\nIt sat on the mat.",
        f"{QUESTION} Say whether It sat on the mat.",
        "Proofread this.\n\nIt sat on the mat.",
        "It sat on the mat.",
    ],
)
def test_what_is_no_answer_in_a_prompt(prompt):
    """A prefill, options, a part of a sentence, a text to be worked on, and nothing in front."""
    assert find_marks(pair(prompt, "It sat on the mat.", "It ran off to sea.")) in (
        [],
        find_marks(pair("It sat on the mat.", "It sat on the mat.", "It ran off to sea.")),
    )


@pytest.mark.parametrize(
    "text, other, start, end",
    [
        ("a b c", "ab", 3, -1),
        ("a b c", "b  c", 0, 2),
        ("abc", "abcd", 0, -1),
        ("", "a", 0, -1),
        ("a\n", "a", 1, 0),
    ],
)
def test_blanks_do_not_count_where_texts_are_compared(text, other, start, end):
    assert (prefix_end(text, other), suffix_start(text, other)) == (start, end)


# ---------------------------------------------------------------- hostile texts

SIZE = 400_000
HOSTILE = (
    "```",
    "`a",
    "<code>",
    "\n",
    "<|im_start|>user\n",
    "a.</s> ",
    "\nUser: ",
    ". USER: ",
    "<|",
    " ",
    "`x`<|im_end|> ",
    "is ",
    "\nAb: c",
    "｜",
    "<pre>",
    "\n \t",
    "Assistant:\n",
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_takes_no_time(piece):
    """Linear in its size: under a second for a text of 400,000 characters that stands in three
    places.
    """
    text = piece * (SIZE // len(piece))
    start = time.process_time()
    for example in (pair(text), pair(QUESTION, text), pair(text, text + "</s>", text + "User:")):
        find_marks(example)
    assert time.process_time() - start < 3
