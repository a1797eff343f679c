"""A short form of benchmarks/fuzz.py: the same cases, another seed, so that the two together try
more.
"""

import importlib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fuzz")


def test_no_traceback_no_hang_and_a_ledger_that_balances(fuzz):
    """Every loader, recipes and templates, a few hundred cases in all."""
    done = fuzz.fuzz(fuzz.plan(300), seed=1)
    assert done["findings"] == []
    assert (
        done["cases"] == 300
        and min(sum(found.values()) for found in done["by_loader"].values()) > 5
    )
    assert {"used", "DataError", "UsageError"} == done["outcomes"].keys()


def test_the_fuzzer_notices(fuzz, tmp_path, monkeypatch):
    """A traceback, a lost row and a crash are findings: a fuzzer that finds nothing must be able
    to.
    """
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\nx\n')
    assert fuzz.try_data(path, {"rows": "pairs"}) == "used"
    with monkeypatch.context() as patch:
        patch.setattr(fuzz.reader.Ledger, "reject", lambda *_: None)
        with pytest.raises(fuzz.Wrong, match="other rows than the container gives"):
            fuzz.try_data(path, {"rows": "pairs"})
    with monkeypatch.context() as patch:
        patch.setattr(fuzz, "run_case", lambda *_: 1 / 0)
        finding, *_ = fuzz.fuzz({"csv": 2}, seed=0)["findings"]
        assert finding["what"].startswith("ZeroDivisionError") and finding["index"] == 0
    with monkeypatch.context() as patch:
        patch.setattr(fuzz, "run_case", lambda *_: fuzz.os.kill(fuzz.os.getpid(), 9))
        (finding,) = fuzz.fuzz({"csv": 1}, seed=0)["findings"]
        assert "the child died" in finding["what"]


def test_what_was_cut_off_goes_on_where_it_stopped(fuzz, monkeypatch):
    """No case twice, none left out; the counts of before are kept, and its findings, where they
    have not been mended since.
    """
    tried = []

    def note(loader, seed, start, stop):
        tried.append((loader, start, stop))
        wrong = [{"loader": loader, "index": start}] if start == 7 else []
        return {
            "outcomes": Counter(FINDING=1) if wrong else Counter(used=stop - start),
            "findings": wrong,
            "peak_mb": 1,
            "slowest": [0.1, ""],
        }

    monkeypatch.setattr(fuzz, "_in_child", note)
    former = {"csv": {"used": 490, "DataError": 8, "FINDING": 2}}
    found = [{"loader": "csv", "index": index} for index in (7, 99)]
    kept = {
        "by_loader": former,
        "findings": found,
        "slowest_case_cpu_seconds": [3.0, "csv 1"],
        "peak_mb": 9,
    }
    *_, last = fuzz.rounds({"csv": 1200, "gzip": 700}, 0, kept=kept)
    assert tried[:2] == [("csv", 7, 8), ("csv", 99, 100)]
    assert sorted(tried[2:]) == [
        ("csv", 500, 1000),
        ("csv", 1000, 1200),
        ("gzip", 0, 500),
        ("gzip", 500, 700),
    ]
    assert (
        last["by_loader"]
        == {"csv": {"used": 1191, "DataError": 8, "FINDING": 1}, "gzip": {"used": 700}}
        and last["cases"] == 1900
    )
    assert (
        last["findings"] == found[:1]
        and last["peak_mb"] == 9
        and last["slowest_case_cpu_seconds"] == [3.0, "csv 1"]
    )
