"""Length limits, and an account that balances whatever comes in."""

import json
from collections import Counter

import pytest
from data.crafted import CHAT, TURNS, crafted, label, pair, shown
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.encoding_findings import findings
from accord.data.templates import make_template
from accord.data.tree_table import Trees, packed
from accord.data.trees import TOO_LONG, Limits, encode
from accord.types import Tree

MADE = make_template(crafted(merges=("ab",)), "auto")
RAW = make_template(crafted(None, merges=("ab",)), "raw")
LONG = Limits(10_000)


def text(ids, made=MADE):
    return made.tokenizer.decode(ids)


def by_check(encoding, made=MADE, max_unfit=0.0, max_too_long=0.05):
    return {finding.check: finding for finding in findings(encoding, made, max_unfit, max_too_long)}


# ---------------------------------------------------------------- cutting


CONVERSATION = ("first", "one", "second", "two", "third")  # user, assistant, user, assistant, user
LAST = "user:third<end>assistant:"
LAST_TWO = "user:second<end>assistant:two<end>" + LAST


def prompt_of(limit, **options):
    out = encode([pair(*CONVERSATION, **options)], MADE, Limits(limit))
    return (text(out.trees[0].prompt) if out.trees else None), out


def tokens(string):
    return len(MADE.tokenizer(string, add_special_tokens=False)["input_ids"])


def test_prompts_are_cut_from_the_left_at_turns():
    answer = tokens("yes<end>")
    whole, out = prompt_of(10_000)
    assert whole.startswith("user:first<end>") and not out.turns_cut
    two = tokens(LAST_TWO) + answer
    for limit in (two, tokens(whole) + answer - 1):
        found, out = prompt_of(limit)
        assert found == LAST_TWO and out.turns_cut == {0: 2}
        assert out.account.tokens_cut == tokens(whole) - tokens(LAST_TWO)
    found, out = prompt_of(two - 1)
    assert found == LAST and out.turns_cut == {0: 4}
    assert [text(c) for c in out.trees[0].completions] == ["yes<end>", "no<end>"]


def test_the_system_turn_and_the_last_turn_stay():
    system = "system:be nice<end>"
    found, out = prompt_of(tokens(system + LAST + "yes<end>"), system="be nice")
    assert found == system + LAST and out.turns_cut == {0: 4}
    found, out = prompt_of(tokens(system + LAST + "yes<end>") - 1, system="be nice")
    assert found is None and out.reasons == {TOO_LONG: 1}


def test_a_prefill_keeps_its_question():
    out = encode([pair("first", "one", "second", "Well")], MADE, Limits(tokens(LAST_TWO)))
    assert text(out.trees[0].prompt) == "user:second<end>assistant:Well"


def test_prompts_are_not_cut_where_that_is_not_wanted():
    out = encode([pair(*CONVERSATION)], MADE, Limits(tokens(LAST_TWO) + 4, long_prompts="reject"))
    assert (
        not out.trees
        and out.reasons == {TOO_LONG: 1}
        and not out.turns_cut
        and not out.account.tokens_cut
    )


def test_answers_are_never_cut_unless_asked_for():
    rows = [
        pair("q", chosen="c" * 50, rejected="no"),
        pair("q", chosen="no", rejected="c" * 50),
        pair("q"),
    ]
    out = encode(rows, MADE, Limits(40))
    assert [tree.row for tree in out.trees] == [2] and out.reasons == {TOO_LONG: 2}
    assert out.unfit[0].says == f"{tokens('user:q<end>assistant:') + 51} tokens, limit 40"
    assert not out.account.answers_cut


def test_the_limit_itself_is_allowed():
    length = tokens("user:q<end>assistant:yes<end>")
    assert encode([pair("q")], MADE, Limits(length)).trees
    assert not encode([pair("q")], MADE, Limits(length - 1)).trees


def test_answers_cut_on_request_lose_their_end_and_are_counted_by_side():
    room = 6
    limit = tokens("user:q<end>assistant:") + room
    out = encode(
        [pair("q", chosen="c" * 10, rejected="no")], MADE, Limits(limit, long_answers="cut")
    )
    assert [text(c) for c in out.trees[0].completions] == ["c" * room, "no<end>"]
    assert +out.account.answers_cut == {"chosen": 1} and out.account.tokens_cut == 11 - room
    assert +out.account.ends == {"rejected": 1}
    assert out.account.answers == {"chosen": 1, "rejected": 1}


def test_answers_that_become_equal_by_cutting_are_left_out():
    limit = tokens("user:q<end>assistant:") + 4
    rows = [
        pair("q", chosen="same ending", rejected="same start"),
        pair("q", chosen="other", rejected="same start"),
    ]
    out = encode(rows, MADE, Limits(limit, long_answers="cut"))
    assert [tree.row for tree in out.trees] == [1]
    assert out.reasons == {"chosen and rejected are the same tokens": 1}
    assert "after cutting" in out.unfit[0].says


