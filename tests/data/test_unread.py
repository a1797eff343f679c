"""Every column and message key is used, known, named, or refused; and nothing right is refused."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.formats.parts import Row
from accord.data.metadata import METADATA, Content, Metadata, classify
from accord.data.read import read, stream
from accord.data.texts import TextSketch, count_words, is_empty
from accord.types import DataError

WORDS = "the cat sat on a mat and saw red birds fly while nobody looked out of it again".split()


def text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def user(said: str) -> dict:
    return {"role": "user", "content": said}


def model(said: str) -> dict:
    return {"role": "assistant", "content": said}


@pytest.fixture
def write(tmp_path):
    def put(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return put


def pairs(n: int = 20, **beside) -> list[dict]:
    """Pairs with further columns: a value, or a function from a random generator to one."""
    rng = random.Random(7)
    rows = []
    for _ in range(n):
        row = {"prompt": text(rng, 6), "chosen": text(rng, 8), "rejected": text(rng, 7) + "!"}
        rows.append(row | {k: v(rng) if callable(v) else v for k, v in beside.items()})
    return rows


def account(path, kind="pairs", **options):
    dataset = read(path, kind, **options)
    return dataset.ledger.columns.as_dict(), dataset.ledger.columns.keys_as_dict()


# ---------------------------------------------------------------- public data sets

T, LONG = (lambda rng: text(rng, 8)), (lambda rng: text(rng, 30))
ID, NUMBER, MARK = (lambda rng: f"{rng.random()}"), (lambda rng: rng.random()), True
SHA = lambda rng: f"{rng.getrandbits(256):064x}"  # noqa: E731
NAME = lambda rng: rng.choice(["gpt-4", "llama-2-70b-chat", "a model of ours"])  # noqa: E731
LABEL = lambda rng: rng.choice(["world history", "maths", "open question answering"])  # noqa: E731
DATE, URL = "2023-04-05 10:20:30", (lambda rng: f"https://example.org/{rng.random()}/some-page")
TALK = lambda rng: [user(text(rng, 6)), model(text(rng, 9))]  # noqa: E731
SEVERAL = lambda rng: [text(rng, 20) for _ in range(4)]  # noqa: E731


def talks(rng):
    asked = text(rng, 6)
    return {
        side: [user(asked), model(text(rng, n))] for side, n in (("chosen", 9), ("rejected", 8))
    }


def messages_copy(rng):
    both = talks(rng)
    return both | {"messages": both["chosen"], "prompt": both["chosen"][0]["content"]}


def with_first_turn(rng):
    said = TALK(rng)
    return {"messages": said, "prompt": said[0]["content"]}


def alpaca_text(rng):
    row = {"instruction": text(rng, 6), "input": "", "output": text(rng, 9)}
    return row | {"text": f"Below is a task.\n{row['instruction']}\n### Answer:\n{row['output']}"}


def completion_copy(rng):
    chosen = text(rng, 9)
    return {"prompt": text(rng, 6), "response": chosen, "chosen": chosen, "rejected": text(rng, 7)}


PCR = {"prompt": T, "chosen": LONG, "rejected": T}
ULTRA = {
    "annotations": {"honesty": {"Rating": "4", "Rationale": "It says what it does not know."}},
    "custom_system_prompt": "As an honest assistant, say what you do not know at all times.",
    "model": "gpt-4",
    "critique": "This answer is good, but it could be shorter than it is now, I think.",
    "fine-grained_score": 4.0,
}

# name -> (kind, columns, names that nothing reads although they carry content, names reported)
PUBLIC = {
    "ultrafeedback_binarized": (
        "pairs",
        [messages_copy, {"prompt_id": SHA, "score_chosen": NUMBER, "score_rejected": NUMBER}],
    ),
    "ultrafeedback-binarized-preferences-cleaned": (
        "pairs",
        [
            PCR,
            {"source": LABEL, "chosen-rating": NUMBER, "chosen-model": NAME},
            {"rejected-rating": NUMBER, "rejected-model": NAME},
        ],
    ),
    "ultrafeedback-binarized-preferences": (
        "pairs",
        [
            {"instruction": T, "chosen_response": LONG, "rejected_response": T, "source": LABEL},
            {"chosen_avg_rating": NUMBER, "rejected_avg_rating": NUMBER, "chosen_model": NAME},
        ],
    ),
    "UltraFeedback": (
        "pairs",
        [
            {"source": LABEL, "instruction": T, "models": ["a", "b"]},
            {"correct_answers": ["None"], "incorrect_answers": ["None"]},
            lambda rng: {
                "completions": [
                    ULTRA | {"response": text(rng, 9), "overall_score": score} for score in (2, 8)
                ]
            },
        ],
    ),
    "hh-rlhf": (
        "pairs",
        [
            lambda rng: {
                side: f"\n\nHuman: one two?\n\nAssistant: {text(rng, 9)}"
                for side in ("chosen", "rejected")
            }
        ],
    ),
    "SHP": (
        "pairs",
        [
            {"history": LONG, "human_ref_A": LONG, "human_ref_B": T, "labels": 1},
            {"post_id": ID, "domain": "askbaking_train", "upvote_ratio": NUMBER},
            {"c_root_id_A": ID, "c_root_id_B": ID, "created_at_utc_A": 1, "created_at_utc_B": 2},
            {"score_A": 5, "score_B": 3, "seconds_difference": NUMBER, "score_ratio": NUMBER},
        ],
    ),
    "PKU-SafeRLHF": (
        "pairs",
        [
            {"prompt": T, "response_0": LONG, "response_1": T, "better_response_id": 0},
            {"prompt_source": "Alpaca3-8B", "response_0_source": NAME, "response_1_source": NAME},
            {"is_response_0_safe": True, "is_response_1_safe": False, "safer_response_id": 0},
            {"response_0_harm_category": {"Privacy Violation": False, "Animal Abuse": True}},
            {"response_1_severity_level": 0, "response_0_sha256": SHA, "response_1_sha256": SHA},
        ],
    ),
    "HelpSteer": (
        "demonstrations",
        [
            {"prompt": T, "response": LONG, "helpfulness": 3, "correctness": 4, "coherence": 4},
            {"complexity": 2, "verbosity": 2},
        ],
    ),
    "HelpSteer2 preference": (
        "pairs",
        [
            {"split": "train", "prompt": T, "response_1": LONG, "response_2": T},
            {"preference_strength": -2, "preference_statement": LONG},
            {"preference_elaboration": LONG, "all_preferences_unprocessed": [{"elaboration": "x"}]},
            {"three_most_similar_preferences": [{"statement": "It is better in all that counts."}]},
        ],
    ),
    "HelpSteer3": (
        "pairs",
        [
            {"domain": "general", "language": "english", "context": TALK, "overall_preference": -2},
            {"response1": LONG, "response2": T},
            {"individual_preference": [{"score": -2, "reasoning": "The first one says it all."}]},
            lambda rng: {"context": [user(text(rng, 9))]},
        ],
    ),
    "Nectar": (
        "pairs",
        [
            {"prompt": "\n\nHuman: one two?\n\nAssistant: ", "turns": 1, "num_responses": 2},
            {"source": ["sharegpt"], "good_natured": True},
            lambda rng: {
                "answers": [
                    {"answer": text(rng, 9), "model": "gpt-4", "rank": float(rank)}
                    for rank in (1, 2)
                ]
            },
        ],
    ),
    "orca_dpo_pairs": ("pairs", [{"system": T, "question": T, "chosen": LONG, "rejected": T}]),
    "distilabel-intel-orca-dpo-pairs": (
        "pairs",
        [
            {"system": T, "input": T, "chosen": LONG, "rejected": T, "order": ["a", "b"]},
            {"generations": SEVERAL, "labelling_model": "gpt-4", "labelling_prompt": TALK},
            {"raw_labelling_response": LONG, "rating": [9.0, 3.0], "rationale": LONG},
            {"status": "unchanged", "original_chosen": LONG, "original_rejected": LONG},
            {"chosen_score": 9.0, "in_gsm8k_train": False},
        ],
    ),
    "capybara-dpo (binarized talks)": (
        "pairs",
        [
            talks,
            {"source": "Airoboros", "original_response": LONG, "generation_prompt": SEVERAL},
            {"raw_generation_responses": SEVERAL, "new_generations": SEVERAL},
            {"rating_chosen": 5, "rating_rejected": 3, "chosen_model": NAME, "turns": 1},
        ],
    ),
    "distilabel-math-preference-dpo": (
        "pairs",
        [
            {"metadata": {"length": 3}, "instruction": T, "chosen_response": LONG},
            {"rejected_response": T, "chosen_rating": 9.0, "rejected_rating": 3.0},
        ],
    ),
    "dpo-mix-7k": (
        "pairs",
        [talks, {"dataset": LABEL, "chosen_rating": 5.0, "rejected_rating": 3.0}],
    ),
    "orpo-dpo-mix-40k": (
        "pairs",
        [talks, {"source": "truthy_dpo"}, lambda rng: {"question": None}],
    ),
    "kto-mix-14k": (
        "labelled",
        [
            {"prompt": lambda rng: [user(text(rng, 9))], "label": True, "dataset": LABEL},
            {"completion": lambda rng: [model(text(rng, 9))]},
        ],
    ),
    "OpenOrca": ("demonstrations", [{"id": ID, "system_prompt": T, "question": T, "response": T}]),
    "dolly": (
        "demonstrations",
        [{"instruction": T, "context": LONG, "response": T, "category": "open_qa"}],
    ),
    "tulu-3-preference-mixture": (
        "pairs",
        [talks, {"id": ID, "source": "ai2", "chosen_model": NAME, "rejected_model": NAME}],
    ),
    "Skywork-Reward-Preference": ("pairs", [talks, {"source": "magpie"}]),
    "Magpie DPO": (
        "pairs",
        [
            talks,
            {"uuid": ID, "intent": T, "knowledge": LONG, "difficulty": "easy"},
            {"input_quality": "good", "quality_explanation": LONG, "task_category": "Coding"},
            {"other_task_category": ["Data analysis"], "gen_input_configs": {"temperature": 1.0}},
            {"llama_guard_2": "safe", "instruct_reward": NUMBER, "min_neighbor_distance": NUMBER},
            {"repeat_count": 3, "min_similar_uuid": ID, "language": "EN"},
        ],
    ),
    "webgpt_comparisons": (
        "pairs",
        [
            {"answer_0": LONG, "answer_1": T, "score_0": 1.0, "score_1": -1.0},
            {"quotes_0": {"title": ["A page of it"], "extract": ["so it is said on that page"]}},
            {"tokens_0": {"prefix": [1, 2]}, "tokens_1": {"prefix": [3]}},
            lambda rng: {"question": {"dataset": "eli5", "id": "x1", "full_text": text(rng, 9)}},
        ],
    ),
    "OpenHermesPreferences": (
        "pairs",
        [
            talks,
            {"source": LABEL, "category": LABEL, "candidates_completions": SEVERAL},
            {"candidate_policies": ["Mixtral", "Yi-34B"], "ranks": [1, 2], "rank_str": "1>2"},
            {"chosen_policy": NAME, "rejected_policy": NAME},
        ],
    ),
    "stack-exchange-paired": (
        "pairs",
        [
            {"qid": 5, "question": LONG, "date": "2011/10/03", "response_j": LONG, "response_k": T},
            {"metadata": ["https://x.org/questions/1", "https://x.org/users/2"]},
        ],
    ),
    "reward-bench": (
        "pairs",
        [PCR, {"chosen_model": NAME, "rejected_model": NAME, "subset": "alpacaeval-easy", "id": 1}],
    ),
    "truthy-dpo": ("pairs", [PCR, {"id": SHA, "source": "truthy_dpo", "system": T}]),
    "Code-Preference-Pairs": ("pairs", [{"ID": 1, "input": T, "accepted": LONG, "rejected": T}]),
    "Snorkel-PairRM": (
        "pairs",
        [
            talks,
            {"prompt_id": SHA, "all_generated_responses": SEVERAL, "all_rm_scores": [0.1, 0.2]},
            lambda rng: {},
        ],
    ),
    "no_robots": ("demonstrations", [with_first_turn, {"prompt_id": SHA, "category": "Chat"}]),
    "ultrachat_200k": ("demonstrations", [with_first_turn, {"prompt_id": SHA}]),
    "rm-static": ("pairs", [completion_copy]),
    "openai_summarize_comparisons": ("pairs", [PCR]),
    "Math-Step-DPO": (
        "pairs",
        [
            PCR,
            {"dataset": "MATH", "initial_reason_steps": LONG, "answer": "12", "full_chosen": LONG},
        ],
        {"initial_reason_steps"},
    ),
    "alpaca": ("demonstrations", [alpaca_text]),
    "MetaMathQA": (
        "demonstrations",
        [{"query": T, "response": LONG, "type": "GSM_Rephrased", "original_question": T}],
    ),
    "aya": (
        "demonstrations",
        [
            {"inputs": T, "targets": LONG, "language": "Standard Malay", "language_code": "zsm"},
            {"annotation_type": "original-annotations", "user_id": SHA},
        ],
    ),
    "Open-Platypus": (
        "demonstrations",
        [{"instruction": T, "input": "", "output": LONG, "data_source": "MATH/PRM-800K"}],
    ),
    "smoltalk": ("demonstrations", [{"messages": TALK, "source": "smol-magpie"}]),
    "sql-create-context": (
        "demonstrations",
        [{"question": T, "context": LONG, "answer": LONG}],
        {"context"},
    ),
    "zsql-dpo": (
        "pairs",
        [{"schema": LONG, "question": T, "chosen": LONG, "rejected": T, "weight": 0.5}],
        {"schema"},
    ),
    "gsm8k": ("demonstrations", [{"question": T, "answer": LONG}]),
    "permissive mix": ("pairs", [PCR, {"source": LABEL, "license": "apache-2.0"}]),
}


def public_rows(columns: list, n: int = 24) -> list[dict]:
    rng = random.Random(3)
    rows = []
    for _ in range(n):
        row: dict = {}
        for part in columns:
            found = part(rng) if callable(part) else part
            row |= {k: v(rng) if callable(v) else v for k, v in found.items()}
        rows.append(row)
    return rows


@pytest.mark.parametrize("name", PUBLIC)
def test_public_data_sets(name, write):
    kind, columns, *rest = PUBLIC[name]
    path = write(public_rows(columns))
    refused = rest[0] if rest else set()
    if not refused:
        columns, keys = account(path, kind)
        assert not columns["content"] and not keys["content"]
        return
    with pytest.raises(DataError, match="content that nothing reads") as error:
        read(path, kind)
    assert all(f"'{each}'" in str(error.value) for each in refused)
    columns, _ = account(path, kind, ignore_columns=sorted(refused))
    assert columns["ignored"] == sorted(refused) and not columns["content"]


# ---------------------------------------------------------------- single columns


@pytest.mark.parametrize(
    "name",
    [
        *("input", "context", "history", "documents", "passage", "evidence", "choices", "options"),
        *(
            "system_message",
            "instruction",
            "hint",
            "knowledge",
            "persona",
            "functions",
            "reasoning",
        ),
        *("explanation", "Context", "source_document", "chatHistory", "tools", "query"),
    ],
)
@pytest.mark.parametrize("shape", ["text", "list", "object"])
def test_a_name_that_carries_content_is_refused(write, name, shape):
    """Even where its texts are short and always the same. Names that a format reads or hands to the
    template are refused where they hold something else, by the column's name as well.
    """
    value = {"text": "blue one", "list": ["blue one", "red"], "object": {"a": "blue one"}}[shape]
    path = write(pairs(**{name: value}))
    if (name, shape) in HANDED:
        assert name in account(path)[0]["used"]
    else:
        said = "system" if name == "system_message" else name
        with pytest.raises(DataError, match=rf"\b{said}\b"):
            read(path)
    columns, _ = account(path, ignore_columns=name)
    assert columns["ignored"] == [name]


# read as a system text, or given to the template as one tool
HANDED = {("system_message", "text"), ("functions", "object"), ("tools", "object")}


@pytest.mark.parametrize("value", [None, "", "  ", [], {}, [""], [{"bytes": None, "path": ""}]])
@pytest.mark.parametrize("name", ["context", "videos", "tools", "system_message"])
def test_an_empty_value_is_no_content(write, name, value):
    columns, _ = account(write(pairs(**{name: value})))
    assert name not in columns["content"]


@pytest.mark.parametrize("name", ["videos", "image_path", "audio"])
@pytest.mark.parametrize("value", [["v0.mp4"], {"enable_thinking": False}, 3])
def test_media_are_refused_whatever_they_hold(write, name, value):
    with pytest.raises(DataError, match=f"'{name}'"):
        read(write(pairs(**{name: value})))


@pytest.mark.parametrize(
    "value, refused",
    [
        (lambda rng: text(rng, 5), True),  # of several words, and other in each row
        ("the same long text in every row, which would be lost on the model all the same", True),
        (lambda rng: [{"deep": {"deeper": [text(rng, 12)]}}], True),
        (lambda rng: rng.choice(["open qa", "closed qa"]), False),
        (
            lambda rng: f"https://example.org/{rng.random()}?q=some-long-words-that-say-nothing",
            False,
        ),
        (SHA, False),
        (lambda rng: f"2023-01-{rng.randrange(1, 28):02} 10:11:12", False),
        (lambda rng: rng.choice(WORDS), False),
        (lambda rng: rng.random(), False),
        (True, False),
        (lambda rng: "猫はマットの上に座って赤い鳥を見ていたが誰も" + rng.choice(WORDS) * 2, True),
    ],
)
def test_an_unknown_column_is_judged_by_its_texts(write, value, refused):
    path = write(pairs(zorp=value))
    if refused:
        with pytest.raises(DataError, match="'zorp'"):
            read(path)
    else:
        assert "zorp" in account(path)[0]["unread"]


def test_a_label_that_holds_long_text_is_no_label(write):
    assert account(write(pairs(category=LABEL)))[0]["metadata"]["category"]
    with pytest.raises(DataError, match="'category'"):
        read(write(pairs(category=LONG)))


def test_a_column_that_appears_late_is_seen(write):
    rows = pairs(300)
    rows[299]["context"] = "blue one"
    with pytest.raises(DataError, match=r"first at \S+data\.jsonl:300"):
        read(write(rows))


def test_a_copy_is_no_loss_but_a_near_copy_is(write):
    rows = pairs()
    for row in rows:
        row["question"] = row["prompt"]
    assert account(write(rows))[0]["metadata"] == {
        "question": "the same text as in the columns read"
    }
    rows[7]["question"] += " and what else"
    with pytest.raises(DataError, match=r"'question'.*1 row,.*data\.jsonl:8"):
        read(write(rows))


def test_a_rendering_with_more_in_it_is_content(write):
    """Alpaca's `text` repeats the row; one that brings a passage of its own does not."""
    rng = random.Random(1)
    rows = [{"instruction": text(rng, 5), "output": text(rng, 6)} for _ in range(20)]
    for row in rows:
        row["text"] = f"Task: {row['instruction']}\nAnswer: {row['output']}"
    assert "text" in account(write(rows), "demonstrations")[0]["metadata"]
    for row in rows:
        row["text"] = text(rng, 12) + row["text"]
    with pytest.raises(DataError, match="'text'"):
        read(write(rows), "demonstrations")


