"""One hand-written row of every format, with the exact example it means, and the traps of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.data.formats import FORMATS, NAMES, Pairing, named, recognise, transcripts
from accord.data.ledger import RowError
from accord.types import Demonstration, Labelled, Origin, Pair, Turn, UsageError

HERE = Origin("here.jsonl", 1)
ASK = (Turn("user", "Capital of France?"),)
CHAT = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello."), *ASK)

GOOD, BAD = "Paris.", "Lyon."


def user(text="Capital of France?"):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def understood(row, pairing=None):
    """(format's name, examples, notes) of a row."""
    found, seen = recognise(row, pairing=pairing)
    return found.name, found.examples(seen, HERE, row), seen.notes


def pair(prompt=ASK, **extra):
    return Pair(prompt, GOOD, BAD, HERE, extra)


CHAT_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    user("Hi"),
    assistant("Hello."),
    user(),
]
CHAT_SHAREGPT = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "Hi"},
    {"from": "gpt", "value": "Hello."},
    {"from": "human", "value": "Capital of France?"},
]
QUESTION = "Capital of France?"
SIDES = {"chosen": GOOD, "rejected": BAD}
HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Capital of France?\n\nAssistant:"

ROWS = [
    ("trl-explicit", {"prompt": QUESTION, **SIDES, "source": "x"}, pair(source="x")),
    (
        "trl-explicit",
        {"prompt": CHAT_MESSAGES, "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]},
        pair(CHAT),
    ),
    ("trl-explicit", {"prompt": QUESTION, "chosen": [assistant(GOOD)], "rejected": BAD}, pair()),
    ("trl-explicit", {"prompt": CHAT_MESSAGES, **SIDES}, pair(CHAT)),
    ("trl-explicit", {"system": "Be brief.", "prompt": QUESTION, **SIDES}, pair((CHAT[0], *ASK))),
    (
        "trl-implicit",
        {"chosen": [*CHAT_MESSAGES, assistant(GOOD)], "rejected": [*CHAT_MESSAGES, assistant(BAD)]},
        pair(CHAT),
    ),
    (
        "trl-unpaired",
        {"prompt": QUESTION, "completion": BAD, "label": False},
        Labelled(ASK, BAD, False, HERE),
    ),
    ("hh", {"chosen": f"{HH} {GOOD}", "rejected": f"{HH} {BAD}"}, pair(CHAT[1:])),
    ("hh-prompt", {"prompt": HH, "chosen": f" {GOOD}", "rejected": f"{HH} {BAD}"}, pair(CHAT[1:])),
    (
        "ultrafeedback",
        {
            "prompt": QUESTION,
            "chosen": [user(), assistant(GOOD)],
            "rejected": [user(), assistant(BAD)],
            "messages": [user(), assistant(GOOD)],
            "score_chosen": 8.5,
            "score_rejected": 4.0,
        },
        pair(score_chosen=8.5, score_rejected=4.0),
    ),
    (
        "argilla",
        {
            "instruction": QUESTION,
            "chosen_response": GOOD,
            "rejected_response": BAD,
            "chosen_avg_rating": 5.0,
        },
        pair(chosen_avg_rating=5.0),
    ),
    (
        "argilla",
        {"system": "Be brief.", "input": QUESTION, **SIDES, "rating": [9, 7]},
        pair((CHAT[0], *ASK), rating=[9, 7]),
    ),
    (
        "argilla",
        {
            "prompt": QUESTION,
            "chosen": [user(), assistant(GOOD)],
            "rejected": [user(), assistant(BAD)],
            "chosen-rating": 5,
        },
        pair(**{"chosen-rating": 5}),
    ),
    ("orca", {"system": "", "question": QUESTION, **SIDES}, pair()),
    (
        "alpaca",
        {"instruction": "Capital of", "input": "France?", **SIDES},
        pair((Turn("user", "Capital of\nFrance?"),)),
    ),
    (
        "alpaca",
        {
            "instruction": QUESTION,
            "input": "",
            "system": "Be brief.",
            "history": [["Hi", "Hello."]],
            **SIDES,
        },
        pair(CHAT),
    ),
    ("alpaca-outputs", {"instruction": QUESTION, "input": "", "output": [GOOD, BAD]}, pair()),
    (
        "sharegpt",
        {
            "conversations": CHAT_SHAREGPT,
            "chosen": {"from": "gpt", "value": GOOD},
            "rejected": {"from": "gpt", "value": BAD},
        },
        pair(CHAT),
    ),
    (
        "sharegpt-kto",
        {"conversations": [*CHAT_SHAREGPT, {"from": "gpt", "value": GOOD}], "kto_tag": True},
        Labelled(CHAT, GOOD, True, HERE),
    ),
    (
        "openai",
        {
            "input": {"messages": [user()], "parallel_tool_calls": True},
            "preferred_output": [assistant(GOOD)],
            "non_preferred_output": [assistant(BAD)],
        },
        pair(),
    ),
    (
        "ms-swift",
        {"messages": [*CHAT_MESSAGES, assistant(GOOD)], "rejected_response": BAD},
        pair(CHAT),
    ),
    (
        "ms-swift",
        {"messages": [user(), assistant(GOOD)], "rejected_messages": [user(), assistant(BAD)]},
        pair(),
    ),
    (
        "ms-swift-kto",
        {"messages": [user(), assistant(BAD)], "label": 0},
        Labelled(ASK, BAD, False, HERE),
    ),
    (
        "shp",
        {"history": QUESTION, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 2},
        pair(score_A=2),
    ),
    ("shp", {"history": QUESTION, "human_ref_A": GOOD, "human_ref_B": BAD, "labels": 1}, pair()),
    (
        "pku-saferlhf",
        {
            "prompt": QUESTION,
            "response_0": BAD,
            "response_1": GOOD,
            "better_response_id": 1,
            "safer_response_id": 0,
        },
        pair(safer_response_id=0),
    ),
    (
        "pku-saferlhf",
        {"prompt": QUESTION, "response_0": GOOD, "response_1": BAD, "safer_response_id": 0},
        pair(),
    ),
    (
        "webgpt",
        {
            "question": {"full_text": QUESTION, "id": "q1"},
            "answer_0": BAD,
            "answer_1": GOOD,
            "score_0": -0.5,
            "score_1": 0.5,
            "quotes_0": {},
        },
        pair(quotes_0={}, score_chosen=0.5, score_rejected=-0.5),
    ),
    (
        "helpsteer",
        {"prompt": QUESTION, "response_1": BAD, "response_2": GOOD, "preference_strength": 2},
        pair(preference_strength=2),
    ),
    (
        "helpsteer",
        {
            "context": CHAT_MESSAGES,
            "response1": GOOD,
            "response2": BAD,
            "overall_preference": -3,
            "domain": "general",
        },
        pair(CHAT, domain="general", overall_preference=-3),
    ),
    (
        "ranked",
        {"prompt": QUESTION, "responses": [BAD, GOOD], "scores": [1, 9]},
        pair(score_chosen=9.0, score_rejected=1.0),
    ),
    (
        "ranked",
        {"prompt": QUESTION, "completions": [GOOD, BAD], "ranks": [1, 2]},
        pair(rank_chosen=1.0, rank_rejected=2.0),
    ),
    (
        "ranked",
        {
            "instruction": QUESTION,
            "completions": [
                {"response": BAD, "overall_score": 3},
                {"response": GOOD, "overall_score": "8"},
            ],
        },
        pair(score_chosen=8.0, score_rejected=3.0),
    ),
    (
        "ranked",
        {"prompt": HH, "answers": [{"answer": BAD, "rank": 5}, {"answer": GOOD, "rank": 1}]},
        pair(CHAT[1:], rank_chosen=1.0, rank_rejected=5.0),
    ),
    (
        "alpaca-kto",
        {"instruction": QUESTION, "input": "", "output": GOOD, "kto_tag": "true"},
        Labelled(ASK, GOOD, True, HERE),
    ),
    (
        "alpaca-kto",
        {"instruction": "Capital of", "context": "France?", "response": GOOD, "label": "bad"},
        Labelled((Turn("user", "Capital of\nFrance?"),), GOOD, False, HERE),
    ),
    (
        "alpaca-sft",
        {"instruction": QUESTION, "input": "", "output": GOOD},
        Demonstration(ASK, GOOD, HERE),
    ),
    ("prompt-completion", {"prompt": QUESTION, "completion": GOOD}, Demonstration(ASK, GOOD, HERE)),
    ("prompt-completion", {"question": QUESTION, "answer": GOOD}, Demonstration(ASK, GOOD, HERE)),
    (
        "alpaca-sft",
        {"instruction": "Capital of", "context": "France?", "response": GOOD},
        Demonstration((Turn("user", "Capital of\nFrance?"),), GOOD, HERE),
    ),
    (
        "capybara",
        {
            "conversation": [
                {"input": "Hi", "output": "Hello."},
                {"input": QUESTION, "output": "Another answer."},
            ],
            "prompt": "Hi",
            "chosen": [*CHAT_MESSAGES[1:], assistant(GOOD)],
            "rejected": [*CHAT_MESSAGES[1:], assistant(BAD)],
            "chosen_model": "a",
        },
        pair(CHAT[1:], chosen_model="a"),
    ),
    (
        "axolotl",
        {"messages": CHAT_MESSAGES, "chosen": assistant(GOOD), "rejected": assistant(BAD)},
        pair(CHAT),
    ),
    ("messages", {"messages": [*CHAT_MESSAGES, assistant(GOOD)]}, Demonstration(CHAT, GOOD, HERE)),
    (
        "sharegpt-sft",
        {"conversations": [*CHAT_SHAREGPT, {"from": "gpt", "value": GOOD}]},
        Demonstration(CHAT, GOOD, HERE),
    ),
]


@pytest.mark.parametrize(
    ("name", "row", "expected"), ROWS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(ROWS)]
)
def test_a_row_of_the_format(name, row, expected):
    assert understood(row)[:2] == (name, [expected])


