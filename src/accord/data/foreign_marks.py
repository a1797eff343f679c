"""Marks of other models, the next speaker and repeated texts in a row: what makes its text another
one than its author meant.

Only whole frames count, so that a text *about* marks stays silent: an opening mark at the very
start of a prompt with its partner at the end, an end token at the very end of an answer, a
hand-over to the next speaker. Marks inside code, in quotes, behind "is" or ":" and in lists are
mentioned, not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from accord.data.chat_marks import (
    ANSWERER,
    ASSISTANT,
    BEGIN,
    CODE,
    COLON,
    END,
    HEADER,
    LABELS,
    MARK,
    OPEN,
    OTHER,
    SPEAKER,
    STARTS,
    SYSTEM,
    USER,
    Mark,
    as_ascii,
    best_family,
    marks_in,
)
from accord.data.repeated_texts import is_in_prompt, new_line, repeats_prompt
from accord.types import Example, Pair, Turn

FRAME, ENDED, NEXT_TURN, REPEATED, INCLUDED = "frame", "end", "next_turn", "repeated", "included"
KINDS = (FRAME, ENDED, NEXT_TURN, REPEATED, INCLUDED)
PROMPT = "prompt"
OPENING = (OPEN, SYSTEM, USER, BEGIN)

# Words in front of or behind a mark that is talked about.
BEFORE = frozenset(
    "is are was be called named the a an this that token tokens tag tags mark marker symbol string"
    " with by in of and or as to use uses using used append appends add adds emit emits output"
    " outputs print prints write insert inserts include includes including explain describe about"
    " like mean means eos bos between from after before then plus vs versus than for when where"
    " has have see sees its into put puts without not no remove removes strip every each"
    " what at until on to reaches reach hits hit produces produce generates generate predicts"
    " through onto try probably maybe likely either both all type returns return yields sees need"
    " needs want wants".split()
)
AFTER = frozenset(
    "is are was marks mark denotes means mean stands tells signals indicates represents and or vs"
    " versus token tokens tag tags in at ends closes opens separates starts begins closed"
    " should must can may will would does do comes appears gets has but".split()
)
ABOUT = re.compile(
    r"\b(?:tokens?|tokeni[sz]\w+|templates?|tags?|markers?|delimiters?|chatml|eos|bos|prompt format"
    r"\w*|special|syntax|formatted|formatting|format)\b",
    re.IGNORECASE,
)
DIALOGUE = re.compile(
    r"dialog|conversation|\bchat|transcript|script|role[- ]?play|skit|interview|scene|story|"
    r"\b(?:human|user|template|format|example|sample)\b",
    re.IGNORECASE,
)
ENDS = re.compile(rf"(?:\A|[\s>])(?P<label>{ANSWERER}){COLON}\s*\Z")
LABEL_TAIL = 40  # characters in which a label at the end of a prompt stands
NEXT_SPEAKER = re.compile(rf"\n[ \t]*(?P<label>{SPEAKER}){COLON}")
LABELLED_LINE = re.compile(rf"\n[ \t]*(?:{SPEAKER}|{ANSWERER}){COLON}")
INLINE_SPEAKER = re.compile(r"(?<=[.!?>\n]) ?USER: .{1,400}?\bASSISTANT:", re.DOTALL)
OPENINGS = {"ASSISTANT": re.compile(r"(?:\A|\s)USER:"), "答": re.compile("问[:：]")}
ALPACA_START = re.compile(r"(?:\A|\n)### (?:Instruction|Human|User|Question|Prompt):")
ASKED_LABEL = re.compile(r"\b(?:USER|ASSISTANT|User|Assistant):(?!\s*\Z)")
NAMED_LINE = re.compile(r"(?:\A|\n)[ \t]*[A-Z][\w .'-]{0,24}:(?=\s)")
FIRST_WORD = re.compile(r"\W*(\w+)")
SENTENCE_ENDS = tuple(".!?…)]}\"'”’。！？")
CONJUNCTIONS = frozenset(("and", "or", "vs", "versus", "to", "then", "through", "is", "but"))
WORDS = 3  # of an answer that is no sentence, such as a name
END_SIZE = 1 << 15  # characters at each end of a text that are searched for marks
SNIPPET = 60  # characters shown of a hit


@dataclass(frozen=True, slots=True)
class Hit:
    """One fault of one side of a row."""

    kind: str  # one of KINDS
    side: str  # "prompt", "chosen", "rejected" or "completion"
    family: str  # "" for repeated texts
    shown: str  # the place in the text, not yet printable


def find_marks(example: Example) -> list[Hit]:
    """Find what is wrong with one row, each kind at most once a side."""
    sides = ("chosen", "rejected") if isinstance(example, Pair) else ("completion",)
    marks: list[Mark] = []
    found = list(_prompt_hits(example.prompt, marks))
    for side, answer in zip(sides, example.completions, strict=True):
        found += _answer_hits(example, side, answer, marks)
    family = best_family(marks)
    named = [
        Hit(hit.kind, hit.side, hit.family or family, hit.shown)
        if hit.kind in (FRAME, ENDED, NEXT_TURN)
        else hit
        for hit in found
    ]
    return list({(hit.kind, hit.side): hit for hit in reversed(named)}.values())[::-1]


# ---------------------------------------------------------------- prompts


def _prompt_hits(turns: Sequence[Turn], marks: list[Mark]) -> Iterator[Hit]:
    for turn in turns:
        text = as_ascii(_ends_of(turn.content))
        own = marks_in(text)
        if own and _is_frame(text, own):
            marks += own
            yield Hit(FRAME, PROMPT, "", _around(text, own[0].start))
        elif own and _ends_in_token(text, own, strict=True):
            marks += own
            yield Hit(ENDED, PROMPT, "", _around(text, own[-1].start))
        elif own and _invites_answer(text, own[-1]):
            marks += own
            yield Hit(FRAME, PROMPT, "", _around(text, own[-1].start))
        elif label := _label_frame(text[own[0].end if own and not own[0].start else 0 :]):
            yield Hit(FRAME, PROMPT, label, _around(text, 0))


def _ends_of(text: str) -> str:
    """Leave out the middle of a very long text: frames, ends and hand-overs stand at its ends."""
    return text if len(text) <= 2 * END_SIZE else text[:END_SIZE] + text[-END_SIZE:]


def _is_frame(text: str, marks: Sequence[Mark]) -> bool:
    """Tell whether a template's marks surround a text: it opens with one, and all that is between
    and behind them is the conversation.
    """
    first, last = marks[0], marks[-1]
    if text[: first.start].strip() or first.part == OTHER:
        return False
    if first.part in (BEGIN, END) and last is first:
        return _is_glued(text, first) and not ABOUT.search(text[first.end :][: 4 * SNIPPET])
    if first.part == END:
        return False
    if first.part == HEADER and _is_glued(text, first) and last.part != OTHER:
        return True
    between = text[first.end : last.start].strip() if last is not first else ""
    tail = text[last.end :].strip(" \t\r\n:")
    if not tail:
        return last is not first and _is_content(between, marks)
    if last is first or first.end == last.start:
        return _opens_line(text, first, last)
    # a conversation whose last turn is open; behind a closed turn stands a text about it
    return last.part != END and _opens_line(text, first, first) and not ABOUT.search(tail)


def _is_glued(text: str, mark: Mark) -> bool:
    """Tell whether a word begins right behind a mark, as behind a rendered one."""
    return text[mark.end : mark.end + 1].isalnum()


def _invites_answer(text: str, last: Mark) -> bool:
    """Tell whether a prompt ends in the mark that invites an answer, behind a sentence."""
    lead = text[: last.start]
    return (
        last.part == ASSISTANT
        and not text[last.end :].strip(" \t\r\n:")
        and lead.rstrip()[-1:] in SENTENCE_ENDS
        and not ABOUT.search(lead)
    )


def _is_content(between: str, marks: Sequence[Mark]) -> bool:
    """Tell a turn's text from the words between two marks that are compared."""
    word = FIRST_WORD.match(between)
    if word is None:
        return len(marks) > 2 and all(mark.named or mark.part != OPEN for mark in marks)
    return word.group(1).lower() not in CONJUNCTIONS or len(between.split()) > 2