# ---------------------------------------------------------------- keys of messages


def talk(**keys) -> list[dict]:
    rng = random.Random(5)
    return [
        {
            "prompt": [user(text(rng, 6)) | keys.get("prompt", {})],
            "chosen": [model(text(rng, 7)) | keys.get("chosen", {})],
            "rejected": [model(text(rng, 8))],
        }
        for _ in range(12)
    ]


@pytest.mark.parametrize("side", ["prompt", "chosen"])
@pytest.mark.parametrize(
    "key, value, where",
    [
        ("reasoning_content", "so it is", "used"),
        ("thinking", "so it is", "used"),
        ("context", "red", "content"),
        ("analysis", "first look at the mat and then at the cat, since both are there", "content"),
        ("weight", 1, "unread"),
        ("mood", "calm", "unread"),
        ("timestamp", "2024-01-01", "metadata"),
        ("id", "m1", "metadata"),
        ("model", "gpt-4", "metadata"),
        ("reasoning_content", None, None),
    ],
)
def test_keys_of_messages(write, side, key, value, where):
    path = write(talk(**{side: {key: value}}))
    if where == "content":
        with pytest.raises(DataError, match=f"message key '{key}'"):
            read(path)
        _, keys = account(path, ignore_columns=[key])
        assert not keys["content"]
    else:
        _, keys = account(path)
        assert {state for state in keys if key in keys[state]} == ({where} if where else set())


