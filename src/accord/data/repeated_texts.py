"""Texts that stand twice in a row: a prompt at the start of its answer, an answer at the end of its
prompt.

Blanks do not count. A prompt that asks for its own text, as to repeat or to mend it, is no fault.
"""

from __future__ import annotations

import re

from accord.data.chat_marks import LABELS, STARTS, USER
from accord.types import Example

RESTATE = re.compile(
    r"\b(?:repeat|copy|restate|echo|verbatim|word for word|continue|complete|completion|finish|"
    r"rewrite|rephrase|proofread|correct|edit|paraphrase|translate|grammar|start\w* with|begin\w*"
    r" with|first|summari[sz]e|autocomplete|fill|extend|expand|improve|revise|choose|which of)\b",
    re.IGNORECASE,
)
# What stands in front of a repeated question.
HEADING = re.compile(
    r"[\s*_#>]*(?:(?:question|q|prompt|instruction|query)[ \t]*[:：][\s*_]*)?", re.I
)
# What stands in front of an answer inside a prompt.
ANSWER_LABEL = re.compile(
    r"(?:assistant|answer|response|gpt|ai|bot|output|model|a)\W{0,3}[:：>\]|]\s*\Z", re.IGNORECASE
)
# A shorter text says the same by chance: "Yes, it is." is the start of many answers.
LETTERS, TERMS = 12, 3
BEFORE_SIZE = 40  # characters in which a label in front of an answer stands


def repeats_prompt(example: Example, answer: str) -> bool:
    """Tell whether an answer begins with its prompt, or with the last turn of it; blanks and a
    speaker's label in front do not count. A prompt that asks for its own text is no fault.
    """
    last = example.prompt[-1]
    question = last.content
    if last.role == "assistant":
        return False
    label = STARTS.match(answer)
    if label is not None and LABELS[label["label"]][1] == USER:
        # a whole transcript begins with the first question
        answer = answer[label.end() :]
        first = next((turn.content for turn in example.prompt if turn.role == "user"), question)
        if prefix_end(answer, first) and is_long(first):
            return True
    heading = HEADING.match(answer)
    at = heading.end() if heading is not None else 0
    repeats = prefix_end(answer, question) or prefix_end(answer[at:], question)
    return repeats > 0 and is_long(question) and not RESTATE.search(question)


def is_in_prompt(example: Example, answer: str) -> bool:
    """Tell whether a prompt already ends in an answer: as its last turn, or behind a label, a mark
    or a line break. An option that is listed last is no such answer.
    """
    last = example.prompt[-1]
    if last.role == "assistant":
        whole = suffix_start(last.content, answer) == len(last.content) - len(last.content.lstrip())
        return whole and bool(answer.strip())
    if (at := suffix_start(last.content, answer)) < 0 or not is_long(answer):
        return False
    before = last.content[:at]
    if not before.strip():
        return False
    if ANSWER_LABEL.search(before[-BEFORE_SIZE:]):
        return True
    if RESTATE.search(before) or not new_line(before):
        return False
    if before.rstrip()[-1] == ":":
        return False
    others = [text for text in example.completions if text is not answer]
    listed = any(text.strip() and text.strip() in last.content for text in others)
    return not listed and ("\n\n" in before[len(before.rstrip()) :] or bool(others))


def is_long(text: str) -> bool:
    letters = len(text) - text.count(" ")
    return letters >= LETTERS and (len(text.split()) >= TERMS or not text.isascii())


def prefix_end(text: str, start: str) -> int:
    """Return where `text` has repeated all of `start`, blanks aside; 0 if it does not."""
    at, size = 0, len(text)
    for character in start:
        if character.isspace():
            continue
        while at < size and text[at].isspace():
            at += 1
        if at == size or text[at] != character:
            return 0
        at += 1
    return at


def suffix_start(text: str, end: str) -> int:
    """Return where `end` begins at the end of `text`, blanks aside; -1 if it does not stand
    there.
    """
    at = len(text)
    for character in reversed(end):
        if character.isspace():
            continue
        while at and text[at - 1].isspace():
            at -= 1
        if not at or text[at - 1] != character:
            return -1
        at -= 1
    return at


def new_line(lead: str) -> bool:
    """Tell whether a text ends in a line break, or in blanks with one."""
    return "\n" in lead[len(lead.rstrip(" \t\r\n")) :]
