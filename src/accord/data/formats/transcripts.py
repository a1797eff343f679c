"""Transcripts: whole conversations in one text, with a marker before each turn.

Two questions are answered here, for every format alike: is a prompt a transcript that hands over to
the answer, and is an answer a transcript that ends in it? A marker counts at the start of a line
alone, where the speakers alternate from the human's first turn to the hand-over. Text that only
quotes a speaker stays text, and what is a transcript beyond doubt but cannot be split is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import islice

from accord.data.ledger import RowError
from accord.types import Turn

# A turn of an HH transcript: a blank line, then the speaker. Only the first may stand at the very
# start. "Human:" elsewhere is text: 28 of 2,312 rows of HH harmless-base have it inside an answer.
SPEAKER = re.compile(r"(?:\A\s*|\n\r?\n)(Human|Assistant):")
_HANDS_OVER = re.compile(r"\n\r?\nAssistant:\Z")


@dataclass(frozen=True)
class Family:
    """The markers of one kind of transcript, as data sets print them.

    Args:
      strong: whether a prompt with these markers is a conversation. "Q:" and "A:" are as often the
        form of one question: 159 prompts of UltraFeedback's 1,193 have them, and none "Human:".
    """

    human: str
    answer: str
    system: str = "System"
    strong: bool = True

    @property
    def name(self) -> str:
        return f"{self.human}:/{self.answer}:"

    def role(self, word: str) -> str:
        return {self.human: "user", self.answer: "assistant"}.get(word, "system")


FAMILIES = (
    Family("Human", "Assistant"),
    Family("User", "Assistant"),
    Family("USER", "ASSISTANT", "SYSTEM"),
    Family("HUMAN", "ASSISTANT", "SYSTEM"),
    Family("user", "assistant", "system"),
    Family("human", "assistant", "system"),
    Family("prompter", "assistant", "system"),
    Family("Prompter", "Assistant"),
    Family("Human", "AI"),
    Family("User", "AI"),
    Family("Human", "Bot"),
    Family("User", "Bot"),
    Family("user", "bot", "system"),
    Family("human", "bot", "system"),
    Family("human", "gpt", "system"),
    Family("user", "model", "system"),
    Family("User", "ChatGPT"),
    Family("Human", "ChatGPT"),
    Family("User", "Model"),
    Family("<human>", "<bot>", "<system>"),
    Family("[|Human|]", "[|AI|]", "[|System|]"),
    Family("### Human", "### Assistant", "### System"),
    Family("### User", "### Assistant", "### System"),
    Family("### Instruction", "### Response", "### System"),
    Family("用户", "助手", "系统"),
    Family("H", "A", "S"),
    Family("Q", "A", "S", strong=False),
    Family("Question", "Answer", strong=False),
    Family("问", "答", "系统", strong=False),
)

MOST = 20_000  # turns of one transcript

# The frame of Alpaca's training prompts: another model's template, which the audit names.
_ALPACA_FRAME = re.compile(r"\ABelow is an instruction that|^### Input:", re.MULTILINE)
_LAST_MARKER = re.compile(r"[ \t]*(?:\*\*)?(\S[^\n:：]{0,20}?)(?:\*\*)?[ \t]*[:：]?(?:\*\*)?\s*\Z")
# What every text with a first marker has: a mark, or a colon in its first line. Most texts have
# neither, and are told by it in a tenth of the time.
_MAY_BEGIN = re.compile(r"\s*+(?:(?:\*\*)?\[\||[^\n:：]++[:：])")
_FIRST_MARKER = re.compile(
    r"\s*(?:\*\*)?(\[\|\w{1,12}\|\]|[^\s:：][^\n:：]{0,20}?(?=(?:\*\*)?[ \t]*[:：]))"
)


@dataclass(frozen=True)
class Transcript:
    """A text that was split.

    Args:
      turns: of a prompt without the marker that hands over; of an answer with its last turn.
      family: its markers; None where they are NeMo's tags or HH's blank lines.
      note: what a person should know of the splitting, or "".
      hands_over: whether the prompt ended in the answer's marker; else the answers begin with it.
      text: the prompt as it stands, without blanks around it.
    """

    turns: tuple[Turn, ...]
    family: Family | None
    note: str = ""
    hands_over: bool = True
    text: str = ""


def split_prompt(
    text: str, where: str = "prompt", answers: Sequence[str] = ()
) -> Transcript | None:
    """Split a prompt that is a transcript; None if it is text.

    Args:
      answers: the texts that answer it; they may begin with the marker that hands over.

    Raises:
      RowError: it is a transcript beyond doubt, and its turns do not alternate or no marker hands
        over.
    """
    found = _split_prompt(text, where, answers)
    return replace(found, text=text.strip()) if found else None


def _split_prompt(text: str, where: str, answers: Sequence[str]) -> Transcript | None:
    if found := _tagged(text, where):
        return found
    for family in _ending_in(text):
        for said in _readings(family, text):
            if said[-1] == Turn("assistant", "") and _alternates(said[:-1]):
                is_hh = said[:-1] == _hh_turns(text)
                return Transcript(said[:-1], family, "" if is_hh else _note(where, family))
    if turns := _hh_turns(text):
        return Transcript(turns, FAMILIES[0])
    return _open(text, where, answers)


def split_answer(text: str, where: str = "the answer") -> Transcript | None:
    """Split a text that is a whole transcript and ends in an answer; None if it is not.

    It begins with the human's marker or the system's: an answer may quote a conversation.
    """
    found = _tagged(text, where)
    if found and found.turns[-1].role == "assistant":
        return found
    for family in _beginning_with(text):
        for said in _readings(family, text) if family.answer in text else ():
            if said[-1].role == "assistant" and _alternates(said[:-1]):
                return Transcript(said, family, _note(where, family))
    return None


def note_kept(text: str, where: str) -> str:
    """Return a note on a prompt in the form of questions and answers, which stays text; or ""."""
    for family in _beginning_with(text):
        if not family.strong and any(
            said[-1] == Turn("assistant", "") and len(said) > 2 for said in _readings(family, text)
        ):
            return f"{where} is written as {family.name} kept as text"
    return ""


def is_prompt(value: object) -> bool:
    """Tell whether a value is a prompt that hands over to the answer."""
    try:
        return isinstance(value, str) and split_prompt(value) is not None
    except RowError:
        return True  # reading it says what is wrong


def is_hh(value: object) -> bool:
    """Tell whether a value is text with both speakers' markers, as HH publishes whole dialogues."""
    return isinstance(value, str) and {"Human", "Assistant"} <= set(SPEAKER.findall(value))