def test_a_prompt_that_leaves_no_room_for_an_answer():
    out = encode([shown("yes", "q" * 60)], MADE, Limits(40, long_answers="cut"))
    assert out.reasons == {TOO_LONG: 1} and "the prompt alone has" in out.unfit[0].says


# ---------------------------------------------------------------- the account


contents = st.text("ab<ens>\n ", max_size=12)
limits = st.builds(
    Limits,
    st.integers(1, 60),
    st.sampled_from(["cut", "reject"]),
    st.sampled_from(["cut", "reject"]),
)
examples = st.lists(
    st.one_of(
        st.builds(
            lambda p, c, r: pair(*p, chosen=c, rejected=r),
            st.lists(contents, min_size=1, max_size=5),
            contents,
            contents,
        ),
        st.builds(label, contents, st.booleans(), contents),
        st.builds(shown, contents, contents),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(examples, limits, st.sampled_from([MADE, RAW]))
def test_every_example_is_a_tree_or_counted(rows, limit, made):
    out = encode(rows, made, limit)
    assert (
        len(out.trees) + len(out.unfit) == len(rows) == sum(out.reasons.values()) + len(out.trees)
    )
    used = [tree.row for tree in out.trees]
    assert used == sorted(set(used))
    for tree in out.trees:
        assert len(tree.prompt) + max(map(len, tree.completions)) <= limit.max_tokens
        assert len(tree.completions) == len(rows[tree.row].completions)
        assert len(set(tree.completions)) == len(tree.completions)
    assert set(out.turns_cut) <= set(used)
    assert sum(out.account.answers.values()) == sum(len(tree.completions) for tree in out.trees)
    assert 0 <= out.length_share <= 1
    assert limit.long_answers == "cut" or (
        not +out.account.answers_cut and out.account.ends == out.account.answers
    )
    assert limit.long_prompts == "cut" or not out.turns_cut
    record = json.loads(json.dumps(out.as_dict()))
    assert record["examples"] == record["trees"] + sum(record["unfit"].values())
    assert record["unique_tokens"] == sum(tree.tokens for tree in out.trees)
    by_check(out, made)


def test_shares_are_of_examples():
    """A row that is cut on both sides is one row."""
    limit = Limits(tokens("user:q<end>assistant:") + 3, long_answers="cut")
    out = encode(
        [pair("q", chosen="abcabc", rejected="bcabca"), pair("q", chosen="a", rejected="b")],
        MADE,
        limit,
    )
    assert out.length_share == 0.5 and out.account.answers_cut == {"chosen": 1, "rejected": 1}
    assert encode([], MADE, LONG).length_share == 0.0
    assert encode([pair("q" * 50)], MADE, Limits(40)).length_share == 1.0


def test_what_a_run_records_of_its_trees():
    """Answers of 2, 4, 6 and 8 characters and their ends, by hand: the upper median of an even
    number.
    """
    rows = [pair("q", chosen="x" * n, rejected="y" * n) for n in (8, 2, 6, 4)]
    prompt = tokens("user:q<end>assistant:")
    lengths = [prompt + 2 * (n + 1) for n in (2, 4, 6, 8)]
    assert encode(rows, MADE, LONG).as_dict() == {
        "examples": 4,
        "trees": 4,
        "unfit": {},
        "prompts_cut": 0,
        "answers_cut": {},
        "tokens_cut": 0,
        "unique_tokens": sum(lengths),
        "longest_tree": lengths[3],
        "median_tree": lengths[2],
        "changed": {},
        "shapes": 1,
    }


def test_rows_left_out_say_where_and_why():
    rows = [pair("q", line=4), pair("q", chosen="<end>", line=5), pair("q", chosen="no", line=9)]
    out = encode(rows, MADE, LONG)
    assert [(str(r.origin), r.reason) for r in out.unfit] == [
        ("f.jsonl:5", "a special token stands in the text"),
        ("f.jsonl:9", "chosen and rejected are the same tokens"),
    ]
    assert out.length_share == 0.0


def test_progress_is_told():
    seen = []
    encode([pair("q")] * 300, MADE, LONG, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 300), (256, 300)]


# ---------------------------------------------------------------- findings


def test_a_clean_dataset_has_only_good_news():
    found = by_check(encode([pair("q")] * 3, MADE, LONG))
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert set(found) == {
        "data.template",
        "data.boundary",
        "data.template_prefix",
        "data.template_text",
        "data.bos",
        "data.special_tokens",
        "data.identical_tokens",
        "data.end",
        "data.length",
    }


FAULTS = {
    "data.boundary": (RAW, pair("xa", chosen="b", rejected="c")),
    "data.template_prefix": (
        make_template(crafted("{{ messages | length }}:" + CHAT), "auto"),
        pair("q"),
    ),
    "data.bos": (make_template(crafted("<s><s>" + CHAT), "auto"), pair("q")),
    "data.special_tokens": (MADE, pair("a<end>")),
    "data.identical_tokens": (MADE, pair("q", chosen="no")),
    "data.other": (MADE, pair("q", chosen="")),
}


@pytest.mark.parametrize("check", FAULTS)
def test_each_fault_is_counted_shown_and_refused_above_its_threshold(check):
    made, bad = FAULTS[check]
    out = encode([bad], made, LONG)
    finding = by_check(out, made)[check]
    assert finding.refused and finding.evidence["share"] == 1.0 and "1 of 1 rows" in finding.says
    assert (
        finding.evidence["first"][0]["at"] == "f.jsonl:1" and "data.max_rejected" in finding.remedy
    )
    assert by_check(out, made, max_unfit=1.0)[check].verdict == "note"


def test_thresholds_are_exact():
    rows = [pair("q")] * 9 + [pair("q", chosen="no")]
    out = encode(rows, MADE, LONG)
    assert by_check(out, max_unfit=0.1)["data.identical_tokens"].verdict == "note"
    assert by_check(out, max_unfit=0.0999)["data.identical_tokens"].refused
    out = encode([pair("q")] * 9 + [pair("q" * 50)], MADE, Limits(40))
    assert by_check(out, max_too_long=0.1)["data.length"].verdict == "note"
    refused = by_check(out, max_too_long=0.0999)["data.length"]
    assert (
        refused.refused
        and "1 of 10 rows too long" in refused.says
        and "data.max_tokens" in refused.remedy
    )
    assert by_check(out, max_too_long=0.0)["data.boundary"].verdict == "ok"


def test_ends_cut_off_on_one_side_are_a_warning():
    limit = Limits(tokens("user:q<end>assistant:") + 5, long_answers="cut")
    out = encode([pair("q", chosen="c" * 20, rejected="no")] * 3, MADE, limit)
    finding = by_check(out)["data.end"]
    assert finding.verdict == "warning" and finding.evidence["shares"] == {
        "chosen": 0.0,
        "rejected": 1.0,
    }
    even = encode([pair("q", chosen="c" * 20, rejected="d" * 20)] * 3, MADE, limit)
    never = by_check(even)["data.end"]
    assert never.verdict == "warning" and "would not learn to end" in never.remedy
    assert by_check(encode([pair("q")] * 3, MADE, LONG))["data.end"].verdict == "ok"


@pytest.mark.parametrize(
    ("chosen", "rejected", "remedy"),
    [
        (95, 95, None),
        (94, 94, "would not learn to end"),
        (96, 100, None),
        (100, 94, "cut more often"),
        (90, 94, "would not learn to end"),
    ],
)
def test_the_thresholds_of_ends(chosen, rejected, remedy):
    """Under 95 of 100 on one side, or more than 5 apart."""
    out = encode([pair("q")], MADE, LONG)
    out.account.answers, out.account.ends = (
        Counter(chosen=100, rejected=100),
        Counter(chosen=chosen, rejected=rejected),
    )
    found = by_check(out)["data.end"]
    assert (
        found.verdict == ("ok" if remedy is None else "warning") and (remedy or "") in found.remedy
    )


def test_a_template_without_generation_prompt_is_a_warning():
    made = make_template(crafted(TURNS), "auto")
    finding = by_check(encode([pair("q")], made, LONG), made)["data.template"]
    assert finding.verdict == "warning" and "no generation prompt" in finding.says


def test_raw_text_is_a_note():
    assert by_check(encode([pair("q")], RAW, LONG), RAW)["data.template"].verdict == "note"


def test_prompts_that_inference_would_tokenise_otherwise_are_refused(monkeypatch):
    """Were BOS added here and not there (or the other way round), every log-prob would be off a
    little.
    """
    tokenizer = crafted(adds_bos=True)
    made = make_template(tokenizer, "auto")
    assert by_check(encode([pair("q")], made, LONG), made)["data.template"].verdict == "ok"
    monkeypatch.setattr(type(made), "encode", lambda self, text: self.tokenizer(text)["input_ids"])
    finding = by_check(encode([pair("q")], made, LONG), made)["data.template"]
    assert finding.refused and finding.evidence["inference"] != finding.evidence["training"]


def test_a_row_that_the_template_refuses_says_nothing_of_the_others():
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        + CHAT
    )
    made = make_template(crafted(refusing), "auto")
    out = encode([pair("q", system="be nice"), pair("q")], made, LONG)
    assert len(out.trees) == 1 and by_check(out, made)["data.template"].verdict == "ok"


@given(st.lists(st.lists(st.integers(0, 70_000), min_size=2, max_size=4), max_size=4))
def test_the_ids_that_occur(parts):
    trees = [Tree((first,), (tuple(rest),), 0) for first, *rest in parts]
    files = [packed(trees), packed(trees[:1])]
    expected = sorted({token for part in parts for token in part})
    joined = Trees.joined(files, [len(each) for each in files])
    assert joined.used_ids().tolist() == expected