def _opens_line(text: str, first: Mark, last: Mark) -> bool:
    """Tell whether an opening mark stands on a line of its own, or names its speaker."""
    rest = text[last.end :]
    if _is_spoken_of(text, last.end):
        return False
    if rest.lstrip(" \t").startswith(("\n", "\r")):
        return first.part in OPENING or first.named or first.part == HEADER
    return ((first is not last or first.part == OPEN) and last.named) or (
        first.named
        and first.part in (SYSTEM, USER)
        and "[" not in first.token
        and rest[:1].isupper()
    )


def _label_frame(text: str) -> str:
    """Return the family of a prompt that speakers' labels surround, or ""."""
    end = ENDS.search(text[-LABEL_TAIL:])
    start = STARTS.match(text)
    if end is None:
        if start is None or not start["label"].startswith(("###", "GPT4", "Code User")):
            return ""
        family, part = LABELS[start["label"]]
        listed = LABELLED_LINE.search(text, start.end()) or _is_spoken_of(text, start.end())
        return family if part != ASSISTANT and not listed else ""
    family, label = LABELS[end["label"]][0], end["label"]
    if start is not None and LABELS[start["label"]][1] != ASSISTANT:
        own = LABELS[start["label"]][0]
        return family if own.startswith("plain") else own
    lead = text[: len(text) - len(text[-LABEL_TAIL:]) + end.start()].rstrip()
    opening = ALPACA_START if label.startswith("###") else OPENINGS.get(label, NEXT_SPEAKER)
    found = opening.search(text)
    if found is None:
        invites = label.startswith("###") or label == "ASSISTANT"
        return family if invites and lead[-1:] in tuple(".?!") and not ABOUT.search(lead) else ""
    return "" if text[: found.start()].rstrip().endswith((":", "?")) else family