def hh_dialogue(value: str) -> tuple[Turn, ...]:
    """Read the turns of an HH transcript; text before the first marker is the system's.

    Blanks around a turn are the transcript's layout, not its content.
    """
    before, *marked = SPEAKER.split(value)
    before = before.strip().removeprefix("System:")
    spoken = tuple(
        Turn(FAMILIES[0].role(who), said.strip())
        for who, said in zip(marked[::2], marked[1::2], strict=True)
    )
    return (Turn("system", before.strip()), *spoken) if before.strip() else spoken


def without_marker(answer: str, family: Family) -> str:
    """Return an answer without the marker that it begins with."""
    found = _marker(family).match(answer.lstrip())
    return answer.lstrip()[found.end() :] if found and found[1] == family.answer else answer


def without_tags(answer: str) -> str:
    """Return an answer without NeMo's attribute line at its start and the tag at its end."""
    bare = _ATTRIBUTES.sub("", answer, count=1)
    ended = bare.rstrip().removesuffix(_END_TAG)
    # only a tag on a line of its own is an end
    return ended.rstrip() if ended.endswith("\n") and ended != bare.rstrip() else bare


def _hh_turns(text: str) -> tuple[Turn, ...]:
    """Read a prompt as HH prints it: blank lines, from the human's turn to a last marker."""
    found = SPEAKER.match(text)
    if found is None or found[1] != "Human" or not _HANDS_OVER.search(text.rstrip()[-20:]):
        return ()
    return hh_dialogue(text)[:-1]


@lru_cache(maxsize=4)  # a prompt is looked at four times
def _ending_in(text: str) -> tuple[Family, ...]:
    """Find the families whose answer's marker is the last line of a text."""
    found = _LAST_MARKER.match(text, text.rstrip().rfind("\n") + 1)
    word = found[1].strip("*") if found else None
    return tuple(
        family
        for family in FAMILIES
        if family.answer == word and family.strong and not _framed(family, text)
    )


def _beginning_with(text: str) -> tuple[Family, ...]:
    """Find the families whose human's or system's marker is the first of a text."""
    found = _FIRST_MARKER.match(text) if _MAY_BEGIN.match(text) else None
    if found is None:
        return ()
    word = found[1].strip("*")
    return tuple(
        family
        for family in FAMILIES
        if word in (family.human, family.system) and not _framed(family, text)
    )


def _framed(family: Family, text: str) -> bool:
    return family.human == "### Instruction" and _ALPACA_FRAME.search(text) is not None


def _readings(family: Family, text: str) -> Iterator[tuple[Turn, ...]]:
    """Split a text at the markers behind blank lines, and then at all that begin a line."""
    markers = list(islice(_marker(family).finditer(text), MOST + 1))
    if len(markers) > MOST:
        raise RowError("too many turns", f"a transcript has over {MOST:,} turns ({family.name}).")
    apart = [each for each in markers if _is_apart(text, each.start())]
    for chosen in (apart, markers) if len(apart) < len(markers) else (markers,):
        if not chosen:
            continue
        ends = [each.start() for each in chosen[1:]] + [len(text)]
        spoken = tuple(
            Turn(family.role(each[1]), text[each.end() : end].strip())
            for each, end in zip(chosen, ends, strict=True)
        )
        if spoken[0] == Turn("system", "") and len(spoken) > 1:
            spoken = spoken[1:]
        before = text[: chosen[0].start()].strip()
        yield (Turn("system", before), *spoken) if before else spoken


