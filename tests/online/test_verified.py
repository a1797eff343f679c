"""Rewards that are verified, at their edges: each case here fails for some wrong line that the
plain ones let pass.
"""

import math

import numpy as np
import pytest

from accord.rewards.constraints import DEEPEST, constraints
from accord.rewards.ifeval import READERS
from accord.rewards.load import load_rewards
from accord.rewards.reward import PerAnswer, Rewards, Weighted, number
from accord.rewards.verify import LONGEST, final_answer, final_number, fits
from accord.types import Turn, UsageError

ASKED = (Turn("user", "How many?"),)

# ---------------------------------------------------------------- IFEval's kinds

IFEVAL = [
    ("punctuation:no_comma", {}, "a b", "a, b"),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "a b c", "a b"),
    ("length_constraints:number_words", {"relation": "less than", "num_words": 3}, "a b", "a b c"),
    (
        "length_constraints:number_sentences",
        {"relation": "at least", "num_sentences": 2},
        "One. Two.",
        "One.",
    ),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 2},
        "One.",
        "One. Two.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n\nb\n***\nc", "a\n\nb"),
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A dog, a cat.", "a dog"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat", "dog"]}, "a bird", "a dog"),
    (
        "keywords:frequency",
        {"relation": "at least", "keyword": "cat", "frequency": 2},
        "Cat cat",
        "cat",
    ),
    (
        "keywords:letter_frequency",
        {"let_relation": "less than", "letter": "c", "let_frequency": 2},
        "cat",
        "Cat cat",
    ),
    ("change_case:english_lowercase", {}, "a b", "A b"),
    ("change_case:english_capital", {}, "A B", "A b"),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "SO IT is",
        "SO it is",
    ),
    ("startend:quotation", {}, '"a"', '"a'),
    ("startend:end_checker", {"end_phrase": "Bye."}, "so. Bye.", "Bye. So."),
    ("detectable_format:title", {}, "<<a>> b", "<a> b"),
    ("detectable_format:json_format", {}, "[1]", "1"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", "*a*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2},
        "Day 1 Day 2",
        "Day 1",
    ),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\nP.S. b", "a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "say it: a", "a: say it"),
    ("combination:two_responses", {}, "a\n******\nb", "a\nb"),
]


@pytest.mark.parametrize(("name", "given", "good", "bad"), IFEVAL, ids=[case[0] for case in IFEVAL])
def test_each_of_ifevals_kinds(name, given, good, bad):
    row = {"instruction_id_list": [name], "kwargs": [given]}
    assert [constraints()(text, row) for text in (good, bad)] == [1.0, 0.0]


def test_no_kind_is_left_out():
    assert {case[0] for case in IFEVAL} == set(READERS)


# ---------------------------------------------------------------- constraints

EDGES = [
    ({"kind": "include", "keywords": ["cat"]}, ["cat"], ["bobcat", "category"]),
    ({"kind": "exclude", "keywords": ["cat"]}, ["bobcat"], ["a cat"]),
    ({"kind": "include", "keywords": ["a.b"]}, ["it is A.B here"], ["it is aXb here"]),
    ({"kind": "paragraphs", "count": 2}, ["a\n***\nb", "a\n\n\n\nb", "a\n\n * \n\nb"], ["a"]),
    ({"kind": "sentences", "at_least": 2}, ["One! Two", "One?! Two."], ["One...", "v1.2 is out"]),
    ({"kind": "bullets", "count": 1}, ["• a", " \t* a"], ["a * b", "** a", "*"]),
    ({"kind": "highlights", "at_least": 1}, ["**a**"], ["* *", "*a\nb*", "**"]),
    ({"kind": "capital_words", "at_least": 1}, ["I see"], ["123 Abc"]),
    ({"kind": "upper_case"}, ["A1"], ["12", "Ab"]),
    ({"kind": "starts_with", "text": "dear "}, ["DEARest"], ["oh dear"]),
    ({"kind": "ends_with", "text": " bye."}, ['"so Bye."', "goodbye. "], ["bye. x"]),
    (
        {"kind": "json_only"},
        ["```\n{}\n```", "```JSON\n[]```", " [1] "],
        ["{} and", '"a"', "[" + "1," * (DEEPEST // 2) + "1]"],
    ),
    ({"kind": "quoted"}, [' "" ', '"a" b "c"'], ["\"a'", "'a'"]),
    ({"kind": "placeholders", "at_least": 1}, ["[]", "[[a]]"], ["[a", "a]"]),
    ({"kind": "title"}, ["a <<b>>"], ["<<a\nb>>", "<<>>"]),
    ({"kind": "frequency", "text": "aa", "at_most": 1}, ["aaa"], ["aaaa"]),
]


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    EDGES,
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_constraints_at_their_edges(asked, good, bad):
    for text in good:
        assert constraints()(text, {"constraints": [asked]}) == 1.0, text[:40]
    for text in bad:
        assert constraints()(text, {"constraints": [asked]}) == 0.0, text[:40]


def test_the_first_constraint_that_is_none_is_named():
    asked = [{"kind": "no_comma"}, {"kind": "x" * 90}, {"kind": "words"}]
    assert constraints()("a", {"constraints": asked}) == f"unknown constraint {'x' * 40!r}"
    assert constraints(strict=True)("a", {"constraints": asked[:1] * 3}) == 1.0


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x" * (LONGEST + 5) + "#### 5", 5),
        ("7 " + "x" * LONGEST, None),
        ("5 ####", None),
        ("#### 3, so \\boxed{4}", 4),
        ("\\boxed{4}, so the answer is 5", 5),
        ("#### Step 1\nAdd 2 and 3.\n\\boxed{5}", 5),
        ("#### Solution\n12 apples less 5 is 7.\nThe answer is 7.", 7),
        ("#### Step 2\nso it is 9", 9),
        ("The answer is -$5", -5),
        ("####$1,000", 1000),
        ("The answer is **$-3**", -3),
        ("The answer is unknown\nsee page 4", None),
        ("The ANSWER IS 6 of 7", 6),
        ("answer is: -1.5e2", -150),
        ("+3", 3),
        ("1e9999", 9),
        ("12%", 12),
        ("-.5", -0.5),
    ],
)
def test_where_a_final_number_is_looked_for(text, found):
    got = final_number(text)
    assert got is None if found is None else float(got) == found


