"""Read IFEval's own rows, `instruction_id_list` and `kwargs`, as the constraints of constraints.py.

Two of its 25 kinds are unknown here and are counted as such: response_language needs a language
identifier, and nth_paragraph_first_word is not built. Ours are its strict checks. Words are split
at blanks; IFEval uses NLTK's tokenizer.

Source: Zhou et al. 2023, arXiv:2311.07911, Table 1; google-research/instruction_following_eval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def _bounds(relation: str, count: int) -> dict[str, int]:
    """Translate IFEval's "at least" and "less than".

    Raises:
      KeyError: any other relation.
    """
    return {"at least": {"at_least": count}, "less than": {"at_most": count - 1}}[relation]


READERS: dict[str, Callable[[Mapping], dict]] = {
    "punctuation:no_comma": lambda k: {"kind": "no_comma"},
    "length_constraints:number_words": lambda k: {
        "kind": "words",
        **_bounds(k["relation"], k["num_words"]),
    },
    "length_constraints:number_sentences": lambda k: {
        "kind": "sentences",
        **_bounds(k["relation"], k["num_sentences"]),
    },
    "length_constraints:number_paragraphs": lambda k: {
        "kind": "paragraphs",
        "count": k["num_paragraphs"],
        "divider": "***",
    },
    "keywords:existence": lambda k: {"kind": "include", "keywords": k["keywords"]},
    "keywords:forbidden_words": lambda k: {"kind": "exclude", "keywords": k["forbidden_words"]},
    "keywords:frequency": lambda k: {
        "kind": "frequency",
        "text": k["keyword"],
        **_bounds(k["relation"], k["frequency"]),
    },
    "keywords:letter_frequency": lambda k: {
        "kind": "frequency",
        "text": k["letter"],
        **_bounds(k["let_relation"], k["let_frequency"]),
    },
    "change_case:english_lowercase": lambda k: {"kind": "lower_case"},
    "change_case:english_capital": lambda k: {"kind": "upper_case"},
    "change_case:capital_word_frequency": lambda k: {
        "kind": "capital_words",
        **_bounds(k["capital_relation"], k["capital_frequency"]),
    },
    "startend:quotation": lambda k: {"kind": "quoted"},
    "startend:end_checker": lambda k: {"kind": "ends_with", "text": k["end_phrase"]},
    "detectable_format:title": lambda k: {"kind": "title"},
    "detectable_format:json_format": lambda k: {"kind": "json_only"},
    "detectable_format:number_bullet_lists": lambda k: {
        "kind": "bullets",
        "count": k["num_bullets"],
    },
    "detectable_format:number_highlighted_sections": lambda k: {
        "kind": "highlights",
        "at_least": k["num_highlights"],
    },
    "detectable_format:multiple_sections": lambda k: {
        "kind": "frequency",
        "text": k["section_spliter"],
        "at_least": k["num_sections"],
    },
    "detectable_format:constrained_response": lambda k: {
        "kind": "one_of",
        "texts": ["My answer is yes.", "My answer is no.", "My answer is maybe."],
    },
    "detectable_content:number_placeholders": lambda k: {
        "kind": "placeholders",
        "at_least": k["num_placeholders"],
    },
    "detectable_content:postscript": lambda k: {
        "kind": "frequency",
        "text": k["postscript_marker"],
        "at_least": 1,
    },
    "combination:repeat_prompt": lambda k: {"kind": "starts_with", "text": k["prompt_to_repeat"]},
    "combination:two_responses": lambda k: {"kind": "paragraphs", "count": 2, "divider": "******"},
}


def stated(row: Mapping) -> list[object] | None:
    """Return a row's constraints: its own `constraints`, or IFEval's columns; None if it has
    neither.

    A kind that is unknown or lacks an argument keeps IFEval's name; constraints.py reports it.
    """
    names = row.get("instruction_id_list")
    if not isinstance(names, list):
        return row.get("constraints")
    arguments = row.get("kwargs")
    given = arguments if isinstance(arguments, list) else []
    return [_read(str(name), given[i] if i < len(given) else {}) for i, name in enumerate(names)]


def _read(name: str, arguments: object) -> dict:
    try:
        return READERS[name](arguments if isinstance(arguments, Mapping) else {})
    except (KeyError, TypeError):
        return {"kind": name}