def _is_apart(text: str, start: int) -> bool:
    return re.search(r"\n\r?\n\Z", text[max(0, start - 3) : start]) is not None or (
        not text[:start].strip() if start < 100 else False
    )


@cache
def _marker(family: Family) -> re.Pattern:
    words = "|".join(re.escape(word) for word in (family.human, family.answer, family.system))
    colon = "[:：]?" if family.human.startswith("[|") else "[:：]"
    return re.compile(rf"^[ \t]*(?:\*\*)?({words})(?:\*\*)?[ \t]*{colon}(?:\*\*)?", re.MULTILINE)


def _alternates(said: Sequence[Turn]) -> bool:
    """Tell whether the turns go from the human's first to the human's last, each with words."""
    spoken = said[1:] if said and said[0].role == "system" else said
    roles = [turn.role for turn in spoken]
    return (
        len(roles) % 2 == 1
        and roles == (["user", "assistant"] * len(roles))[: len(roles)]
        and all(turn.content for turn in spoken)
    )


def _open(text: str, where: str, answers: Sequence[str]) -> Transcript | None:
    """Split a transcript that does not hand over, where the answers do, or refuse it.

    Raises:
      RowError: speakers alternate from the start and the last one is not the answer's, or a last
        marker hands over and the turns before it do not alternate.
    """
    leads = text.lstrip(" \t\r").startswith("\n")
    for family in _beginning_with(text):
        begins = [_marker(family).match(each.lstrip()) for each in answers]
        handed = bool(answers) and all(m is not None and m[1] == family.answer for m in begins)
        if not family.strong or not (handed or leads or family.answer in text):
            continue
        readings = list(_readings(family, text))
        said = max(filter(_alternates, readings), key=len, default=())
        if said and handed:
            return Transcript(said, family, _note(where, family), hands_over=False)
        both = any({"user", "assistant"} <= _roles(each) for each in readings)
        if len(family.human) == 1:
            continue
        if both:
            raise RowError(
                "transcript cannot be split",
                f"{where} is a transcript ({family.name}) that does not end in '{family.answer}:',"
                " or whose speakers do not alternate; where the answer begins is not said.",
            )
        if said and leads:
            return Transcript(said, family, _note(where, family))
    for family in _ending_in(text):
        if len(family.human) > 1 and any(
            "user" in _roles(each) for each in _readings(family, text)
        ):
            raise RowError(
                "transcript cannot be split",
                f"{where} ends in '{family.answer}:', and before it the speakers"
                f" ({family.name}) do not alternate from the human's turn on.",
            )
    return None


def _roles(said: Sequence[Turn]) -> set[str]:
    return {turn.role for turn in said}


def _note(where: str, family: Family) -> str:
    return f"{where} is a transcript ({family.name}): split at its turns"


# ---------------------------------------------------------------- NeMo's tags

_TAG = re.compile(r"<extra_id_[01]>(System|User|Assistant)[ \t]*(?:\r?\n|\Z)")
_ATTRIBUTES = re.compile(r"\A\s*<extra_id_2>[^\n]*\n?")
_END_TAG = "<extra_id_1>"


def _tagged(text: str, where: str) -> Transcript | None:
    """Split a text at NeMo's tags.

    HelpSteer 2 writes the user's first turn without a tag. Before the user's tag stands the
    system's text.
    """
    if "<extra_id_1>" not in text or not _TAG.search(text):
        return None
    before, *marked = _TAG.split(text.rstrip().removesuffix(_END_TAG))
    said = [
        Turn(who.lower(), _ATTRIBUTES.sub("", words).strip())
        for who, words in zip(marked[::2], marked[1::2], strict=True)
    ]
    if before.strip():
        said.insert(0, Turn("user" if said[0].role == "assistant" else "system", before.strip()))
    if said[0] == Turn("system", ""):
        del said[0]
    if said and said[-1] == Turn("assistant", ""):
        del said[-1]
    user_last = said[:-1] if said and said[-1].role == "assistant" else said
    if not _alternates(user_last):
        raise RowError(
            "transcript cannot be split",
            f"{where} has NeMo's tags (<extra_id_1>User), and its speakers do not alternate.",
        )
    dropped = "; attribute lines (<extra_id_2>) are left out" if "<extra_id_2>" in text else ""
    return Transcript(
        tuple(said), None, f"{where} is a transcript (<extra_id_1>): split at its turns{dropped}"
    )