def test_which_column_holds_the_right_answer():
    row = {"target": 4, "solution": 3, "answer": 2, "final_answer": 1}
    for right, name in ((1, "final_answer"), (2, "answer"), (3, "solution"), (4, "target")):
        assert final_answer()(str(right), row) == 1.0
        del row[name]
    assert final_answer(column="other")("1", {"answer": 1}) == "the row has no right answer"
    assert [
        final_answer(tolerance=0.5)(text, {"answer": 1}) for text in ("0.5", "1.5", "0.49", "1.51")
    ] == [1, 1, 0, 0]


def test_formats():
    assert fits([], ["a\nb", " ab ", "xab"], pattern="a.*b") == [1, 1, 0]
    assert fits([], ["xaby", "ba"], pattern="a.*b", whole=False) == [1, 0]


# ---------------------------------------------------------------- sums


def fixed(name, *values):
    return PerAnswer(name, lambda answer, row: values[int(answer)])


def score(reward, *answers):
    return reward([ASKED] * len(answers), list(answers), [{}] * len(answers))


def test_what_is_a_number():
    assert [number(v) for v in (1, 2.5, True, False, -0.0)] == [1, 2.5, 1, 0, 0]
    assert all(
        math.isnan(number(v)) for v in (10**400, math.inf, -math.inf, math.nan, "1", None, [1], 1j)
    )


def test_a_value_with_a_reason_is_none():
    found = Rewards.of([1.0, 2.0, math.nan], {0: "late"})
    assert (
        found.failures == {0: "late", 2: "no finite number"}
        and found.values[1] == 2
        and found.reasons == {"late": 1, "no finite number": 1}
    )


def test_the_first_part_that_fails_gives_the_reason():
    reward = Weighted([(fixed("a", 1.0, "why", "why"), 2.0), (fixed("b", 3.0, 1.0, "how"), -1.0)])
    found = score(reward, "0", "1", "2")
    assert found.values[0] == -1 and found.failures == {1: "a: why", 2: "a: why"}
    assert found.parts["b"][:2].tolist() == [3, 1] and np.isnan(found.parts["b"][2])


def test_a_sum_beyond_all_floats_is_no_reward():
    """Written as Infinity, it would be no JSON, and pairs could not be read from it; ∞ - ∞ would be
    a missing reward without a reason.
    """
    huge = fixed("a", 1e300, 1.0)
    for parts in ([(huge, 1e300)], [(huge, 1e300), (fixed("b", 1e300, 0.0), -1e300)]):
        found = score(Weighted(parts), "0", "1")
        assert found.failures == {0: "the sum is no finite number"} and found.values[1] == 1e300


@pytest.mark.parametrize("spec", ["length=inf", "=2", "length=", "length=1e999"])
def test_weights_that_are_none(spec):
    with pytest.raises(UsageError, match="NAME=WEIGHT"):
        load_rewards([spec])


def test_what_the_parts_tell_stands_under_their_names():
    class Telling(PerAnswer):
        def account(self):
            return {"cost": 3} if self.name == "a" else {}

    parts = [
        (Telling("a", lambda answer, row: 1.0), 1.0),
        (Telling("b", lambda answer, row: 1.0), 1.0),
        (fixed("c", 1.0), 1.0),
    ]
    assert Weighted(parts).account() == {"a": {"cost": 3}}


# ---------------------------------------------------------------- a reward model


def test_each_answer_has_its_own_score_wherever_it_stands(tiny_folder, tmp_path):
    """Answers to equal prompts are computed side by side, in several portions: the values come back
    in the order asked.
    """
    from accord.models.load import load
    from accord.models.reward import with_score_head

    model = with_score_head(load(str(tiny_folder), dtype="float32"), 0)
    model.network.save_pretrained(tmp_path / "rm")
    model.tokenizer.save_pretrained(tmp_path / "rm")
    name = str(tmp_path / "rm")
    reward = load_rewards([name], {name: {"dtype": "float32", "micro_tokens": 40}})
    prompts = [
        (Turn("user", text),)
        for text in ("Two birds?", "A cat?", "Two birds?", "A cat?", "Two birds?")
    ]
    answers = ["Yes.", "No, no.", "<|im_end|>", "It sat on a mat.", "Over two green hills."]
    found = reward(prompts, answers, [{}] * 5)
    assert list(found.failures) == [2] and len(set(found.values[[0, 1, 3, 4]].tolist())) == 4
    for i in (0, 1, 3, 4):
        assert reward(prompts[i : i + 1], answers[i : i + 1], [{}]).values[0] == pytest.approx(
            found.values[i], abs=1e-5
        )
