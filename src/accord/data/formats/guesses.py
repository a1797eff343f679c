"""Guesses of what columns mean whose names no format knows, such as good and bad.

A guess is made only where exactly one reading is possible and the row can be read that way. It is
reported with every row that it was made for. Rows that a format reads by its own names are never
guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from itertools import islice, permutations

from accord.data.ledger import RowError
from accord.data.metadata import Content, Metadata, classify, normalised
from accord.data.texts import count_words, is_empty, strings

# (chosen, rejected), as words of a column's name
SIDES = (
    ("chosen", "rejected"),
    ("chosen", "reject"),
    ("good", "bad"),
    ("preferred", "dispreferred"),
    ("preferred", "unpreferred"),
    ("preferred", "nonpreferred"),
    ("preferred", "rejected"),
    ("preferred", "other"),
    ("winner", "loser"),
    ("winning", "losing"),
    ("win", "lose"),
    ("win", "loss"),
    ("won", "lost"),
    ("accepted", "rejected"),
    ("accepted", "declined"),
    ("accept", "reject"),
    ("better", "worse"),
    ("best", "worst"),
    ("pos", "neg"),
    ("positive", "negative"),
    ("liked", "disliked"),
    ("upvoted", "downvoted"),
    ("correct", "incorrect"),
    ("right", "wrong"),
    ("selected", "rejected"),
    ("selected", "unselected"),
    ("desirable", "undesirable"),
    ("desired", "undesired"),
    ("favored", "unfavored"),
    ("favoured", "unfavoured"),
    ("w", "l"),
    ("j", "k"),  # Stack Exchange: response_j has more votes than response_k
)
LETTERS = frozenset("wljk")  # they mean a side only beside a word for an answer
# words of a name that only say that it is an answer
ANSWER = frozenset(
    "response responses answer completion output text reply message messages generation y one"
    " sample conversation".split()
)
# from likely to less likely; only the first tier that the row has is looked at
PROMPTS = (
    ("prompt", "question", "query", "problem"),
    ("prompt_text", "question_text", "user_prompt", "user_query", "user_message", "user_input"),
    (
        "instructions",
        "inputs",
        "input_text",
        "problem_statement",
        "request",
        "ask",
        "user",
        "human",
    ),
    ("task", "post", "x"),
)
# words of a column that says which of two answers is the better one
VERDICT = frozenset(
    "winner preference preferences preferred prefer better best choice chosen label labels score"
    " scores rating ratings rank ranks ranking vote votes verdict selected judge judgment judgement"
    " overall annotation tie reward rewards pick picked".split()
)
LOOKED_AT = 256  # columns
NATIVE = ("prompt", "instruction", "input", "messages", "conversations", "conversation")
COMPLETIONS = (
    ("completion", "response", "answer", "output"),
    ("responses", "targets", "target", "reply", "response_text", "answer_text", "output_text"),
    ("assistant", "assistant_response", "model_response", "bot", "gpt", "generation", "solution"),
)
# role -> names that say it is meant: a suggestion never gives such a column another role
OWN = {
    "prompt": {word for tier in PROMPTS[:3] for word in tier},
    "chosen": {better for better, _ in SIDES} - LETTERS,
    "rejected": {worse for _, worse in SIDES} - LETTERS,
    "completion": {"completion"},
    "label": {"label", "labels", "kto_tag"},
}
LABELS = ("desirable", "is_desirable", "thumbs_up", "liked", "good", "is_good", "is_preferred")

Reads = Callable[[dict], bool]  # whether a row can be read under the names {expected: column}


def guess_label(columns: dict) -> dict[str, str]:
    """Return {"label": column} where an answer has one label under another name; else empty."""
    words = {normalised(name): name for name, value in columns.items() if value is not None}
    found = [words[name] for name in LABELS if name in words and _is_label(columns[words[name]])]
    return {"label": found[0]} if len(found) == 1 else {}


def guess(columns: dict, reads: Reads) -> dict[str, str]:
    """Return {name expected: column} of the only reading that is possible; empty without one."""
    words = {normalised(name): name for name, value in columns.items() if value is not None}
    sides = list(_sides(words, columns))
    if len(sides) > 1:
        return {}
    names: dict[str, str] = {}
    if sides:
        names = dict(zip(("chosen", "rejected"), sides[0], strict=True))
    elif not _completion(words, columns, names):
        return {}
    if not any(name in words and words[name] == name for name in NATIVE):
        asked = _only(words, PROMPTS, set(names.values()))
        if asked is None:
            return {}
        names["prompt"] = asked
    elif "completion" in names and words.get("input") == "input":
        others = [name for name in NATIVE if name in words and name != "input"]
        if not others and _only(words, PROMPTS, set(names.values())) is None:
            names["prompt"] = "input"
    order = ("prompt", "chosen", "rejected", "completion", "output", "label")
    names = {name: names[name] for name in order if name in names and names[name] != name}
    return names if names and reads(names) else {}


def _sides(words: dict[str, str], columns: dict) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns whose names say which answer is the better one."""
    cores: dict[tuple[str, tuple[str, ...]], str] = {}
    for word, name in words.items():
        joined = word.replace("non_", "non").replace("not_preferred", "nonpreferred")
        parts = joined.replace("less_preferred", "nonpreferred").split("_")
        core = [part for part in parts if part not in ANSWER]
        rest = tuple(part for part in parts if part in ANSWER)
        if len(core) == 1 and (rest or core[0] not in LETTERS) and _is_answer(columns[name]):
            cores[core[0], rest] = name
    for better, worse in SIDES:
        for (word, kind), name in cores.items():
            if word == better and (worse, kind) in cores:
                yield name, cores[worse, kind]