def test_every_format_has_a_row_above():
    assert {name for name, _, _ in ROWS} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "row", "expected"), ROWS, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(ROWS)]
)
def test_null_columns_of_a_table_change_nothing(name, row, expected):
    """Parquet gives every row all columns of the file; those of other rows' formats are null."""
    others = {column.split("|")[0] for each in FORMATS for column in each.needs}
    found, examples, _ = understood(dict.fromkeys(others - set(row)) | row)
    assert found == name
    assert (examples[0].prompt, examples[0].completions) == (expected.prompt, expected.completions)


def refusal(row, pairing=None):
    with pytest.raises(RowError) as caught:
        understood(row, pairing)
    return caught.value.reason


def test_an_implicit_prompt_is_never_split_by_character():
    """TRL once made ("Paris ", "London") share nothing and ("New York",
    "New Jersey") share "New ".
    """
    assert (
        refusal({"chosen": "I say New York", "rejected": "I say New Jersey"}) == "ambiguous prompt"
    )


def test_dialogues_that_diverge_early_are_refused():
    chosen = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"
    rejected = "\n\nHuman: a\n\nAssistant: B\n\nHuman: c\n\nAssistant: D"
    assert refusal({"chosen": chosen, "rejected": rejected}) == "diverges before the last turn"
    longer = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": rejected}
    assert refusal(longer) == "diverges before the last turn"
    messages = {"chosen": [user(), assistant("a")], "rejected": [user("Other?"), assistant("b")]}
    assert refusal(messages) == "diverges before the last turn"


