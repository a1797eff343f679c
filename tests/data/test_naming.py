"""--columns and --ignore-columns: one spelling, errors in words, guesses where one reading is
possible.
"""

from __future__ import annotations

import json
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.auditing.run import audit
from accord.cli.options import columns_of
from accord.config.build import build
from accord.config.columns import parse_columns, parse_names, spell_columns, spell_names
from accord.data.naming import Naming
from accord.data.prompts import read_prompts
from accord.data.read import GUESSED, read
from accord.errors import AccordError, DataError, UsageError
from accord.types import Demonstration, Labelled, Pair, Turn

MAPPING = {"prompt": "question", "chosen": "good", "rejected": "bad"}
NAME = st.text(min_size=1, max_size=9).filter(lambda text: text.strip() and text.strip() == text)


@pytest.fixture
def write(tmp_path):
    def put(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return put


# ---------------------------------------------------------------- the spelling


@pytest.mark.parametrize(
    "spelled",
    [
        "prompt=question,chosen=good,rejected=bad",
        " prompt = question , chosen=good,rejected=bad ",
        "{prompt: question, chosen: good, rejected: bad}",
        '{"prompt": "question", "chosen": "good", "rejected": "bad"}',
        ["prompt=question", "chosen=good,rejected=bad"],
        MAPPING,
    ],
)
def test_one_mapping_in_every_spelling(spelled):
    """The command line, a recipe and Python mean the same."""
    assert parse_columns(spelled) == MAPPING
    assert dict(Naming.of(spelled).names) == MAPPING
    config = build({"data": {"train": "x.jsonl", "columns": spelled}})
    assert config.data.columns == MAPPING
    assert build({"data": {"train": "x.jsonl"}}, columns=spelled).data.columns == MAPPING
    if isinstance(spelled, list):
        assert columns_of(spelled, None)["columns"] == MAPPING
    if isinstance(spelled, str):
        assigned = build({"data": {"train": "x"}}, assignments=[f"data.columns={spelled}"])
        assert assigned.data.columns == MAPPING


@pytest.mark.parametrize("spelled", ["a,b", " a , b", ["a", "b"], ("a,b",), '["a", "b"]'])
def test_names_to_ignore_in_every_spelling(spelled):
    assert parse_names(spelled) == ("a", "b")
    config = build({"data": {"train": "x.jsonl"}}, ignore_columns=spelled)
    assert config.data.ignore_columns == ("a", "b")


@given(st.dictionaries(NAME, NAME, max_size=4).filter(lambda d: len(set(d.values())) == len(d)))
def test_what_is_spelled_is_parsed_again(mapping):
    """An error's command must work with every name that a column may have."""
    if mapping:
        (word,) = shlex.split(shlex.quote(spell_columns(mapping)))
        assert parse_columns(word) == mapping
        assert parse_names(spell_names(mapping)) == tuple(mapping)


@pytest.mark.parametrize(
    "spelled, says",
    [
        ("prompt", "no NAME=COLUMN"),
        ("prompt=", "empty"),
        ("=question", "empty"),
        ("prompt=a,prompt=b", "twice"),
        ("prompt=a,chosen=a", "twice"),
        ("{prompt: 3}", "no text"),
        ("{prompt", "no mapping"),
        (7, "neither"),
        ([7], "expected NAME=COLUMN"),
    ],
)
def test_a_bad_mapping_is_an_error_with_an_example(spelled, says):
    with pytest.raises(UsageError, match=says) as error:
        parse_columns(spelled)
    assert "such as" in str(error.value)
    with pytest.raises(UsageError, match=re.escape("data.columns")):
        build({"data": {"train": "x.jsonl", "columns": spelled}})


@pytest.mark.parametrize("spelled", ["a,,b", "a,a", [3], 3])
def test_bad_names_to_ignore_are_errors(spelled):
    with pytest.raises(UsageError):
        parse_names(spelled)


# ---------------------------------------------------------------- reading by names

ROW = {"question": "why is it?", "good": "since it is so", "bad": "no idea"}
RAW = [{**ROW, "good": f"since it is so {n}"} for n in range(5)]


def test_renamed_columns_give_the_same_examples(write):
    plain = [{"prompt": r["question"], "chosen": r["good"], "rejected": r["bad"]} for r in RAW]
    path, other = write(RAW), write(plain, "plain.jsonl")
    ours = read(path, columns=MAPPING).examples
    theirs = read(other).examples
    assert [(e.prompt, e.completions) for e in ours] == [(e.prompt, e.completions) for e in theirs]
    record = read(path, columns=MAPPING).ledger.columns.as_dict()
    assert record["used"] == {"question": 5, "good": 5, "bad": 5}
    assert record["read_as"] == {"question": "prompt", "good": "chosen", "bad": "rejected"}


@pytest.mark.parametrize(
    "options, says",
    [
        (
            {"columns": "prompt=frage"},
            r"no row has a column 'frage'.*It has: bad, good, mood, question",
        ),
        ({"columns": "prompt=questio"}, r"Did you mean prompt=question\?"),
        (
            {"columns": {**MAPPING, "promt": "mood"}},
            r"promt=mood does nothing.*did you mean prompt",
        ),
        ({"ignore_columns": "frage"}, r"no row has .*'frage'.*does nothing.*It has: bad"),
    ],
)
def test_a_name_that_does_nothing_is_an_error(write, options, says):
    rows = [row | {"mood": "calm"} for row in RAW]
    with pytest.raises(AccordError, match=re.compile(says, re.DOTALL)):
        read(write(rows), **options)


def test_names_given_for_another_file_apply_where_they_are(write):
    """The columns of a run, on a file to evaluate: renamed like its own, or ordinary."""
    lenient = Naming(MAPPING, ("notes",), lenient=True)
    plain = [{"prompt": r["question"], "chosen": r["good"], "rejected": r["bad"]} for r in RAW]
    ours = read(write(RAW), naming=lenient).examples
    theirs = read(write(plain, "plain.jsonl"), naming=lenient).examples
    assert [(e.prompt, e.completions) for e in ours] == [(e.prompt, e.completions) for e in theirs]


def test_an_exchange_of_sides_applies_whole_or_not_at_all(write):
    exchanged = Naming({"chosen": "rejected", "rejected": "chosen"}, lenient=True)
    rows = [{"prompt": "why?", "chosen": "a b", "rejected": "c d"}]
    assert read(write(rows), naming=exchanged).examples[0].completions == ("c d", "a b")
    half = Naming({"prompt": "q", "chosen": "rejected", "rejected": "chosen"}, lenient=True)
    assert read(write(rows), naming=half).examples[0].completions == ("a b", "c d")


def test_an_ignored_column_is_not_read(write):
    rows = [{"prompt": "why?", "system": "Be brief.", "chosen": "a b", "rejected": "c d"}]
    asked = read(write(rows)).examples[0].prompt
    assert asked == (Turn("system", "Be brief."), Turn("user", "why?"))
    alone = read(write(rows), ignore_columns=["system"]).examples[0]
    assert alone.prompt == (Turn("user", "why?"),) and "system" not in alone.extra


# ---------------------------------------------------------------- guesses

SIDES = [
    ("good", "bad"),
    ("preferred", "dispreferred"),
    ("preferred", "non_preferred"),
    ("winner", "loser"),
    ("accepted", "rejected"),
    ("better", "worse"),
    ("best", "worst"),
    ("pos", "neg"),
    ("positive", "negative"),
    ("good_answer", "bad_answer"),
    ("answer_good", "answer_bad"),
    ("goodResponse", "badResponse"),
    ("chosen_completion", "rejected_completion"),
    ("Chosen", "Rejected"),
    ("y_w", "y_l"),
    ("response_j", "response_k"),
]
PROMPTS = ["prompt", "question", "query", "problem", "instruction", "input", "user_input", "Prompt"]


@pytest.mark.parametrize("sides", SIDES, ids="/".join)
@pytest.mark.parametrize("asked", PROMPTS)
@pytest.mark.parametrize("order", [1, -1])
def test_sides_are_guessed_and_the_guess_is_reported(write, sides, asked, order):
    items = [(asked, "why is it?"), (sides[0], "since so"), (sides[1], "no idea"), ("id", 3)]
    dataset = read(write([dict(items[::order])]))
    (pair,) = dataset.examples
    assert isinstance(pair, Pair) and pair.prompt == (Turn("user", "why is it?"),)
    assert pair.completions == ("since so", "no idea")
    (note,) = [note for note in dataset.ledger.notes if note.startswith(GUESSED)]
    renamed = zip(("chosen", "rejected"), sides, strict=True)
    assert all(f"{name}={column}" in note for name, column in renamed if name != column)
    assert any(GUESSED in line for line in dataset.ledger.lines())


def test_instruction_and_input_stay_one_prompt(write):
    row = {"instruction": "Translate", "input": "the cat", "good": "le chat", "bad": "der Hund"}
    assert read(write([row])).examples[0].prompt == (Turn("user", "Translate\nthe cat"),)


@pytest.mark.parametrize(
    "row, made",
    [
        ({"query": "why is it?", "response": "so"}, Demonstration),
        ({"inputs": "why is it?", "targets": "so"}, Demonstration),
        ({"instruction": "why is it?", "response": "so"}, Demonstration),
        ({"query": "why is it?", "answer": "so", "thumbs_up": True}, Labelled),
        ({"problem": "why is it?", "solution": "so", "is_good": "false"}, Labelled),
    ],
)
def test_single_answers_are_guessed(write, row, made):
    kind = "labelled" if made is Labelled else "demonstrations"
    (one,) = read(write([row]), kind).examples
    assert isinstance(one, made) and one.prompt[-1].content == "why is it?"
    assert one.completions == ("so",)
    if isinstance(one, Labelled):
        assert one.desirable is (row.get("thumbs_up") is True)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "why?", "good": "a b", "bad": "c d", "winner": "e f", "loser": "g h"},
        {"question": "why?", "query": "how?", "good": "a b", "bad": "c d"},
        {"prompt": "why?", "winner": 0, "loser": 1},
        {"prompt": "why?", "pos": ["a b", "c"], "neg": ["d e"]},
        {"good": "a b", "bad": "c d"},
    ],
)
def test_where_two_readings_are_possible_nothing_is_guessed(write, row):
    with pytest.raises(AccordError, match="none of its 1 rows"):
        read(write([row]))