def _is_answer(value: object) -> bool:
    """Tell whether a value can be an answer: text, a message, or messages."""
    if isinstance(value, str):
        return bool(value.strip())
    listed = value if isinstance(value, list) else [value]
    return bool(listed) and all(isinstance(each, dict) for each in listed)


def _completion(words: dict[str, str], columns: dict, names: dict[str, str]) -> bool:
    """Find the answer of a row that has only one, and its label."""
    answer = _only(words, COMPLETIONS, set())
    if answer is None or not _is_answer(columns[answer]):
        return False
    names["output" if "instruction" in words else "completion"] = answer
    labels = [words[name] for name in LABELS if name in words and _is_label(columns[words[name]])]
    if len(labels) > 1:
        return False
    if labels and "label" not in words and "kto_tag" not in words:
        names["label"] = labels[0]
    return True


def _is_label(value: object) -> bool:
    return isinstance(value, bool) or str(value).strip().lower() in ("true", "false", "0", "1")


def _only(words: dict[str, str], tiers: tuple, taken: set[str]) -> str | None:
    """Return the only column of the first tier that the row has."""
    for tier in tiers:
        found = [words[name] for name in tier if name in words and words[name] not in taken]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def only_prompt(columns: dict) -> str | None:
    """Return the only column that can be a prompt where no answer stands beside it."""
    words = {normalised(name): name for name, value in columns.items() if value is not None}
    return _only(words, PROMPTS[:3], set())


def candidates(columns: dict) -> tuple[str, str] | None:
    """Return two columns of answers that only a number or letter tells apart, such as response_a
    and response_b, unless no other column may say which of them is the better one.
    """
    pieces: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for name, value in islice(columns.items(), LOOKED_AT):
        found = re.fullmatch(r"(.*?)_?([a-d]|[0-4])", normalised(name))
        if found and ANSWER & {found[1].rstrip("s"), *found[1].split("_")} and _is_answer(value):
            pieces.setdefault((found[1], "a" if found[2].isalpha() else "1"), []).append(
                (found[2], name)
            )
    twins = next((each for each in pieces.values() if len(each) > 1), None)
    if twins is None:
        return None
    one, two = (name for _, name in sorted(twins)[:2])
    used = {name for _, name in twins}
    others = [n for n, value in columns.items() if n not in used and not is_empty(value)]
    told = [n for n in others if VERDICT & set(normalised(n).split("_"))]
    return (one, two) if told else None


def suggest(columns: dict, reads: Reads) -> dict[str, str]:
    """Return the nearest mapping under which the row can be read, for a message; it may be wrong,
    and is never applied. Empty where none can.
    """
    texts = [name for name, value in columns.items() if _may_be_text(name, value)][:6]
    wanted = [("prompt", "chosen", "rejected"), ("prompt", "completion")]
    if candidates(columns):
        return {}  # which of them is the better one changes from row to row
    for roles in wanted:
        here = [role for role in roles if role in columns]
        open_roles = [role for role in roles if role not in here]
        free = [name for name in texts if name not in here]
        if len(open_roles) > len(free) or not open_roles:
            continue
        ways = permutations(free, len(open_roles))
        ranked = sorted(ways, key=lambda way: -sum(map(_likeness, open_roles, way)))
        for way in ranked:  # ties keep the file's own order
            names = dict(zip(open_roles, way, strict=True))
            if not any(map(_exchanged, open_roles, way)) and reads(names):
                return names
    return {}


def _exchanged(role: str, name: str) -> bool:
    """Tell whether a column's own name says that it is something else than this role."""
    words = {normalised(name), normalised(name).rpartition("_")[2]}
    own = {role for role, known in OWN.items() if known & words}
    return bool(own) and role not in own


def _may_be_text(name: str, value: object) -> bool:
    if isinstance(classify(name), Metadata) or not _is_answer(value):
        return False
    return isinstance(classify(name), Content) or any(count_words(each) for each in strings(value))


def _likeness(role: str, name: str) -> float:
    """Score how much a column's name is like a role's, from 0."""
    pieces = set(normalised(name).split("_"))
    known = {
        "prompt": {word for tier in PROMPTS for word in tier},
        "completion": {word for tier in COMPLETIONS for word in tier} | ANSWER,
        "chosen": {better for better, _ in SIDES} | {"a", "1"},
        "rejected": {worse for _, worse in SIDES} | {"b", "2"},
    }[role]
    exact = 2.0 if normalised(name) in known else 0.0
    exact = exact or 1.5 * bool(get_close_matches(normalised(name), [role], 1, 0.75))
    return exact + len(pieces & known) + (0.25 if pieces & ANSWER and role != "prompt" else 0.0)


def readable(read: Callable[[dict], object], columns: dict, rename) -> Reads:
    """Return a test of whether a row can be read under other names."""

    def reads(names: dict) -> bool:
        try:
            read(rename(columns, names))
        except RowError:
            return False
        return True

    return reads