def test_hh_splits_at_the_last_assistant_marker_only():
    """A speaker's name inside an answer is text (28 rows of HH harmless-base), a marker's blank is
    layout.
    """
    row = {
        "chosen": "\n\nHuman: a\n\nAssistant:  Human: b",
        "rejected": "\n\nHuman: a\n\nAssistant: Assistant: c ",
    }
    name, (example,), _ = understood(row)
    assert name == "hh"
    assert example == Pair((Turn("user", "a"),), "Human: b", "Assistant: c", HERE)


def test_hh_text_before_the_first_marker_is_the_systems():
    row = {side: f"Be brief.{HH} {said}" for side, said in SIDES.items()}
    assert understood(row)[1] == [pair(CHAT)]


def test_hh_empty_answer_and_open_end():
    asked = "\n\nHuman: a\n\nAssistant:"
    assert refusal({"chosen": f"{asked} ", "rejected": f"{asked} b"}) == "empty answer"
    ends_with_human = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"
    assert (
        refusal({"chosen": ends_with_human, "rejected": ends_with_human + "d"})
        == "not an assistant turn"
    )


def test_a_prompt_that_only_quotes_a_speaker_stays_one_turn():
    asked = "Human: is what some logs begin with. Why?"
    name, (example,), _ = understood({"prompt": asked, **SIDES})
    assert (name, example.prompt) == ("trl-explicit", (Turn("user", asked),))


def test_a_prompt_that_begins_with_the_assistant_is_text():
    asked = "Assistant: a\n\nAssistant:"
    assert understood({"prompt": asked, **SIDES})[:2] == (
        "trl-explicit",
        [pair((Turn("user", asked),))],
    )