def test_winners_that_are_names_of_models_are_never_trained_on(write):
    """The answers stand in other columns, which nothing would read."""
    rows = [
        {
            "prompt": f"why is it so, number {n}?",
            "winner": "gpt-4",
            "loser": "llama",
            "response_a": f"it is so since it has been so before, {n} times",
            "response_b": f"it is not so and it never was for all that is known, {n}",
        }
        for n in range(9)
    ]
    with pytest.raises(AccordError, match="content that nothing reads"):
        read(write(rows))


@pytest.mark.parametrize(
    "row",
    [
        {"frage": "warum ist es so?", "gut": "weil es ist", "schlecht": "keine Ahnung"},
        {"promt": "why is it so?", "chozen": "it is so", "rejekted": "it is not"},
        {"a, b": "why is it so?", "x=y": "since it is", "it's": "no idea at all"},
        {"query": "why?", "question": "how is it?", "good": "it is so", "bad": "not so"},
    ],
)
def test_the_command_of_an_error_works_with_this_very_file(write, row):
    path = write([row])
    with pytest.raises(AccordError) as error:
        read(path)
    command = re.search(r"^    name them: (accord audit .*)$", str(error.value), re.MULTILINE)
    assert command, error.value
    words = shlex.split(command[1])
    assert words[:4] == ["accord", "audit", str(path), "--columns"]
    columns = parse_columns(words[4])
    assert set(columns) == {"prompt", "chosen", "rejected"}
    try:
        assert read(path, columns=columns).ledger.used == 1
    except AccordError as more:  # the question that was not chosen
        assert "content that nothing reads" in str(more)


