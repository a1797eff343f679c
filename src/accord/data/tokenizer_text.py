"""Text on its way into a tokenizer: what the tokenizer changes, and which texts are tokens of its
own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from accord.data.fidelity import THINK, Change
from accord.types import Turn


class Unfit(Exception):
    """The error of a row that cannot be used, for `reason` (one of a few, for counting), with
    details for a person.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class SpecialTexts:
    """Special tokens as text; written in a row they would be taken for the template's own.

    The marks of a think block are no such fault in an answer: they are how it is written.
    """

    everywhere: re.Pattern | None
    in_answers: re.Pattern | None

    @classmethod
    def of(cls, texts: Iterable[str]) -> SpecialTexts:
        found = {text for text in texts if text.strip()}
        return cls(_any_of(found), _any_of({t for t in found if not THINK.fullmatch(t)}))

    def refuse(self, turns: Iterable[Turn]) -> None:
        """Refuse a row with a special token in its text.

        Raises:
          Unfit: names the token.
        """
        for turn in turns:
            pattern = self.in_answers if turn.role == "assistant" else self.everywhere
            if pattern is not None and (found := pattern.search(turn.content)):
                raise Unfit("a special token stands in the text", repr(found.group()))


def _any_of(texts: Iterable[str]) -> re.Pattern | None:
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


# Steps of a tokenizer that keep every character, in a way that decoding undoes.
EXACT = ("ByteLevel", "Digits", "Metaspace", "Prepend", "UnicodeScripts", "FixedLength")


@dataclass(frozen=True)
class TextCheck:
    """A check of what a tokenizer changes in a text before it cuts it into tokens."""

    normalize: Callable[[str], str] | None = None  # None: it changes nothing
    form: str = ""  # "NFC" where it only composes characters
    exact: bool = False  # every text can be decoded back from its tokens, by construction

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> TextCheck:
        """Look at the steps of a tokenizer. One without a Rust backend is not known to be exact."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return cls()
        normal, cuts = _steps(backend.normalizer), _steps(backend.pre_tokenizer)
        normal = [step for step in normal if not _keeps(step)]
        exact = all(map(_keeps, cuts)) and bool(cuts)
        if not normal:
            return cls(None, "", exact)
        if [step.get("type") for step in normal] == ["NFC"]:
            return cls(None, "NFC", exact)
        return cls(backend.normalizer.normalize_str, "", False)

    def changes(self, text: str) -> Iterator[Change]:
        """Yield what the tokenizer changes in a text."""
        if self.form and not unicodedata.is_normalized(self.form, text):  # type: ignore[arg-type]
            made = unicodedata.normalize(self.form, text)  # type: ignore[arg-type]
            yield _changed("the tokenizer composes characters (NFC)", text, made, mild=True)
        if self.normalize is None:
            return
        made = self.normalize(text).replace("▁", " ")
        if made.strip() == text.replace("▁", " ").strip():
            return
        if _letters(made) == _letters(text):
            yield _changed("the tokenizer normalises characters", text, made, mild=True)
        elif _letters(made).casefold() == _letters(text).casefold():
            yield _changed("the tokenizer changes the case of the text", text, made)
        else:
            yield _changed("the tokenizer changes the text", text, made)


def _changed(cause: str, text: str, made: str, mild: bool = False) -> Change:
    both = enumerate(zip(text, made, strict=False))  # up to the end of the shorter one
    at = next((i for i, (a, b) in both if a != b), 0)
    return Change(cause, text[max(0, at - 10) :], made[max(0, at - 10) :], mild)


def _letters(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split())


def _steps(part: Any) -> list[dict]:
    """Return the settings of a normalizer's or pre-tokenizer's steps, in order."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    listed = state.get("normalizers") or state.get("pretokenizers")
    return listed if isinstance(listed, list) else [state]


def _keeps(step: dict) -> bool:
    """Tell whether a step keeps every character."""
    kind = step.get("type")
    if kind == "Replace":
        return step.get("pattern") == {"String": " "} and step.get("content") == "▁"
    if kind in ("Split", "Punctuation"):
        return step.get("behavior") != "Removed"
    return kind in EXACT
