"""From a file to examples: the account balances, kinds convert where that is honest, and real files
count right.
"""

import gzip
import hashlib
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data.read import read
from accord.types import DataError, Demonstration, Labelled, Origin, Pair, Turn, UsageError

ASK = (Turn("user", "q"),)
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
GOOD = {"prompt": "q", "completion": "a", "label": True}
BAD = {"prompt": "q", "completion": "b", "label": "false"}
SHOWN = {"prompt": "q", "completion": "a"}


@pytest.fixture
def file(tmp_path):
    """Writes rows to a JSONL file."""

    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text(
            "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
            "utf-8",
        )
        return path

    return write


def test_a_file_of_mixed_shapes(file):
    """Each row is judged alone: the first row decides nothing."""
    hh = "\n\nHuman: q\n\nAssistant: "
    path = file(
        PAIR,
        {"chosen": hh + "a", "rejected": hh + "b"},
        "{oops",
        {"text": "x"},
        PAIR | {"source": "s"},
    )
    dataset = read(path)
    where = str(path)
    assert dataset.examples == [
        Pair(ASK, "a", "b", Origin(where, 1)),
        Pair(ASK, "a", "b", Origin(where, 2)),
        Pair(ASK, "a", "b", Origin(where, 5), {"source": "s"}),
    ]
    assert dataset.formats == {"trl-explicit": 2, "hh": 1}
    assert dataset.kind == "pairs" and dataset.path == where and len(dataset) == 3
    assert dataset.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(r.origin.line, r.reason) for r in dataset.ledger.rejected] == [
        (3, "invalid JSON"),
        (4, "unknown format"),
    ]
    assert dataset.ledger.rejected[0].excerpt == "{oops"


def test_pairs_serve_as_two_labels(file):
    path = file(PAIR, GOOD)
    dataset = read(path, "labelled")
    one, two = Origin(str(path), 1), Origin(str(path), 2)
    assert dataset.examples == [
        Labelled(ASK, "a", True, one),
        Labelled(ASK, "b", False, one),
        Labelled(ASK, "a", True, two),
    ]
    assert (dataset.ledger.rows, dataset.ledger.used, dataset.ledger.examples) == (2, 2, 3)


def test_demonstrations_from_every_kind(file):
    path = file(PAIR, GOOD, BAD, SHOWN)
    dataset = read(path, "demonstrations")
    assert dataset.examples == [
        Demonstration(ASK, "a", Origin(str(path), line)) for line in (1, 2, 4)
    ]
    assert dataset.ledger.reasons == {"undesirable": 1}
    assert dataset.ledger.rejected_share == 0.0


def test_labels_are_never_paired_silently(file):
    with pytest.raises(
        DataError, match=r"none of its 2 rows can be used as pairs(.|\n)*kto(.|\n)*line 1, 2"
    ):
        read(file(GOOD, BAD))
    assert read(file(GOOD, PAIR)).ledger.reasons == {"labelled, not paired": 1}


def test_demonstrations_are_no_comparison_and_have_no_label(file):
    with pytest.raises(DataError, match="column 'label'"):
        read(file(SHOWN), "labelled")
    with pytest.raises(DataError, match="sft"):
        read(file(SHOWN), "pairs")


def test_ranked_rows_give_several_examples(file):
    path = file({"prompt": "q", "responses": ["a", "b", "c"], "scores": [3, 2, 1]})
    assert [one.completions for one in read(path).examples] == [("a", "c")]
    dataset = read(path, pairing="all", margin=2)
    assert [one.completions for one in dataset.examples] == [("a", "c")]
    dataset = read(path, pairing="adjacent")
    assert [one.completions for one in dataset.examples] == [("a", "b"), ("b", "c")]
    assert (dataset.ledger.rows, dataset.ledger.used, dataset.ledger.examples) == (1, 1, 2)


def test_a_note_is_counted_once_a_row(file):
    prefilled = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "It"}]
    row = {"prompt": prefilled, "responses": ["a", "b", "c"], "scores": [3, 2, 1]}
    dataset = read(file(row, row), pairing="all")
    assert dataset.ledger.notes == {"prompt ends in an assistant turn: the answer continues it": 2}


