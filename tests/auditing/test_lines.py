"""The audit on a terminal: the order, the verdict in the last line, the width, hostile texts."""

from __future__ import annotations

import json
import random
import unicodedata
from dataclasses import replace

import pytest
from auditing.rows import clean, flipped, scored, write
from typer.testing import CliRunner

from accord.auditing.findings import AuditFinding
from accord.auditing.lines import columns_of, first_sentence, fitted, lines
from accord.auditing.run import audit
from accord.cli.app import app

WIDTHS = (80, 110)


def wide(text: str) -> int:
    """Count a text's columns, by the Unicode Standard's annex 11."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    rows = flipped(scored(300), 0.02) + scored(300)[:40]
    rows = [row | {"prompt": "描述一下这座桥 " * 30 + row["prompt"]} for row in rows]
    out = audit(write(tmp_path_factory.mktemp("lines") / "data.jsonl", rows))
    symptoms = [
        AuditFinding(
            f"a.{at}", "warning", "It is much. It is more.", title=f"S{at}", explained_by="a.cause"
        )
        for at in range(6)
    ]
    cause = AuditFinding("a.cause", "warning", "The cause.", title="The cause", harm=0.9)
    out.findings += [*symptoms, cause, AuditFinding("a.note", "note", "So it is.", title="A note")]
    return out


def text_of(found, width=80, **more):
    return "\n".join(lines(found, width, **more))


def test_the_order(found):
    """Faults, properties, the amount, what passed, and last the verdict."""
    text = text_of(found)
    parts = (
        "! The cause",
        "! Repeated rows",
        "To know, no fault:",
        "Amount:",
        "without a finding:",
    )
    at = [text.index(each) for each in parts]
    assert at == sorted(at)
    last = text.split(" s\n")[-1]
    assert " ".join(last.split()) == found.judged.headline
    assert last.startswith("FIT WITH CARE, small: data.jsonl, 340 pairs (The cause; ")


def test_symptoms_stand_under_their_cause_in_one_line_each(found):
    text = text_of(found)
    cause = text[text.index("! The cause") : text.index("! Repeated rows")]
    assert cause.count("from this: S") == 4 and "from this: S0: It is much\n" in cause
    assert "from this: 2 more; --all shows them" in cause
    assert "[a.0]" not in text, "a symptom is no finding of its own"
    assert text_of(found, every=True).count("from this: S") == 6


@pytest.mark.parametrize("width", WIDTHS)
def test_what_passed_is_one_line_and_all_shows_it(found, width):
    (line,) = [each for each in text_of(found, width).splitlines() if "without a finding:" in each]
    passed = [each for each in found.findings if each.verdict == "ok"]
    assert line.startswith(f"{len(passed)} checks without a finding: integrity ")
    assert line.endswith("; --all shows them") and len(line) <= width
    every = text_of(found, width, every=True)
    assert all(f"  ✓ {each.check}: " in every for each in passed) and "--all" not in every


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_but_a_command_or_a_path_is_wider_than_the_terminal(found, width):
    for line in text_of(found, width).splitlines():
        if wide(line) > width:
            assert line.startswith("         accord ") or len(line.split()) <= 2, line


def test_a_line_is_cut_by_columns():
    rng = random.Random(3)
    for _ in range(500):
        text = "".join(rng.choice("ab 描述é\u0301한ｆ") for _ in range(rng.randint(0, 30)))
        room = rng.randint(1, 30)
        shown = fitted(text, room)
        assert wide(shown) <= room
        assert shown == text if wide(text) <= room else shown.endswith("…")
    assert (columns_of("描"), columns_of("a"), columns_of("\u0301")) == (2, 1, 0)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One; two. Three", "One"),
        ("0.65 of all. Two", "0.65 of all"),
        ("One.", "One"),
        ("", ""),
        ("; odd", "; odd"),
    ],
)
def test_first_sentences(text, first):
    assert first_sentence(text) == first


def test_hostile_texts_move_no_cursor(tmp_path):
    bad = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"
    rows = clean(60)
    rows = [row | {"prompt": bad + row["prompt"]} for row in rows] + [rows[0], rows[0], rows[0]] * 3
    text = text_of(audit(write(tmp_path / "data.jsonl", rows)), every=True)
    assert "▸" in text and not [c for c in text if not c.isprintable() and c != "\n"]


def test_the_command(tmp_path):
    file = write(tmp_path / "data.jsonl", clean(60))
    page = tmp_path / "page.html"
    run = lambda *more: CliRunner().invoke(app, ["audit", file, *map(str, more)])  # noqa: E731
    done = run("--page", page)
    assert done.exit_code == 0 and f"page: {page}" in done.stdout
    assert done.stdout.splitlines()[-1] == "FIT, very small: data.jsonl, 60 pairs"
    assert "✓" not in done.stdout and "✓" in run("--all").stdout
    result = json.loads(run("--json").stdout)["result"]
    assert (result["verdict"], result["size"], result["causes"]) == ("fit", "very small", [])
    assert result["headline"] == "FIT, very small: data.jsonl, 60 pairs"


def test_a_finding_without_reasons_has_no_empty_lines(found):
    bare = replace(found.findings[0], why="", remedy="", command="", places=())
    other = audit(found.scan.name)
    other.findings = [bare]
    block = text_of(other).split("\n\n")[0]
    assert "why:" not in block and "do:" not in block
