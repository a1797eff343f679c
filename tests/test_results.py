"""Every result file that the repository ships can be rendered by today's code."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from accord.campaign.compare import records
from accord.pages import comparison, comparison_lines
from benchmarks import render_results

ROOT = Path(__file__).parents[1]
FILES = sorted(file for file in (ROOT / "benchmarks/results").rglob("*") if file.is_file())


class Words(HTMLParser):
    """The text that a reader sees."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data):
        self.found.append(data)


def test_there_are_results():
    assert len(FILES) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_result_is_rendered(file):
    made = render_results.render(file)
    assert made.strip()
    if made.startswith("<!doctype html>"):
        words = Words()
        words.feed(made)
        assert not [text for text in words.found if "None" in text.split() or "nan" in text.split()]


@pytest.mark.parametrize("shipped, source", render_results.pages().items(), ids=lambda p: p.name)
def test_shipped_pages_are_those_of_today(shipped, source):
    assert render_results.render(source) == shipped.read_text(encoding="utf-8"), (
        "stale: python benchmarks/render_results.py --write"
    )


def test_an_unknown_kind_of_file_is_an_error(tmp_path):
    with pytest.raises(LookupError, match="RENDERERS"):
        render_results.render(tmp_path / "result.png")


def test_a_result_holds_numbers(tmp_path):
    """NaN is no JSON: a browser or another language could not read the file."""
    (tmp_path / "x.json").write_text('{"a": NaN}')
    with pytest.raises(ValueError, match="NaN"):
        render_results.render(tmp_path / "x.json")


def test_a_comparison_from_before_sessions_were_logged_says_what_it_knows():
    """compare_truthfulqa.json is one: no processor time, no parts, no search."""
    old = json.loads((ROOT / "benchmarks/results/compare_truthfulqa.json").read_text())
    assert "preparing_seconds" not in old["cost"] and "search" not in old
    told = "\n".join(comparison_lines.lines(old))
    assert "In all 2:52:52: the cells 2:12:24, measuring every model 39:50." in told
    assert "processor" not in told and "killed" not in told
    assert "In all 2:52:52: the cells" in comparison.render(old)


def test_a_record_of_today_is_left_as_it_is():
    new = json.loads((ROOT / "benchmarks/results/compare_hh_helpful.json").read_text())
    assert records.current(new) == new
    assert "45:14 of processor time" in "\n".join(comparison_lines.lines(new))
