"""The formats, from specific to general, and how a row finds its own.

Each row is judged alone. The first format of the table that matches it reads it; the order is the
only precedence there is, so a new format is one function and one line at the height where it is
more specific than all below.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache

from accord.data.formats import compared, pairs, ranked, single, structured, transcripts
from accord.data.formats.drafts import MATERIAL, SYSTEM, Draft
from accord.data.formats.parts import Row, alternatives
from accord.data.ledger import RowError
from accord.data.metadata import TEMPLATE_COLUMNS
from accord.types import ROW_KINDS, Example, Origin, UsageError


@dataclass(frozen=True)
class Format:
    """One format: which rows belong to it, and what they mean.

    Args:
      kind: what its rows hold, a key of `ROW_KINDS`.
      needs: columns that must be there; "a|b" is either of two.
      convert: reads a row that matches; raises RowError for one that cannot be used.
      reads: further columns that it uses where they are there. All others are kept in `extra`.
      keeps: of the columns it needs, those that stay in `extra`, since a verdict's strength is
        worth having.
      when: a further condition on the row, where columns alone do not tell.
    """

    name: str
    kind: str
    needs: tuple[str, ...]
    convert: Callable[[Row], list[Draft]]
    reads: tuple[str, ...] = (SYSTEM,)
    when: Callable[[Row], bool] = lambda row: True
    keeps: tuple[str, ...] = ()

    @cached_property
    def column_names(self) -> set[str]:
        """Return the names of all columns that it can read."""
        return {name for choice in (*self.needs, *self.reads) for name in choice.split("|")}

    def fits(self, columns: Collection[str]) -> bool:
        """Tell whether a row with these columns may be of the format; `when` tells whether it
        is.
        """
        return all(any(name in columns for name in alternatives(each)) for each in self.needs)

    def columns(self, row: Row) -> set[str]:
        """Return the names of the row's columns that the format uses."""
        names = {row.name(choice) for choice in (*self.needs, *self.reads)}
        return {name for name in names if name is not None}

    def examples(self, row: Row, origin: Origin, columns: dict) -> list[Example]:
        """Return the row's examples, with its origin and those of the row's columns that the format
        does not use.
        """
        drafts = self.convert(row)
        used = self.columns(row) - set(self.keeps)
        used |= self._further(row, drafts)
        kept = {name: value for name, value in columns.items() if name not in used}
        make = ROW_KINDS[self.kind]
        return [
            make(draft.prompt, *draft.answers, origin, kept | draft.extra, draft.inputs)
            for draft in drafts
        ]

    def _further(self, row: Row, drafts: list[Draft]) -> set[str]:
        """Return the columns that were read beside those that the format declares: they stand in
        the examples, or in their inputs of the chat template.
        """
        return {
            name
            for name in row.read - self.column_names
            if name not in TEMPLATE_COLUMNS
            or any(getattr(draft.inputs, TEMPLATE_COLUMNS[name]) for draft in drafts)
        }


def _has_ratings(row: Row) -> bool:
    marks = ("rating", "chosen_model", "chosen-model", "generation")
    return any(mark in name for name in row for mark in marks)


def _is_alpaca(row: Row) -> bool:
    return bool(row.name("input|history")) or not _has_ratings(row)


def _is_hh_prompt(row: Row) -> bool:
    return transcripts.is_prompt(row["prompt"])


CHOSEN, REJECTED, DIALOGUE = pairs.CHOSEN, pairs.REJECTED, pairs.DIALOGUE
PROMPTED = (SYSTEM, "history")
ALPACA = (SYSTEM, MATERIAL, "history")
# second copies of a conversation, which `explicit` compares with the prompt
COPIES = (*PROMPTED, "messages", DIALOGUE)

