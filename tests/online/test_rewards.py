"""Rewards: what is verified, what a stranger's function may do, what a sum is; a missing one is
never a 0.
"""

import gzip
import json
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.rewards.constraints import CHECKS, constraints
from accord.rewards.function import PATIENCE, Function
from accord.rewards.load import load_rewards, parse_weighted
from accord.rewards.reward import Rewards, Weighted
from accord.rewards.verify import final_answer, final_number, too_long
from accord.types import Turn, UsageError

ASKED = (Turn("user", "How many?"),)


def score(reward, answers, rows=None):
    return reward([ASKED] * len(answers), answers, rows or [{}] * len(answers))


# ---------------------------------------------------------------- verified


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 2 + 2 = 4\n#### 1,234", 1234),
        ("#### 1234.00", 1234),
        ("first #### 3 then #### -7", -7),
        ("\\boxed{0.5} of 3", 0.5),
        ("The answer is: $18.", 18),
        ("I have 3 and then 5 apples", 5),
        ("nothing", None),
        ("####", None),
        ("1e2", 100),
        (".5", 0.5),
        ("it is 50%", 50),
        ("1,2,3", 123),
        ("4.", 4),
    ],
)
def test_final_numbers(text, number):
    found = final_number(text)
    assert found == number if number is None else float(found) == number


@pytest.mark.parametrize(
    ("answer", "row", "judged"),
    [
        ("… #### 72", {"answer": "48 + 24\n#### 72"}, 1.0),
        ("72.0", {"answer": 72}, 1.0),
        ("71", {"answer": "#### 72"}, 0.0),
        ("no number", {"answer": 72}, 0.0),
        ("72", {}, "the row has no right answer"),
        ("72", {"answer": "many"}, "the row's right answer is no number"),
        ("72", {"answer": None}, "the row has no right answer"),
    ],
)
def test_final_answers(answer, row, judged):
    assert final_answer()(answer, row) == judged


def test_an_answer_near_enough():
    # decimals: 0.3 - 0.2 is not over 0.1
    assert final_answer(tolerance=0.1)("0.3", {"answer": 0.2}) == 1.0
    assert final_answer(column="n")("3", {"n": 3, "answer": 4}) == 1.0


def test_overlong_answers_lose_in_a_line():
    judge = too_long(limit=4, slack=2)
    assert [judge(" ".join("abcdefgh"[:n]), {}) for n in (4, 5, 6, 8)] == [0, -0.5, -1, -1]


CASES = [
    ("words", {"at_least": 2, "at_most": 3}, ["a b", "a b c"], ["a", "a b c d"]),
    ("sentences", {"at_most": 2}, ["One. Two!", "3.5 is one"], ["One. Two. Three."]),
    ("paragraphs", {"count": 2}, ["a\n\nb", "a\n \nb\n"], ["a\nb", "a\n\nb\n\nc"]),
    ("paragraphs", {"count": 2, "divider": "***"}, ["a\n\nb\n***\nc"], ["a\n\nb"]),
    ("highlights", {"at_least": 2}, ["*a b* and **c**"], ["*a* b", "* a\n* b"]),
    ("frequency", {"text": "Cat", "at_least": 2}, ["cat, category"], ["a cat"]),
    ("capital_words", {"at_most": 1}, ["A b", "b"], ["A B"]),
    ("one_of", {"texts": ["yes", "no"]}, ["well, no"], ["maybe"]),
    ("bullets", {"count": 2}, ["* a\n* b", "- a\ntext\n  - b"], ["* a", "*a\n*b", "1. a\n2. b"]),
    ("include", {"keywords": ["Cat", "dog"]}, ["A cat, a dog."], ["a cat", "category dog"]),
    ("exclude", {"keywords": ["cat"]}, ["a category"], ["The Cat."]),
    ("no_comma", {}, ["a b"], ["a, b"]),
    ("lower_case", {}, ["all lower, é"], ["One", "123"]),
    ("upper_case", {}, ["ALL 3"], ["All"]),
    ("starts_with", {"text": "Dear"}, [" dear you"], ["My dear"]),
    ("ends_with", {"text": "Bye."}, ["so, bye. \n"], ["Bye"]),
    ("json_only", {}, ['{"a": 1}', "```json\n[1]\n```"], ["Sure: {}", "{", "1", "[" * 200_000]),
    ("quoted", {}, ['"a"'], ['a"', '"']),
    ("placeholders", {"at_least": 2}, ["[name] and [place]"], ["[name]"]),
    ("title", {}, ["<<On birds>>\ntext"], ["<< >>", "<a>"]),
]