# ---------------------------------------------------------------- answers


def _answer_hits(example: Example, side: str, answer: str, marks: list[Mark]) -> Iterator[Hit]:
    text = as_ascii(_ends_of(answer))
    own = marks_in(text)
    if own and (hit := _token_hit(text, own, example)) is not None:
        marks += own
        kind, at = hit
        yield Hit(kind, side, "", _around(text, at))
    start = STARTS.match(text)
    if start is not None and _is_answer_frame(text, start) and not _asks_for_labels(example.prompt):
        yield Hit(FRAME, side, LABELS[start["label"]][0], _around(text, 0))
    elif (found := _next_speaker(text, example)) is not None:
        yield Hit(NEXT_TURN, side, LABELS[found[0]][0], _around(text, found[1]))
    if repeats_prompt(example, answer):
        yield Hit(REPEATED, side, "", _around(text, 0))
    if is_in_prompt(example, answer):
        last = example.prompt[-1].content
        yield Hit(INCLUDED, side, "", _around(last, len(last)))


def _token_hit(text: str, marks: Sequence[Mark], example: Example) -> tuple[str, int] | None:
    """Return the kind of the marks in an answer and their place; None if they are mentioned."""
    first = marks[0]
    lead = text[: first.start]
    if not lead.strip() and first.part != OTHER:
        framed = first.part != BEGIN or len(marks) > 1
        closed = first.part != END and first.token != "<s>"
        closed = closed and _ends_in_token(text, marks, strict=False)
        if framed and (_is_frame(text, marks) or _answers(text, marks) or closed):
            return FRAME, first.start
    if _mentions_marks(example.prompt):
        return None
    if first.part == END and not _is_mentioned(text, first) and not _is_within(lead):
        after = marks[1] if len(marks) > 1 else None
        joined = after is not None and not text[first.end : after.start].strip()
        if after is not None and joined and after.part in (*OPENING, ASSISTANT, HEADER):
            return NEXT_TURN, after.start
        label = STARTS.match(text, first.end)
        if label is not None and LABELS[label["label"]][1] == USER:
            return NEXT_TURN, first.end
    if _ends_in_token(text, marks, strict=False):
        return ENDED, marks[-1].start
    if first.part == END and _stands_between_sentences(text, first):
        return ENDED, first.start
    return _opened_turn(text, marks, example)