def test_columns_named_by_hand(file):
    path = file({"q": "q", "win": "a", "lose": "b", "prompt": "an id"})
    dataset = read(path, columns={"prompt": "q", "chosen": "win", "rejected": "lose"})
    assert dataset.examples == [Pair(ASK, "a", "b", Origin(str(path), 1))]
    swapped = read(file(PAIR), columns={"chosen": "rejected", "rejected": "chosen"}).examples
    assert swapped[0].completions == ("b", "a")
    with pytest.raises(DataError, match="no row has a column 'question'.*chosen, prompt, rejected"):
        read(file(PAIR), columns={"prompt": "question"})


def test_a_named_format_refuses_others(file):
    dataset = read(
        file(PAIR, {"instruction": "q", "chosen": "a", "rejected": "b"}), format="alpaca"
    )
    assert dataset.formats == {"alpaca": 1}
    assert dataset.ledger.reasons == {"unknown format": 1}


def test_limits(file):
    path = file(PAIR, PAIR | {"chosen": "x" * 200}, PAIR)
    assert read(path, max_row_bytes=100).ledger.reasons == {"row too large": 1}
    assert read(path, max_rows=1).ledger.rows == 1


@pytest.mark.parametrize(
    "options",
    [
        {"rows": "pair"},
        {"format": "trl"},
        {"pairing": "first"},
        {"margin": -1},
        {"max_rows": 0},
        {"max_row_bytes": 0},
    ],
)
def test_options_that_do_not_exist(file, options):
    with pytest.raises(UsageError):
        read(file(PAIR), **options)


def test_a_file_without_usable_rows_says_why_and_where(file):
    same = PAIR | {"rejected": "a"}
    with pytest.raises(DataError) as caught:
        read(file(same, same, "[]", same, same, "null"))
    assert str(caught.value).splitlines()[1:] == [
        (
            "  4 × same answers: chosen and rejected are the same text; such a pair carries no"
            " preference. (line 1, 2, 4, …)"
        ),
        (
            "  2 × not an object: the row is a list; an object with named columns is expected."
            " (line 3, 6)"
        ),
    ]
    with pytest.raises(DataError, match="there are no rows in it"):
        read(file("[]"))


LINES = st.one_of(
    st.sampled_from(
        [json.dumps(row).encode() for row in (PAIR, GOOD, BAD, SHOWN, PAIR | {"chosen": "b"})]
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["prompt", "chosen", "rejected", "messages", "label"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=12).map(lambda raw: b"{" + raw.replace(b"\n", b"")),
)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(LINES, max_size=8), kind=st.sampled_from(["pairs", "labelled", "demonstrations"])
)
def test_the_ledger_balances_over_any_file(tmp_path_factory, lines, kind):
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    path.write_bytes(b"\n".join([json.dumps(PAIR).encode(), *lines]))
    dataset = read(path, kind)
    ledger = dataset.ledger
    assert ledger.rows == 1 + len(lines) == ledger.used + len(ledger.rejected)
    assert ledger.examples == len(dataset.examples) and ledger.used == dataset.formats.total()
    assert all(
        rejection.reason and 2 <= rejection.origin.line <= ledger.rows
        for rejection in ledger.rejected
    )
    assert json.loads(json.dumps(ledger.as_dict()))["rows"] == ledger.rows


ARROW = [b"ARROW1\0\0", b"\xff\xff\xff\xff\x08\0\0\0"]
PACKED = [gzip.compress(json.dumps(PAIR).encode()), b"PAR1", *ARROW, b"\x28\xb5\x2f\xfd"]
STARTS = [
    b"",
    b"[",
    b"{",
    b"{\n",
    b"prompt,chosen,rejected\n",
    b"prompt\tchosen\n",
    b"\xef\xbb\xbf",
    *PACKED,
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(STARTS),
    st.binary(max_size=40) | st.text("[]{},:\"' \n1aprompt", max_size=40).map(str.encode),
)
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory, start, rest):
    path = tmp_path_factory.mktemp("any") / "bytes"
    path.write_bytes(start + rest)
    try:
        dataset = read(path)
    except DataError as error:
        assert str(path) in str(error)
        return
    assert dataset.ledger.rows == dataset.ledger.used + len(dataset.ledger.rejected)


