"""A scan is the same whether one process measures the rows or two."""

from __future__ import annotations

import json

import numpy as np
import pytest

from accord.auditing import scan as scanning
from accord.auditing import second
from accord.auditing.scan import Scan, scan
from accord.auditing.second import Second
from accord.data.containers import locate
from accord.data.read import reread, stream
from accord.types import Origin, Pair, Turn
from tests.auditing.rows import clean

WRECKS = ("nan", "\u200bhidden", "ends with <|im_end|>", "half \ud800 a letter", "Ã©tÃ©", "")


@pytest.fixture(autouse=True)
def blocks_of_16(monkeypatch):
    monkeypatch.setattr(scanning, "BLOCK", 16)
    monkeypatch.setattr(scanning, "ALONE", 2)
    monkeypatch.setattr(second, "cores", lambda: 2)


def file_of(folder, labelled=False, rows=300):
    made = clean(rows, 3)
    for at, row in enumerate(made):
        row["chosen"] += " " + WRECKS[at % len(WRECKS)]
        row["score_chosen"], row["id"] = at, f"row-{at}"
        if labelled:
            row |= {"completion": row.pop("chosen"), "label": at % 3 > 0}
            del row["rejected"]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return file


def assert_same(one: Scan, two: Scan) -> None:
    for name in one.__dataclass_fields__:
        a, b = getattr(one, name), getattr(two, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
        elif name not in ("tables", "ledger"):
            assert a == b, name
    for name in ("wrecks", "marks", "numbers", "ids"):
        assert getattr(one.tables, name) == getattr(two.tables, name)


@pytest.mark.parametrize("labelled", [False, True])
def test_two_processes_measure_what_one_does(tmp_path, monkeypatch, labelled):
    file, sent = file_of(tmp_path, labelled), []
    pack = second._packed
    monkeypatch.setattr(second, "_packed", lambda *block: sent.append(block) or pack(*block))
    two = scan(file)
    assert sent, "the second process was given nothing"
    monkeypatch.setattr(second, "cores", lambda: 1)
    count = len(sent)
    assert_same(scan(file), two)
    assert len(sent) == count


@pytest.mark.parametrize("dies", ["before", "midway"])
def test_a_second_process_that_dies_changes_nothing(tmp_path, monkeypatch, dies):
    file = file_of(tmp_path)
    monkeypatch.setattr(second, "cores", lambda: 1)
    alone = scan(file)
    monkeypatch.setattr(second, "cores", lambda: 2)
    if dies == "before":
        monkeypatch.setattr(second.sys, "executable", "/nowhere/python")
    else:
        sent = Second._sent

        def then_die(self, examples):
            there = sent(self, examples)
            if self.blocks == 5:
                self.process.kill()
            return there

        monkeypatch.setattr(Second, "_sent", then_die)
    assert_same(alone, scan(file))


def test_no_process_is_left_behind(tmp_path, monkeypatch):
    begun = []
    start = second.subprocess.Popen
    monkeypatch.setattr(
        second.subprocess, "Popen", lambda *a, **k: begun.append(start(*a, **k)) or begun[-1]
    )
    scan(file_of(tmp_path))
    assert [process.returncode is not None for process in begun] == [True]


def test_a_block_too_large_to_send_is_measured_here(monkeypatch):
    monkeypatch.setattr(second, "LARGEST", 10)
    pair = Pair((Turn("user", "What is it?"),), "A long answer.", "No.", Origin("a", 1))
    shared = Second("pairs", 0)
    shared.measure([pair])
    assert [len(m.wrecks) for m in shared.done()] == [1]
    shared.close()


def test_reading_again_gives_the_same_examples(tmp_path):
    file = file_of(tmp_path, rows=50)
    with locate(file) as source:
        wanted = [each for each in stream(source) if each.origin.line in {7, 8, 31}]
    with locate(file) as source:
        assert list(reread(source, {7, 8, 31})) == wanted
        assert list(reread(source, set())) == []