def test_keys_deep_in_a_nested_prompt_are_seen(write):
    rows = [
        {
            "input": {"messages": [user("one two")], "notes": text(random.Random(1), 20)},
            "preferred_output": [model("yes it is")],
            "non_preferred_output": [model("no it is not")],
        }
        for _ in range(4)
    ]
    with pytest.raises(DataError, match="key 'notes', which nothing reads"):
        read(write(rows))


def test_keys_in_messages_that_stand_as_json_are_seen(write):
    rows = talk(
        chosen={"analysis": "first look at the mat and then at the cat, since both are there"}
    )
    for row in rows:
        row["chosen"] = json.dumps(row["chosen"])
    with pytest.raises(DataError, match="analysis"):
        read(write(rows))


def test_an_answer_in_json_has_no_message_keys(write):
    rows = pairs(chosen=lambda rng: json.dumps({"analysis": text(rng, 20), "role of": 1}))
    assert account(write(rows))[1] == {"used": {}, "metadata": {}, "unread": {}, "content": {}}


# ---------------------------------------------------------------- the property

NAMES = st.sampled_from(
    "id source license score_chosen lang context history input hint zorp blah category notes"
    " system tools prompt_id model timestamp weight question text system_prompt label"
    " rationale Unnamed:0".split()
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=12),
    st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join),
    st.lists(st.text(max_size=9), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=30), max_size=3),
)