def _answers(text: str, marks: Sequence[Mark]) -> bool:
    """Tell whether an answer begins with the mark that asks for it: `[/INST] Yes.`"""
    opening = next((mark for mark in marks if mark.part == ASSISTANT), None)
    if opening is None or (text[: opening.start].strip() and marks[0].part != BEGIN):
        return False
    word = FIRST_WORD.match(text, opening.end)
    return word is not None and word.group(1).lower() not in AFTER


def _ends_in_token(text: str, marks: Sequence[Mark], *, strict: bool) -> bool:
    """Tell whether a text is closed by an end token: at its very end, and not as the last word of
    a sentence about it.

    Args:
      strict: a blank in front of it only counts behind the end of a sentence.
    """
    last = marks[-1]
    opens = last.part == OPEN and last.token.startswith("<extra_id_") and not last.named
    if (last.part != END and not opens) or text[last.end :].strip():
        return False
    first = len(marks) - 1
    while first and not text[marks[first - 1].end : marks[first].start].strip():
        first -= 1
    if _is_mentioned(text, marks[first]):
        return False
    lead = text[: marks[first].start]
    if any(mark.part != END for mark in marks[:first]):
        return False  # a template is listed, or HTML is struck out
    if lead.rstrip()[-1:] in SENTENCE_ENDS or not lead.strip():
        if strict and not lead.strip():
            return False  # a prompt of nothing else asks what it is
        return not first or lead[-1:] in SENTENCE_ENDS
    apart = lead[-1:].isspace() and not new_line(lead)
    listed = LABELLED_LINE.search(lead) is not None
    return not (listed or (strict and apart) or _is_within(lead))


def _is_within(lead: str) -> bool:
    """Tell whether the sentence that begins in `lead` goes on with a mark as its next word.

    " Paris </s>" is an answer; "Generation goes on until </s>" is about the mark.
    """
    bare = lead.rstrip()
    ended = bare[-1:] in SENTENCE_ENDS or bare.endswith("```") or new_line(lead)
    return lead[-1:].isspace() and not ended and len(lead.split(None, WORDS)) > WORDS


def _is_mentioned(text: str, mark: Mark) -> bool:
    """Tell whether the words in front of a mark speak of it."""
    lead = text[: mark.start]
    bare = lead.rstrip()
    if not bare:
        return False
    if bare[-1] in ":=(,;–—-→|<" or (bare[-1] in "\"'`" and not lead[-1:].isspace()):
        quoted = bare[-1] in "\"'`" and bare.count(bare[-1]) % 2 == 0
        return not quoted
    word = bare.rsplit(None, 1)[-1].strip("*_").lower().replace("’", "'")
    return lead != bare and not new_line(lead) and (word in BEFORE or word.endswith("'s"))


def _stands_between_sentences(text: str, mark: Mark) -> bool:
    """Tell whether an end token inside an answer ends a sentence: `Yes.</s> And more.`"""
    lead, rest = text[: mark.start], text[mark.end :]
    joined = lead[-1:] in SENTENCE_ENDS
    return joined and (rest[:1].isspace() or rest[:1].isupper()) and not ABOUT.search(text)


def _opened_turn(text: str, marks: Sequence[Mark], example: Example) -> tuple[str, int] | None:
    """Find a turn that a mark opens at the start of a line, behind an answer."""
    for mark in marks:
        lead = text[: mark.start]
        if mark.part == SYSTEM:
            return None  # the next speaker is no system: a template is listed
        opens = mark.part == USER or (mark.part in (OPEN, ASSISTANT) and mark.named)
        last = mark is marks[-1] and not text[mark.end :].strip() and mark.part == USER
        apart = new_line(lead) or (lead[-1:] in SENTENCE_ENDS and not ABOUT.search(text))
        if not opens or not lead.strip() or not (apart or last):
            continue
        if last and _is_mentioned(text, mark):
            return None
        spoken = lead.rstrip()[-1] in ":,;" or lead.rsplit(None, 1)[-1].lower() in BEFORE
        if spoken or ABOUT.search(lead[-300:]) or LABELLED_LINE.search(lead):
            return None
        return NEXT_TURN, mark.start
    return None


