"""Quotes of tables: CSV's, or characters of the text. Every row as it was written, or a refusal."""

import csv
import io
import subprocess

import pytest
from data.packed import notes_of, rows_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accord.data import csv_rows
from accord.data.containers import locate
from accord.types import DataError

HEADER = ["prompt", "chosen", "rejected"]
FAST = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
LITERAL = ["the table's quotes are read as characters of the text"]

# texts in which quotes stand wherever they can hurt
PIECES = ["a", "b c", '"', '""', "say", "12", " ", "'", "é", ",", ";"]
LINE = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
TEXT = st.lists(st.sampled_from([*PIECES, "\n", "\r\n", "\t"]), min_size=1, max_size=6).map("".join)


def table(values):
    return [dict(zip(HEADER, row, strict=True)) for row in values]


@pytest.fixture
def written(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def literal(values, delimiter="\t"):
    return "".join(delimiter.join(row) + "\n" for row in [HEADER, *values])


def quoted(values, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=quoting).writerows([HEADER, *values])
    return out.getvalue()


@FAST
@given(st.lists(st.tuples(LINE, LINE, LINE), min_size=1, max_size=8))
@example([("q", "yes", '"No'), ("q", "yes", "no"), ("q", "yes", 'no! 12"')])  # merges three lines
@example([("q", "yes", '"No'), ("q", "yes", "no")])  # is never closed
@example([("q", '"a" b', "no"), ("q", "yes", "no")])  # breaks CSV's rules
@example([("q", '"Yes."', "no"), ("q", "yes", "no")])  # is a cell in quotes to CSV
def test_a_tsv_whose_quotes_are_text_is_never_merged(tmp_path, values):
    """Each line gives its own row: as it is, rejected, or without the quotes that CSV's own writer
    may have put there (all cells of a column, or doubled ones).
    """
    path = tmp_path / "data.tsv"
    path.write_bytes(literal(values).encode())
    try:
        found = rows_of(path)
    except DataError:
        return
    if found != table(values):
        assert len(found) == len(values), "lines were merged"
        doubled = any('""' in cell for row in values for cell in row)
        columns = [{cell.startswith('"') for cell in each} for each in zip(*values, strict=True)]
        assert doubled or all(len(each) == 1 for each in columns) or "invalid CSV" in found


@FAST
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_a_csv_writer_wrote_is_read_back_or_refused(tmp_path, values, delimiter, quoting):
    """A header without the delimiter of the cells would be ambiguous; three columns have it."""
    path = tmp_path / "data.csv"
    path.write_bytes(quoted(values, delimiter, quoting).encode())
    try:
        found = rows_of(path)
    except DataError as error:
        assert "nothing else in the file says what quotes mean" in str(error)
        return
    assert found == table(values)


def test_lines_that_a_quote_would_merge(written):
    """Both readings are whole, and nothing says which is meant."""
    values = [("q1", "yes", '"No sat'), ("q2", "yes", "no"), ("q3", "yes", 'no! 12"')]
    for delimiter in ",\t;":
        with pytest.raises(
            DataError, match="lines 2 to 4 are one row by CSV's rules and 3 rows as"
        ):
            rows_of(written(literal(values, delimiter)))


@pytest.mark.parametrize("answer", ['"No sat', '"a" b', '"b" and "c"', '"a", "b'])
def test_a_tsv_that_breaks_csvs_rules_is_read_line_by_line(written, answer):
    values = [("q1", "yes", "no"), ("q2", answer, "no"), ("q3", 'say "x"', "")]
    path = written(literal(values), "data.tsv")
    assert rows_of(path) == table(values)
    assert notes_of(path) == LITERAL
    with locate(path) as source:
        assert [line for line, _ in source.rows()] == [2, 3, 4]


@pytest.mark.parametrize("reading", ["CSV's rules", "quotes are text"])
def test_the_commands_of_the_refusal_work(written, tmp_path, reading):
    values = [("q1", "yes", '"No sat'), ("q2", "yes", "no"), ("q3", "yes", 'no! 12"')]
    with pytest.raises(DataError) as error:
        rows_of(written(literal(values, ","), "my data.csv"))
    (line,) = (each for each in str(error.value).splitlines() if each.startswith(f"  {reading}"))
    subprocess.run(line.split(":  ", 1)[1], shell=True, check=True, cwd=tmp_path)
    merged = table([("q1", "yes", "No sat\nq2,yes,no\nq3,yes,no! 12")])
    expected = table(values) if reading == "quotes are text" else merged
    assert rows_of(tmp_path / "rows.jsonl") == expected


def test_a_quote_that_merges_lines_behind_the_window(written, monkeypatch):
    """The start of the file decides; what contradicts it later is refused, not merged."""
    monkeypatch.setattr(csv_rows, "WINDOW", 200)
    plain = [("q", "yes", "no")] * 100
    bad = [("q1", "yes", '"No sat'), ("q2", "yes", "no"), ("q3", "yes", 'no! 12"')]
    for delimiter in ",\t":
        with pytest.raises(DataError, match="lines 102 to 104 are one row by CSV's rules"):
            rows_of(written(literal(plain + bad, delimiter)))
    with pytest.raises(DataError, match="line 102 is a row whose quotes are CSV's or characters"):
        rows_of(written(literal([*plain, ("q", '"Yes."', "no")])))
    late = [("q", "a, b", "line\nline"), *plain, *bad]
    assert rows_of(written(quoted(late))) == table(late)
    found = rows_of(written(literal([("q", '"a" b', "no"), *plain, ("q", '"b"', "no")])))
    assert found[0]["chosen"] == '"a" b' and found[-1]["chosen"] == '"b"'


def test_a_row_that_breaks_csvs_rules_takes_no_other_with_it(written):
    text = 'prompt,chosen\n"a, b",c\n"x\ny, "z" w\nd,e\n"f\n,g",h\n'
    with locate(written(text)) as source:
        found = [(line, getattr(row, "reason", row)) for line, row in source.rows()]
    assert found == [
        (2, {"prompt": "a, b", "chosen": "c"}),
        (3, "invalid CSV"),
        (4, {"prompt": "y", "chosen": ' "z" w'}),
        (5, {"prompt": "d", "chosen": "e"}),
        (6, {"prompt": "f\n,g", "chosen": "h"}),
    ]


def test_lines_are_not_read_again_without_end(written, monkeypatch):
    monkeypatch.setattr(csv_rows, "REREAD", 50)
    text = "prompt,chosen\n" + '"a, b",c\n' + '"x\n' * 41 + '"y" z\n'
    with pytest.raises(DataError, match="too many rows break off over several lines"):
        rows_of(written(text + text.split("\n", 1)[1] * 5))


@pytest.mark.parametrize("line", ["sep=|", '"sep=|"', "SEP=|", "sep=|||"])
def test_excels_first_line_names_the_delimiter(written, line):
    path = written(f"\ufeff{line}\r\nprompt|chosen\r\na,b;c|d\r\n", "data")
    with locate(path) as source:
        assert list(source.rows()) == [(3, {"prompt": "a,b;c", "chosen": "d"})]
    utf16 = written('sep=;\r\nprompt;chosen\r\n"a\n;b";d\r\n'.encode("utf-16"), "data")
    assert rows_of(utf16) == [{"prompt": "a\n;b", "chosen": "d"}]


def test_headers_that_are_none(written):
    with pytest.raises(DataError, match="line 1: the CSV header has bytes that are not UTF-8"):
        rows_of(written("prompt,cho\xe9n\na,b\n".encode("cp1252")))
    header = ",".join(f"c{n}" for n in range(100_000))
    with pytest.raises(DataError, match="it has 100,000 columns .*over 10,000"):
        rows_of(written(f"{header}\n{header}\n"))