@settings(max_examples=120, deadline=None)
@given(columns=st.dictionaries(NAMES, st.lists(VALUES, min_size=6, max_size=6), max_size=6))
def test_every_column_is_used_known_named_or_refused(tmp_path_factory, columns):
    """Whatever a table holds: no column with a value is missing from the account."""
    rows = pairs(6)
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    path = tmp_path_factory.mktemp("any") / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    from accord.data.containers import locate

    with locate(path) as source:
        examples = stream(source, "pairs")
        assert list(examples) or not examples.ledger.used
    found = examples.columns.as_dict()
    told = {name for state in ("used", "metadata", "unread", "content") for name in found[state]}
    rejected = {each.origin.line for each in examples.ledger.rejected}
    for name in columns:
        values = [row[name] for at, row in enumerate(rows, 1) if at not in rejected]
        assert all(map(is_empty, values)) or name in told, name
    # what is content for the account is an error for whoever trains, and the reverse
    if examples.ledger.used:
        content = examples.columns.content or examples.columns.content_keys
        if content:
            with pytest.raises(DataError, match="content that nothing reads"):
                read(path)
        else:
            read(path)
    # content by its name alone, with words in it, is never let through
    for name in set(columns) & {"context", "history", "input", "hint"}:
        values = [row[name] for at, row in enumerate(rows, 1) if at not in rejected]
        beside = (v for row in rows for n, v in row.items() if n != name)
        texts = "\n".join(value for value in beside if isinstance(value, str))
        if any(isinstance(v, str) and v.strip() and v.strip() not in texts for v in values):
            assert name in found["content"] or name in found["used"]