def _mentions_marks(prompt: Sequence[Turn]) -> bool:
    """Tell whether a prompt is about marks: it names one without being framed by any."""
    text = as_ascii(_ends_of(prompt[-1].content))
    if MARK.search(text) is None:
        return False
    marks = marks_in(text)
    framed = bool(marks) and (_is_frame(text, marks) or _ends_in_token(text, marks, strict=True))
    return not framed and _label_frame(text) == ""


def _is_spoken_of(text: str, at: int) -> bool:
    """Tell whether the words behind a mark or a label, on its line, speak of it."""
    word = FIRST_WORD.match(text, at)
    return (
        word is not None and word.group(1).lower() in AFTER and "\n" not in text[at : word.start(1)]
    )


def _asks_for_labels(prompt: Sequence[Turn]) -> bool:
    """Tell whether a prompt shows the speakers' labels that an answer then has, as an example."""
    return any(ASKED_LABEL.search(turn.content) for turn in prompt)


def _is_answer_frame(text: str, start: re.Match) -> bool:
    """Tell whether an answer begins with its own speaker's label, or with the whole prompt in
    labels.
    """
    label, (_, part) = start["label"], LABELS[start["label"]]
    if part == ASSISTANT:
        own = label.startswith(("###", "GPT4")) or label in ("ASSISTANT", "Assistant", "assistant")
        if _is_spoken_of(text, start.end()):
            return False
        return own and not re.search(rf"\n[ \t]*{re.escape(label)}{COLON}", text[start.end() :])
    answer = re.search(rf"\n[ \t]*(?:{ANSWERER}){COLON}|\sASSISTANT:", text[start.end() :])
    # a transcript of its own has several turns, and nobody asked for the first of them
    return answer is not None and label.startswith(("###", "GPT4", "USER"))


def _next_speaker(text: str, example: Example) -> tuple[str, int] | None:
    """Find the label of the next speaker behind an answer; None for dialogues that were asked for,
    and for lists of fields such as `User: root`.
    """
    found = NEXT_SPEAKER.search(text)
    if found is None:
        inline = INLINE_SPEAKER.search(text) if "USER:" in text else None
        asked = inline is None or _is_dialogue(text[: inline.start()], example)
        return None if asked or inline is None else ("USER", inline.start())
    label, lead = found["label"], text[: found.start()]
    if not lead.strip() or any(
        code.start() <= found.start() < code.end() for code in CODE.finditer(text)
    ):
        return None
    rest = text[found.end() :]
    if not rest.strip() and lead.rstrip()[-1] != ":":
        return label, found.start()
    if lead.rstrip()[-1] in ":," or NAMED_LINE.search(lead) or _is_field(rest, lead):
        return None
    if _is_dialogue(lead[-300:], example):
        return None
    return label, found.start()


def _is_dialogue(lead: str, example: Example) -> bool:
    return bool(DIALOGUE.search(lead) or DIALOGUE.search(example.prompt[-1].content))


def _is_field(rest: str, lead: str) -> bool:
    """Tell whether a label is one of a list of fields: the next line has another name, which is no
    speaker's.
    """
    following = NAMED_LINE.search(rest)
    if following is None:
        return False
    name = following.group().strip().rstrip(":")
    return "\n" not in rest[: following.start()].strip() and (
        name not in LABELS or LABELS[name][1] == USER
    )


def _around(text: str, at: int) -> str:
    """Cut out the place of a hit."""
    start = max(0, min(at, len(text)) - SNIPPET // 2)
    return text[start : start + SNIPPET]
