"""The account of rows: it balances, says why, and prints safely."""

import json

import pytest

from accord.data.ledger import EXCERPT, Ledger, RowError, excerpt, printable
from accord.types import DataError


@pytest.fixture
def ledger():
    """Six rows: three used, one of which gives two examples, and three rejected for two reasons."""
    ledger = Ledger("d.jsonl")
    ledger.use(1, [])
    ledger.use(2, ["prefill"])
    ledger.use(1, ["prefill", "quotes"])
    ledger.reject(2, RowError("empty answer", "chosen is empty."), {"prompt": "p", "chosen": ""})
    ledger.reject(4, RowError("empty answer", "rejected is empty."), {"prompt": "q"})
    ledger.reject(6, RowError("tie", "equal."), {})
    return ledger


def test_rows_in_are_rows_used_and_rejected(ledger):
    assert (ledger.rows, ledger.used, len(ledger.rejected), ledger.examples) == (6, 3, 3, 4)
    assert ledger.reasons == {"empty answer": 2, "tie": 1}
    assert ledger.notes == {"prefill": 2, "quotes": 1}


def test_the_share_counts_faults_and_not_what_is_left_out_by_choice(ledger):
    assert ledger.rejected_share == 2 / 6
    assert Ledger("empty").rejected_share == 0.0


def test_lines_for_a_person(ledger):
    assert ledger.lines() == [
        "d.jsonl: 6 rows = 3 used + 3 rejected (50.00%)",
        "  the 3 used rows give 4 examples",
        "        2  empty answer: chosen is empty. (line 2, 4)",
        "        1  tie: equal. (line 6)",
        "        2  note: prefill",
        "        1  note: quotes",
    ]


def test_only_three_places_are_named():
    ledger = Ledger("d.jsonl")
    for line in (1_000, 2_000, 3_000, 4_000):
        ledger.reject(line, RowError("tie", "equal."), {})
    assert ledger.lines()[1] == "        4  tie: equal. (line 1,000, 2,000, 3,000, …)"


def test_as_dict_is_json_and_complete(ledger):
    record = json.loads(json.dumps(ledger.as_dict()))
    assert record["rows"] == record["used"] + record["rejected"] == 6
    assert record["reasons"] == {"empty answer": 2, "tie": 1}
    assert [place["line"] for place in record["first"]["empty answer"]] == [2, 4]


def test_write_lists_every_rejected_row(ledger, tmp_path):
    ledger.write(tmp_path / "rejected.jsonl")
    rows = [
        json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text("utf-8").splitlines()
    ]
    assert [(row["file"], row["line"], row["reason"]) for row in rows] == [
        ("d.jsonl", 2, "empty answer"),
        ("d.jsonl", 4, "empty answer"),
        ("d.jsonl", 6, "tie"),
    ]
    assert (
        rows[0]["excerpt"] == '{"prompt": "p", "chosen": ""}'
        and rows[0]["says"] == "chosen is empty."
    )
    with pytest.raises(DataError, match="cannot be written"):
        ledger.write(tmp_path / "no" / "folder.jsonl")


def test_excerpts_are_short_and_safe():
    assert len(excerpt({"prompt": "p" * 1_000})) == EXCERPT and excerpt("p" * 1_000).endswith("…")
    assert excerpt("p" * EXCERPT) == "p" * EXCERPT
    assert excerpt(b"\xff\x1b[31m") == "\\xff\\x1b[31m"
    assert excerpt({"a": "\ud800\u202e"}) == '{"a": "\\ud800\\u202e"}'
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert excerpt(deep) == "<list>"


def test_printable_keeps_words_of_any_language():
    assert printable("é 漢 😀 שלום") == "é 漢 😀 שלום"
    assert printable("a\nb\x00") == "a\\nb\\x00"


def test_an_unparsed_rows_own_text_is_the_excerpt():
    ledger = Ledger("d.jsonl")
    error = RowError("invalid JSON", "broken.", b'{"prompt": ')
    ledger.reject(1, error, error)
    assert ledger.rejected[0].excerpt == '{"prompt": '