# ---------------------------------------------------------------- units


def test_to_read_is_to_take_a_value():
    row = Row({"a": 1, "b": 2, "c": 3, "d": 4})
    assert "a" in row and row.name("a|b") == "a" and row.column("b") == "b" and row.read == set()
    assert row["a"] == 1 and row.get("b") == 2 and row.pick("x|c") == 3
    assert row.get("nothing", 5) == 5 and row.pick("nothing", 6) == 6
    assert row.read == {"a", "b", "c"}


def test_a_column_that_a_format_only_looked_at_is_not_read(write):
    """To find the format of a row, lists of answers are looked at; that is no reading."""
    rows = [{"prompt": "why?", "completion": f"so {n}", "answers": "it is so"} for n in range(4)]
    columns, _ = account(write(rows), "demonstrations")
    assert set(columns["used"]) == {"prompt", "completion"} and "answers" in columns["metadata"]


def test_every_row_of_the_table_has_a_reason_and_matches_no_content_twice():
    assert all(each.reason for each in METADATA)
    assert isinstance(classify("source_document"), Content)
    assert isinstance(classify("document_id"), Metadata)
    assert isinstance(classify("knowledge"), Content)
    assert isinstance(classify("knowledge", frozenset({"task_category"})), Metadata)
    assert isinstance(classify("rationale"), Content)
    assert isinstance(classify("rationale", frozenset({"rating"})), Metadata)
    assert classify("zorp") is None