FORMATS = (
    Format("openai", "pairs", ("input", "preferred_output", "non_preferred_output"), pairs.openai),
    Format(
        "ms-swift", "pairs", ("messages", "rejected_response|rejected_messages"), pairs.ms_swift
    ),
    Format("shp", "pairs", ("history", "human_ref_A", "human_ref_B", "labels"), compared.shp),
    Format(
        "pku-saferlhf",
        "pairs",
        ("prompt", "response_0", "response_1", "better_response_id|safer_response_id"),
        compared.pku,
    ),
    Format(
        "webgpt",
        "pairs",
        ("question", "answer_0", "answer_1", "score_0", "score_1"),
        compared.webgpt,
    ),
    Format(
        "helpsteer",
        "pairs",
        (
            "context|prompt",
            "response1|response_1",
            "response2|response_2",
            "overall_preference|preference_strength",
        ),
        compared.helpsteer,
        keeps=("overall_preference", "preference_strength"),
    ),
    Format(
        "capybara", "pairs", (DIALOGUE, "prompt", CHOSEN, REJECTED), pairs.explicit, reads=COPIES
    ),
    Format("sharegpt", "pairs", (DIALOGUE, "chosen", "rejected"), pairs.sharegpt),
    Format(
        "ultrafeedback",
        "pairs",
        ("prompt", "chosen", "rejected", "score_chosen", "score_rejected"),
        pairs.ultrafeedback,
        reads=COPIES,
        keeps=("score_chosen", "score_rejected"),
    ),
    Format(
        "hh-prompt",
        "pairs",
        ("prompt", CHOSEN, REJECTED),
        pairs.explicit,
        reads=COPIES,
        when=_is_hh_prompt,
    ),
    Format(
        "argilla",
        "pairs",
        ("prompt", CHOSEN, REJECTED),
        pairs.explicit,
        reads=COPIES,
        when=_has_ratings,
    ),
    Format("trl-explicit", "pairs", ("prompt", CHOSEN, REJECTED), pairs.explicit, reads=COPIES),
    Format(
        "alpaca",
        "pairs",
        ("instruction", "chosen", "rejected"),
        pairs.explicit,
        (*ALPACA, "messages", DIALOGUE),
        _is_alpaca,
    ),
    Format(
        "alpaca-outputs",
        "pairs",
        ("instruction", "output"),
        pairs.alpaca_outputs,
        ALPACA,
        pairs.is_two_outputs,
    ),
    Format(
        "argilla",
        "pairs",
        ("instruction|input", CHOSEN, REJECTED),
        pairs.explicit,
        reads=(*ALPACA, "messages", DIALOGUE),
    ),
    Format("orca", "pairs", ("question", CHOSEN, REJECTED), pairs.explicit, reads=COPIES),
    Format("axolotl", "pairs", ("messages", "chosen", "rejected"), pairs.axolotl),
    Format(
        "ranked",
        "pairs",
        (ranked.PROMPT, ranked.ANSWERS),
        ranked.ranked,
        reads=(*ALPACA, f"{ranked.SCORES}|{ranked.RANKS}"),
        when=ranked.is_ranked,
    ),
    Format("hh", "pairs", ("chosen", "rejected"), pairs.hh, when=pairs.is_transcripts),
    Format("trl-implicit", "pairs", ("chosen", "rejected"), pairs.implicit),
    Format(
        "ms-swift",
        "pairs",
        ("instruction|prompt|question", pairs.ANSWER, pairs.BESIDE),
        pairs.beside_rejected,
        reads=ALPACA,
        when=pairs.is_unlabelled,
    ),
    Format("sharegpt-kto", "labelled", (DIALOGUE, single.LABEL), single.conversation_label),
    Format(
        "alpaca-kto",
        "labelled",
        ("instruction", single.OUTPUT, single.LABEL),
        single.alpaca_label,
        reads=ALPACA,
    ),
    Format(
        "trl-unpaired",
        "labelled",
        ("prompt|question", single.COMPLETION, single.LABEL),
        single.unpaired,
        reads=PROMPTED,
    ),
    Format("ms-swift-kto", "labelled", ("messages", single.LABEL), single.conversation_label),
    Format(
        "alpaca-sft",
        "demonstrations",
        ("instruction", single.OUTPUT),
        single.alpaca_output,
        reads=ALPACA,
    ),
    Format(
        "prompt-completion",
        "demonstrations",
        ("prompt|question", single.COMPLETION),
        single.completion,
        reads=PROMPTED,
    ),
    Format("sharegpt-sft", "demonstrations", (DIALOGUE,), single.conversation),
    Format("messages", "demonstrations", ("messages",), single.conversation),
)

NAMES = tuple(dict.fromkeys(each.name for each in FORMATS))


def named(name: str) -> tuple[Format, ...]:
    """Return the formats to try: all of them for "auto", else those of that name."""
    if name == "auto":
        return FORMATS
    found = tuple(each for each in FORMATS if each.name == name)
    if not found:
        raise UsageError(f"no format is called {name!r}. Known: auto, {', '.join(NAMES)}.")
    return found


def recognise(
    columns: dict, formats: tuple[Format, ...] = FORMATS, pairing: ranked.Pairing | None = None
):
    """Find the format of a row; return it, and the row as that format's function wants it.

    Columns that are null do not count as there: a table fills the columns that a row lacks with
    nulls. Only where no format matches without them are they looked at, so that the message can say
    which one is null.

    Raises:
      RowError: no format matches; names the row's columns, the nearest format and what it lacks.
    """
    pairing = pairing or ranked.Pairing()
    insisted = None if formats is FORMATS else formats[0].name
    decoded = structured.decode(columns, insisted)
    present = {name: value for name, value in decoded.columns.items() if value is not None}
    for seen in (present, decoded.columns) if len(present) < len(columns) else (present,):
        row = Row(seen, pairing)
        whole = formats is FORMATS
        fitting = _fitting(tuple(seen)) if whole else [f for f in formats if f.fits(seen)]
        for each in fitting:
            if each.when(row):
                decoded.settle(sorted(each.columns(row)), row.notes)
                row.read.clear()  # to look at a value is not to read it
                return each, row
    raise RowError("unknown format", _nearest(columns, formats))


@lru_cache(maxsize=64)  # most rows of a file have the same columns
def _fitting(columns: tuple[str, ...]) -> tuple[Format, ...]:
    """Return the formats of the table that rows with these columns may be of."""
    return tuple(each for each in FORMATS if each.fits(columns))


def _nearest(columns: dict, formats: tuple[Format, ...]) -> str:
    row = Row(columns)
    nearest = max(
        formats, key=lambda each: sum(map(bool, map(row.name, each.needs))) / len(each.needs)
    )
    lacks = [choice.replace("|", " or ") for choice in nearest.needs if row.name(choice) is None]
    has = ", ".join(str(name)[:40] for name in list(columns)[:12]) or "none"
    missing = (
        f"which also needs {', '.join(lacks)}" if lacks else "whose columns hold something else"
    )
    return f"columns {has}; the nearest format is {nearest.name}, {missing}."