# ---------------------------------------------------------------- real files

# file, rows asked for, formats found, rows rejected by reason, notes
KEPT = "answer begins with the prompt: kept as it is"
QUOTED = "answers stand in quotation marks: kept as they are"
ASKED = {
    "prompt is written as Q:/A: kept as text": 3,
    "prompt is written as Question:/Answer: kept as text": 2,
}
FILES = [
    ("truthfulqa/pairs_train.jsonl", "pairs", {"trl-explicit": 3_514}, {}, {}),
    ("truthfulqa/pairs_test.jsonl", "pairs", {"trl-explicit": 876}, {}, {}),
    (
        "truthfulqa/kto_train.jsonl.gz",
        "labelled",
        {"trl-unpaired": 14_541},
        {},
        {KEPT: 28, QUOTED: 36},
    ),
    (
        "truthfulqa/kto_train.jsonl.gz",
        "demonstrations",
        {"trl-unpaired": 6_281},
        {"undesirable": 8_260},
        {KEPT: 27, QUOTED: 7},
    ),
    (
        "hh_harmless/transcripts.jsonl.gz",
        "pairs",
        {"hh": 2_303},
        {"diverges before the last turn": 5, "empty answer": 4},
        {},
    ),
    ("hh_helpful/train.jsonl.gz", "pairs", {"trl-explicit": 1_954}, {}, {QUOTED: 1}),
    (
        "ultrafeedback_small/pairs_train.jsonl.gz",
        "pairs",
        {"ultrafeedback": 994},
        {},
        {"chosen and rejected have equal scores": 110} | ASKED,
    ),
    (
        "ultrafeedback_small/pairs_train_label_flip20.jsonl.gz",
        "pairs",
        {"trl-explicit": 994},
        {"same answers": 4, "empty answer": 2},
        ASKED,
    ),
    ("permissive_mix/train.jsonl.gz", "pairs", {"trl-explicit": 10_528}, {}, {}),
    (
        "permissive_mix/kto_train.jsonl.gz",
        "labelled",
        {"trl-unpaired": 18_899},
        {},
        {
            KEPT: 28,
            QUOTED: 46,
            "prompt is written as Q:/A: kept as text": 2,
            "prompt is written as Question:/Answer: kept as text": 2,
        },
    ),
    ("gsm8k/test.jsonl.gz", "demonstrations", {"prompt-completion": 1_319}, {}, {}),
]


@pytest.mark.parametrize(
    ("name", "rows", "formats", "reasons", "notes"), FILES, ids=[f"{f[0]}-{f[1]}" for f in FILES]
)
def test_real_files(shared_data, name, rows, formats, reasons, notes):
    dataset = read(shared_data(name), rows)
    assert dataset.formats == formats
    assert dataset.ledger.reasons == reasons
    assert dataset.ledger.notes == notes


def test_hh_rows_at_known_places(shared_data):
    """Read by eye: 87 has an empty chosen answer, 1,255 continues one dialogue longer than the
    other.
    """
    dataset = read(shared_data("hh_harmless/transcripts.jsonl.gz"))
    places = {
        reason: [p.origin.line for p in dataset.ledger.places(reason, 9)]
        for reason in dataset.ledger.reasons
    }
    assert places == {
        "empty answer": [87, 517, 926, 1_104],
        "diverges before the last turn": [1_255, 1_689, 1_951, 1_953, 2_037],
    }
    assert all(
        example.prompt[0].role == "user" and example.prompt[-1].role == "user"
        for example in dataset.examples
    )
    assert not any(
        "\n\nHuman:" in said or "\n\nAssistant:" in said
        for e in dataset.examples
        for said in e.completions
    )


def test_hh_helpful_mixes_messages_and_text(shared_data):
    dataset = read(shared_data("hh_helpful/train.jsonl.gz"))
    turns = Counter(min(len(example.prompt), 3) for example in dataset.examples)
    assert turns[1] == 576 and turns[3] == 1_954 - 576