@pytest.mark.parametrize(
    ("kind", "asks", "good", "bad"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_constraints(kind, asks, good, bad):
    judge = constraints()
    row = {"constraints": [{"kind": kind, **asks}]}
    assert [judge(text, row) for text in good] == [1.0] * len(good)
    assert [judge(text, row) for text in bad] == [0.0] * len(bad)


def test_every_constraint_has_a_case():
    assert {case[0] for case in CASES} == set(CHECKS)


def test_shares_strictness_and_constraints_that_are_none():
    row = {"constraints": [{"kind": "no_comma"}, {"kind": "words", "at_least": 9}]}
    assert constraints()("a b", row) == 0.5 and constraints(strict=True)("a b", row) == 0.0
    judge = constraints()
    assert judge("a", {}) == judge("a", {"constraints": []}) == "the row has no constraints"
    for wrong in ({"kind": "eval"}, "no_comma", {"kind": ["no_comma"]}, {}, None):
        assert "unknown constraint" in judge("a b", {"constraints": [wrong]}), wrong
    assert judge("a b", {"constraints": {"kind": "no_comma"}}) == "the row has no constraints"


VOID = [
    {"kind": "words"},
    {"kind": "words", "at_least": "x"},
    {"kind": "words", "at_least": True},
    {"kind": "words", "at_most": -1},
    {"kind": "words", "at_most": 2.5},
    {"kind": "words", "exactly": 3},
    {"kind": "words", "at_least": None},
    {"kind": "bullets", "count": "0"},
    {"kind": "no_comma", "count": 1},
    {"kind": "include"},
    {"kind": "include", "keywords": 3},
    {"kind": "include", "keywords": []},
    {"kind": "include", "keywords": "a"},
    {"kind": "include", "keywords": ["a", " "]},
    {"kind": "exclude", "keywords": "x"},
    {"kind": "exclude", "keywords": []},
    {"kind": "one_of", "texts": "a"},
    {"kind": "ends_with", "text": ""},
    {"kind": "starts_with", "text": " "},
    {"kind": "starts_with", "text": None},
    {"kind": "frequency", "text": "", "at_least": 1},
    {"kind": "paragraphs", "count": 1, "divider": ""},
]


@pytest.mark.parametrize("void", VOID, ids=str)
def test_a_constraint_that_asks_nothing_sound_is_no_judgement(void):
    """Compared all the same, most of these would always hold, or never."""
    assert (
        constraints()("a b", {"constraints": [{"kind": "no_comma"}, void]})
        == f"constraint {void['kind']!r} has wrong arguments"
    )


@pytest.mark.parametrize("strict", [True, False])
def test_saying_nothing_meets_nothing(strict):
    """It has no comma, few words and no forbidden one: a policy would learn to end at once."""
    row = {
        "constraints": [
            {"kind": "no_comma"},
            {"kind": "words", "at_most": 9},
            {"kind": "exclude", "keywords": ["x"]},
        ]
    }
    assert [constraints(strict)(text, row) for text in ("", " \n\t", "a")] == [0, 0, 1]
    assert isinstance(constraints(strict)("", {"constraints": [{"kind": "words"}]}), str)


def test_ifevals_own_rows():
    row = {
        "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
        "kwargs": [{}, {"relation": "less than", "num_words": 3}],
    }
    assert [constraints()(text, row) for text in ("a b", "a b c", "a, b c")] == [1.0, 0.5, 0.0]
    assert "language:response_language" in constraints()(
        "a", {"instruction_id_list": ["language:response_language"], "kwargs": [{"language": "kn"}]}
    )
    name = "length_constraints:number_words"
    for kwargs in (
        [{}],
        [],
        None,
        [None],
        [{"relation": "at most", "num_words": 3}],
        [{"relation": "less than", "num_words": "3"}],
    ):
        assert name in constraints()("a", {"instruction_id_list": [name], "kwargs": kwargs}), kwargs
    assert (
        constraints()(
            "a b",
            {"instruction_id_list": [name], "kwargs": [{"relation": "at least", "num_words": 2}]},
        )
        == 1.0
    )
    assert constraints()("a", {"instruction_id_list": []}) == "the row has no constraints"


def test_every_ifeval_row_but_those_of_two_kinds_is_read(shared_data):
    with gzip.open(shared_data("ifeval/prompts.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    unknown = {"language:response_language", "length_constraints:nth_paragraph_first_word"}
    for row in rows:
        judged = constraints()("An answer.", row)
        assert isinstance(judged, str) == bool(unknown & set(row["instruction_id_list"])), (
            judged,
            row["key"],
        )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_what_is_verified(text):
    for kind, asks, *_ in CASES:
        assert constraints()(text, {"constraints": [{"kind": kind, **asks}]}) in (0.0, 1.0)
    assert final_answer()(text, {"answer": 1}) in (0.0, 1.0)


def test_long_texts_take_no_long_time():
    """Were one of them quadratic, this would take hours."""
    for text in (
        "9" * 300_000,
        "1," * 300_000,
        "#### " * 100_000,
        "[" * 300_000,
        "a.\n\n" * 100_000,
        "*\n \n" * 100_000,
    ):
        final_number(text)
        for kind, asks, *_ in CASES:
            assert constraints()(text, {"constraints": [{"kind": kind, **asks}]}) in (0.0, 1.0)


# ---------------------------------------------------------------- functions

MINE = """
import os, threading, time
def good(prompts, answers):
    print("noise on standard output")
    return [len(a) for a in answers]
def rows(prompts, answers, rows, *, times=1):
    return [times * row["n"] for row in rows]
def picky(prompts, answers):
    if any(a == "bad" for a in answers): raise ValueError("bad answer")
    return [1] * len(answers)
def slow(prompts, answers):
    if any(a == "slow" for a in answers): time.sleep(60)
    return [1.0] * len(answers)
def dies(prompts, answers):
    if any(a == "die" for a in answers): os._exit(3)
    return [1.0] * len(answers)
def short(prompts, answers):
    return [1.0] * (len(answers) + 1)
def asleep(prompts, answers):
    threading.Timer(0.1, os.kill, (os.getpid(), 19)).start()
    return [1.0] * len(answers)
def odd(prompts, answers):
    values = {"nan": float("nan"), "inf": float("inf"), "none": None}
    values |= {"text": "1", "yes": True, "zero": 0}
    return [values[a] for a in answers]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine_rewards.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(name, **options):
        made.append(Function(f"mine_rewards:{name}", **options))
        return made[-1]

    yield make
    for function in made:
        function.close()


def test_a_function_gets_texts_and_rows(mine):
    assert score(mine("good"), ["a", "abc"]).values.tolist() == [1, 3]
    assert score(
        mine("rows", options={"times": 2}), ["a", "b"], [{"n": 3}, {"n": 4}]
    ).values.tolist() == [6, 8]
    assert len(score(mine("good"), [])) == 0


@pytest.mark.parametrize("left_out", [0, 2])
def test_rows_that_are_not_the_answers_own_are_no_rewards(left_out, mine):
    """Whatever the parts of a sum look at."""
    for reward in (mine("rows", options={"times": 2}), load_rewards(["final_answer"]).parts[0][0]):
        given = [[ASKED] * 2, ["1", "2"], [{"n": 1, "answer": 1}, {"n": 2, "answer": 2}]]
        assert len(Weighted([(reward, 1.0)])(*given)) == 2
        given[left_out] = given[left_out][1:]
        with pytest.raises(AssertionError, match="for 2 answers"):
            Weighted([(reward, 1.0)])(*given)


@pytest.mark.parametrize(
    ("name", "answers", "reason"),
    [
        ("picky", ["ok", "bad", "ok"], "raised ValueError"),
        ("slow", ["ok", "slow", "ok"], "timed out"),
        ("dies", ["ok", "die", "ok"], "died"),
    ],
)
def test_one_bad_answer_costs_itself_alone(name, answers, reason, mine):
    found = score(mine(name, timeout=1.0), answers)
    assert found.failures == {1: reason}
    assert found.values[[0, 2]].tolist() == [1, 1] and np.isnan(found.values[1])


def test_the_wrong_number_of_values_is_nobodys_reward(mine):
    reward = mine("short")
    assert score(reward, ["a", "b"]).reasons == {"wrong number of values": 2}
    assert reward.says["wrong number of values"] == "more than 2 values for 2 answers"


def test_values_that_are_no_finite_number_are_counted(mine):
    found = score(mine("odd"), ["nan", "inf", "none", "text", "yes", "zero"])
    assert found.reasons == {"no finite number": 4} and found.values[4:].tolist() == [1, 0]


def test_patience_ends(mine):
    """Were each of a batch's answers given its time, a batch of thousands would hang for days."""
    found = score(mine("slow", timeout=0.5), ["slow"] * (PATIENCE + 4))
    assert found.reasons == {"timed out": PATIENCE, "not asked, after others ran out of time": 4}


def test_a_process_that_no_longer_reads_is_not_written_to_for_ever(mine):
    """What it is sent is longer than a pipe holds."""
    reward = mine("asleep", timeout=0.5)
    assert score(reward, ["a"]).values.tolist() == [1]
    time.sleep(0.3)
    assert score(reward, ["a" * 1_000_000]).failures == {0: "timed out"}
    assert score(reward, ["a"]).values.tolist() == [1]  # by another process


def test_what_cannot_be_imported_is_said_at_once(mine):
    with pytest.raises(UsageError, match="no function 'none'"):
        mine("none")
    with pytest.raises(UsageError, match="importing no_such_module failed"):
        Function("no_such_module:f")


def test_a_regular_expression_that_never_ends_is_bounded(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path)
    reward = load_rewards(["format"], {"format": {"pattern": r"(a+)+b", "timeout": 2.0}})
    found = score(reward, ["aab", "ac", "a" * 60])
    assert found.values[:2].tolist() == [1, 0] and found.failures == {2: "format: timed out"}


# ---------------------------------------------------------------- sums and names


def test_a_folder_is_a_name_whatever_stands_in_it(tmp_path):
    """A run's folder may well be called lr=1e-4."""
    (tmp_path / "lr=1").mkdir()
    assert parse_weighted(str(tmp_path / "lr=1")) == (str(tmp_path / "lr=1"), 1.0)
    assert parse_weighted(str(tmp_path / "lr=1") + "=0.5") == (
        str(tmp_path / "lr=1"),
        0.5,
    ) and parse_weighted("length=-2") == ("length", -2.0)


def test_weighted_sums_by_name():
    reward = load_rewards(["final_answer=2", "length=-0.1"])
    found = score(reward, ["#### 4", "four is 4", "#### 5"], [{"answer": 4}, {}, {"answer": 4}])
    assert found.values[[0, 2]].tolist() == pytest.approx([1.8, -0.2])
    assert found.failures == {1: "final_answer: the row has no right answer"}
    assert found.parts["length"].tolist() == [2, 3, 2] and np.isnan(found.parts["final_answer"][1])


@pytest.mark.parametrize(
    ("specs", "options", "words"),
    [
        ([], {}, "No reward was named"),
        (["lenght"], {}, "no reward is called 'lenght'. Did you mean length?"),
        (["length", "length=2"], {}, "named twice"),
        (["length=x"], {}, "NAME=WEIGHT"),
        (["length=0"], {}, "other than 0"),
        (["length"], {"format": {}}, "would do nothing"),
        (["format"], {}, "needs its option pattern"),
        (["final_answer"], {"final_answer": {"colum": "a"}}, "no option 'colum'"),
        (["length=nan"], {}, "NAME=WEIGHT"),
    ],
)
def test_refusals(specs, options, words):
    with pytest.raises(UsageError, match=words):
        load_rewards(specs, options)


def test_a_missing_reward_without_its_reason_cannot_be_made():
    with pytest.raises(AssertionError):
        Rewards(np.array([1.0, np.nan]), {})
    with pytest.raises(AssertionError):
        Rewards(np.array([1.0, 0.0]), {1: "raised"})


# ---------------------------------------------------------------- a reward model


def test_a_reward_models_folder(tiny_folder, tokenizer, tmp_path):
    """Its own template and tokenizer; the score is the classifier's of the whole conversation,
    wherever it stands.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from accord.models.load import load
    from accord.models.reward import with_score_head

    model = with_score_head(load(str(tiny_folder), dtype="float32"), 0)
    model.network.save_pretrained(tmp_path / "rm")
    model.tokenizer.save_pretrained(tmp_path / "rm")
    name = str(tmp_path / "rm")
    reward = load_rewards(
        [name], {name: {"dtype": "float32", "micro_tokens": 64, "max_tokens": 64}}
    )
    prompts = [(Turn("user", "One?"),), (Turn("user", "Two?"),), (Turn("user", "One?"),)]
    answers = ["Yes.", "No <|im_end|> yes", "the cat " * 60]
    found = reward(prompts, answers, [{}] * 3)
    assert {i: reason.removeprefix(name) for i, reason in found.failures.items()} == {
        1: ": a special token stands in the text",
        2: ": longer than the reward model reads",
    }
    network = AutoModelForSequenceClassification.from_pretrained(name).eval()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."}],
        tokenize=False,
    ).removesuffix("\n")
    with torch.no_grad():
        wanted = network(
            **tokenizer(text, return_tensors="pt", add_special_tokens=False)
        ).logits.item()
    assert found.values[0] == pytest.approx(wanted, abs=1e-5)