def test_answers_may_be_whole_transcripts_beside_a_prompt():
    row = {"prompt": QUESTION, **{side: f"{HH} {said}" for side, said in SIDES.items()}}
    assert understood(row)[1] == [pair(CHAT[1:])]


def test_two_system_texts_are_refused_unless_they_agree():
    """One of the two would be lost: nothing says which of them the author means."""
    assert refusal({"system": "Other.", "prompt": CHAT_MESSAGES, **SIDES}) == "two system texts"
    assert understood({"system": "Be brief.", "prompt": CHAT_MESSAGES, **SIDES})[1] == [pair(CHAT)]


def test_roles_in_capitals():
    assert understood({"prompt": [{"role": "User", "content": QUESTION}], **SIDES})[1] == [pair()]


def test_helpsteer2_turns_in_one_text():
    asked = "Hi\n<extra_id_1>Assistant\nHello.\n<extra_id_1>User\nCapital of France?"
    row = {"prompt": asked, "response_1": GOOD, "response_2": BAD, "preference_strength": -1}
    assert understood(row)[1] == [pair(CHAT[1:], preference_strength=-1)]


LONG = "What is the capital of France?"


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected", "note"),
    [
        (LONG, LONG + " Paris.", LONG + " Lyon.", (" Paris.", " Lyon."), "removed"),
        # one answer quotes the question
        (LONG, LONG + " Paris.", "Lyon.", (LONG + " Paris.", "Lyon."), "kept"),
        (LONG, LONG + " Paris.", LONG, (LONG + " Paris.", LONG), "kept"),  # nothing would be left
        ("Hi", "Hi there", "Hi, what?", ("Hi there", "Hi, what?"), "kept"),  # short: chance
        (LONG, "Paris.", "Lyon.", ("Paris.", "Lyon."), None),
    ],
)
def test_a_prompt_repeated_in_text_answers(prompt, chosen, rejected, expected, note):
    _, (example,), notes = understood({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    assert example.completions == expected
    assert (
        [note] == [n for n in ("removed", "kept") if n in " ".join(notes)] if note else notes == []
    )


def test_one_labelled_answer_that_quotes_its_question_is_kept():
    """28 of 14,541 rows of TruthfulQA: models do answer by repeating the question."""
    _, (example,), notes = understood({"prompt": LONG, "completion": LONG, "label": True})
    assert example.completion == LONG
    assert notes == ["answer begins with the prompt: kept as it is"]


def test_messages_may_carry_more_context_than_the_prompt_column():
    """The prompt column holds the last question, or the first; the answers the dialogue. The
    dialogue is meant.
    """
    whole = {
        "chosen": [*CHAT_MESSAGES, assistant(GOOD)],
        "rejected": [*CHAT_MESSAGES, assistant(BAD)],
    }
    assert understood({"prompt": QUESTION, **whole})[1] == [pair(CHAT)]
    without_system = {side: messages[1:] for side, messages in whole.items()}
    assert understood({"system": "Be brief.", "prompt": "Hi", **without_system})[1] == [pair(CHAT)]


def test_messages_that_do_not_continue_the_prompt_are_refused():
    other = [user("Other?"), assistant("x")]
    assert (
        refusal({"prompt": QUESTION, "chosen": other, "rejected": BAD})
        == "several messages in an answer"
    )
    steps = [assistant("Let me see."), {"role": "tool", "content": "42"}, assistant("42.")]
    assert (
        refusal({"prompt": QUESTION, "chosen": steps, "rejected": BAD})
        == "several messages in an answer"
    )


def test_answers_that_call_a_tool_and_media_are_refused():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    assert refusal({"prompt": QUESTION, "chosen": [call], "rejected": BAD}) == "tool calls"
    assert refusal({"prompt": QUESTION, **SIDES, "images": ["a.png"]}) == "not text"


def test_content_parts():
    parts = [{"type": "text", "text": "Capital of "}, {"type": "text", "text": "France?"}]
    assert understood({"prompt": [{"role": "user", "content": parts}], **SIDES})[1] == [pair()]
    picture = [{"type": "image_url", "image_url": "x"}]
    assert refusal({"prompt": [{"role": "user", "content": picture}], **SIDES}) == "not text"


def test_a_prefill_is_kept_and_noted():
    _, (example,), notes = understood({"prompt": [user(), assistant("It is")], **SIDES})
    assert example.prompt == (*ASK, Turn("assistant", "It is"))
    assert notes == ["prompt ends in an assistant turn: the answer continues it"]


@pytest.mark.parametrize(
    ("label", "desirable"),
    [
        (True, True),
        (False, False),
        (1, True),
        (0, False),
        (1.0, True),
        ("True", True),
        ("false", False),
        ("1", True),
        (-1, False),
        ("-1", False),
        ("+1", True),
        ("Desirable", True),
        ("undesirable", False),
        ("good", True),
        ("bad", False),
        ("chosen", True),
        ("rejected", False),
        ("positive", True),
        ("yes", True),
        ("no", False),
        ("thumbs up", True),
        ("👎", False),
        ("👍", True),
        ("dislike", False),
        ("0.0", False),
    ],
)
def test_labels(label, desirable):
    _, (example,), _ = understood({"prompt": "p", "completion": "c", "label": label})
    assert example.desirable is desirable


@pytest.mark.parametrize("label", [2, 5, "4", -2, 0.5, "maybe", "", [], {}, float("nan")])
def test_wrong_labels(label):
    assert refusal({"prompt": "p", "completion": "c", "label": label}) == "wrong label"


def test_ties_are_no_preference():
    assert (
        refusal({"question": "q", "answer_0": "a", "answer_1": "b", "score_0": 0, "score_1": 0})
        == "tie"
    )
    assert (
        refusal({"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 0})
        == "tie"
    )
    assert refusal({"prompt": "q", "responses": ["a", "b"], "scores": [3, 3]}) == "tie"


def test_equal_scores_and_unsafe_answers_are_noted():
    row = {
        "prompt": "q",
        "chosen": "a",
        "rejected": "b",
        "score_chosen": 7.0,
        "score_rejected": 7.0,
    }
    assert understood(row)[2] == ["chosen and rejected have equal scores"]
    row = {
        "prompt": "q",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    assert understood(row)[2] == ["the better answer is not the safer one"]


FOUR = {"prompt": "q", "responses": ["d", "a", "c", "b"], "scores": [1, 9, 4, 4]}


@pytest.mark.parametrize(
    ("policy", "margin", "pairs"),
    [
        ("best-worst", 0, ["ad"]),
        ("best-worst", 9, []),
        ("adjacent", 0, ["ac", "bd"]),  # c and b are equal: they never make a pair
        ("adjacent", 4, ["ac"]),
        ("all", 0, ["ac", "ab", "ad", "cd", "bd"]),
        ("all", 5, ["ac", "ab", "ad"]),
    ],
)
def test_pairing_policies(policy, margin, pairs):
    pairing = Pairing(policy, margin)
    if not pairs:
        assert refusal(FOUR, pairing) == "tie"
    else:
        assert ["".join(one.completions) for one in understood(FOUR, pairing)[1]] == pairs


def test_ranked_lists_that_do_not_fit():
    assert refusal({"prompt": "q", "responses": ["a", "b"], "scores": [1]}) == "wrong type"
    assert refusal({"prompt": "q", "responses": ["a", "b"], "scores": [1, True]}) == "wrong type"
    assert refusal({"prompt": "q", "responses": ["a"], "scores": [1]}) == "not a comparison"
    assert refusal({"prompt": "q", "responses": [{"score": 1}, {"score": 2}]}) == "wrong type"
    with pytest.raises(UsageError, match="best-worst, adjacent, all"):
        Pairing("random")
    with pytest.raises(UsageError, match="margin"):
        Pairing(margin=float("nan"))


def test_unknown_format_names_the_nearest():
    with pytest.raises(
        RowError, match="columns prompt, chosn, rejected; the nearest format is .*needs chosen"
    ):
        recognise({"prompt": "q", "chosn": "a", "rejected": "b"})
    assert refusal({}) == "unknown format"


def test_a_named_format_is_the_only_one_tried():
    with pytest.raises(RowError, match="the nearest format is openai"):
        recognise({"prompt": "q", **SIDES}, named("openai"))
    with pytest.raises(UsageError, match="no format is called 'trl'.*trl-explicit"):
        named("trl")


@given(st.text(" \n*[]|#aHQ:：人", max_size=40))
def test_what_tells_quickly_that_a_text_begins_with_no_marker_is_never_wrong(text):
    if transcripts._FIRST_MARKER.match(text):
        assert transcripts._MAY_BEGIN.match(text)