@pytest.mark.parametrize("name", ["evidence", "a, b=c", 'it\'s "so"'])
def test_the_commands_of_a_refusal_work_with_this_very_file(write, name):
    rows = [{"instruction": f"say {n}", "output": "so"} for n in range(4)]
    rows = [row | {name: f"material of several words for row {n}"} for n, row in enumerate(rows)]
    path = write(rows)
    with pytest.raises(AccordError) as error:
        read(path, "demonstrations")
    commands = re.findall(r"^  (accord audit .*)$", str(error.value), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        options = {words[at]: words[at + 1] for at in range(3, len(words), 2)}
        dataset = read(
            path,
            "demonstrations",
            columns=options.get("--columns"),
            ignore_columns=options.get("--ignore-columns"),
        )
        said = dataset.examples[0].prompt[0].content
        assert said == ("say 0\n" + rows[0][name] if "--columns" in options else "say 0")


# ---------------------------------------------------------------- prompts


def test_prompts_are_read_by_other_names(write):
    rows = [
        {"frage": f"why, {n}?", "ground_truth": "so it is, as all of us know"} for n in range(3)
    ]
    read_by_name = read_prompts(str(write(rows)), Naming({"prompt": "frage"}))
    assert [q.turns[0].content for q in read_by_name.prompts] == ["why, 0?", "why, 1?", "why, 2?"]
    guessed = read_prompts(str(write([{"query": "why?"}])))
    assert guessed.prompts[0].turns == (Turn("user", "why?"),)
    assert any(GUESSED in note for note in guessed.ledger.notes)


def test_content_beside_prompts_is_refused_and_what_verifies_them_is_not(write):
    beside = {"solution": "a long text that answers are verified against, of many words indeed"}
    assert len(read_prompts(str(write([{"prompt": "why?", **beside}]))).prompts) == 1
    with pytest.raises(AccordError, match="'context'"):
        read_prompts(str(write([{"prompt": "why?", "context": "the cat sat"}])))


def test_a_format_can_be_insisted_on_wherever_a_file_is_audited(write):
    """The remedy of a file whose answers all stand in quotation marks works as it is printed."""
    quoted = {"chosen": '"yes"', "rejected": '"no"'}
    path = write([{"prompt": f"q{n}", **quoted} for n in range(9)])
    with pytest.raises(DataError, match="--format trl-explicit"):
        audit(path)
    assert audit(path, naming=Naming.of(format="trl-explicit")).scan.ledger.used == 9