@pytest.mark.parametrize(
    "said, words",
    [
        ("the cat sat", 3),
        ("https://a.org/the/cat", 0),
        ("3f2a9c d41d8c", 0),
        ("2024-01-01 10:00", 0),
        ("猫はマットの上に座っている", 6.5),
        ("don't stop", 2),
    ],
)
def test_words_are_counted_in_prose_alone(said, words):
    assert count_words(said) == words


def test_one_text_alone_is_content_from_five_words():
    short, long = TextSketch(), TextSketch()
    short.add("a short one")
    long.add("this one has five words")
    assert not short.is_content() and long.is_content()


def test_inputs_that_are_handed_over_are_used(write):
    """A column of the template's inputs counts as read where the examples have it."""
    rows = pairs(tools=[{"name": "f", "description": "finds what the user asks for"}])
    assert "tools" in account(write(rows))[0]["used"]


def test_tens_of_thousands_of_columns_are_accounted_for_in_bounded_memory(write):
    rows = pairs(3)
    for number in range(30_000):
        rows[number % 3][f"zorp{number}"] = "x"
    found = read(write(rows)).ledger.columns
    columns = found.as_dict()
    assert len(columns["unread"]) == 2_001 and "(further columns)" in columns["unread"]
    assert sum(len(each.sketch.seen) for each in found._columns.values()) < 10_000
    assert len("".join(found.lines())) < 5_000
    rows[2]["zorp29999"] = "here stands a text that nobody would ever see"
    with pytest.raises(DataError, match="further columns"):
        read(write(rows))


def test_neighbours_are_looked_at_for_names_that_need_them_alone():
    """A set of the others for each of many columns made the time the square of their number."""

    class Names(frozenset):
        def __sub__(self, other):
            raise AssertionError("the other columns were gathered")

    assert classify("zorp", Names({"zorp", "prompt"})) is None
    assert isinstance(classify("source", Names({"source", "prompt"})), Metadata)


def test_hostile_nesting_is_bounded(write):
    deep: object = "text that nobody reads, far down, of many words"
    for _ in range(50):
        deep = {"a": [deep]}
    rows = pairs(4)
    rows[0]["zorp"] = deep
    assert read(write(rows)).ledger.used == 4
