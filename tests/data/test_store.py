"""The token store: what comes out of it is what is encoded in memory, whatever happened on the
way.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import pair_rows, write_rows

from accord.data.naming import PLAIN
from accord.data.read import read
from accord.data.store import checks as stored_checks
from accord.data.store import encode as store
from accord.data.store import folder
from accord.data.store.encode import Wanted, encoded_file
from accord.data.templates import make_template
from accord.data.token_digest import trees_digest
from accord.data.tokenizer_digest import tokenizer_digest
from accord.data.trees import Limits, encode
from accord.environment import own_code as own
from accord.types import DataError, Finding

ROWS = 150  # of chunks of 32: four whole ones and a part


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Chunks of 32 examples, and a store of this test's own."""
    monkeypatch.setattr(store, "CHUNK", 32)
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def rows(tmp_path) -> Path:
    rows = pair_rows(ROWS)
    rows[7]["chosen"] = rows[7]["rejected"]  # a row that cannot be used
    rows[40]["prompt"] = "word " * 300  # too long
    rows[50]["note"] = {"of": "a rater"}
    return Path(write_rows(tmp_path / "rows.jsonl", rows))


def wanted(file, tokenizer, limit=64, **changes) -> Wanted:
    made = Wanted(
        str(file),
        "pairs",
        PLAIN,
        make_template(tokenizer, "auto"),
        Limits(limit),
        tokenizer_digest(tokenizer),
    )
    return replace(made, **changes)


def opened(asked: Wanted, said=None):
    return encoded_file(asked, lambda done, total: None, [].append if said is None else said.append)


def the_store() -> Path:
    (place,) = (each for each in folder.root().iterdir() if each.is_dir())
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(place.iterdir()) if file.is_file()}


def test_a_store_holds_what_memory_holds(small, rows, tokenizer):
    asked = wanted(rows, tokenizer)
    found, again = opened(asked), opened(asked)
    dataset = read(rows)
    plain = encode(dataset.examples, asked.template, asked.limits)
    for each in (found, again):
        assert each.encoding.trees == plain.trees and list(each.encoding.trees) == list(plain.trees)
        assert list(each.dataset.examples) == dataset.examples
        assert each.encoding.account == plain.account
        assert each.encoding.as_dict() == plain.as_dict()
        assert each.dataset.ledger.as_dict() == dataset.ledger.as_dict()
        assert each.dataset.ledger.lines() == dataset.ledger.lines()
        assert (each.dataset.kind, each.dataset.digest) == (dataset.kind, dataset.digest)
        assert trees_digest(each.encoding.trees) == trees_digest(list(plain.trees))


def test_a_small_file_needs_no_store(monkeypatch, small, rows, tokenizer):
    monkeypatch.setattr(store, "CHUNK", ROWS + 1)
    assert len(opened(wanted(rows, tokenizer)).dataset) == ROWS - 1
    assert not folder.root().exists()


def test_the_second_start_encodes_nothing(small, rows, tokenizer, monkeypatch):
    asked = wanted(rows, tokenizer)
    opened(asked)
    monkeypatch.setattr(store, "encoded", None)
    assert len(opened(asked).encoding.trees) == ROWS - 2


OTHERS = {
    "limit": lambda asked: replace(asked, limits=Limits(48)),
    "tokenizer": lambda asked: replace(asked, tokenizer="other"),
    "options": lambda asked: replace(asked, template=replace(asked.template, options={"a": 1})),
    "names": lambda asked: replace(asked, naming=replace(PLAIN, ignored=("note",))),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_request_has_a_store_of_its_own(change, small, rows, tokenizer):
    asked = wanted(rows, tokenizer)
    opened(asked)
    opened(change(asked))
    assert sum(each.is_dir() for each in folder.root().iterdir()) == 2


def test_the_day_counts_where_the_template_writes_it(small, rows, tokenizer):
    asking = copy.deepcopy(tokenizer)
    asking.chat_template = "{{ strftime_now('%d') }}" + tokenizer.chat_template
    for made, stores in ((tokenizer, 1), (asking, 3)):  # one more each day
        for day in ("2026-01-31", "2026-02-01"):
            asked = wanted(rows, made)
            opened(replace(asked, template=replace(asked.template, today=day)))
        assert sum(each.is_dir() for each in folder.root().iterdir()) == stores


def test_what_other_code_made_is_not_taken(small, rows, tokenizer, monkeypatch):
    """A fault of the encoding that is mended must not live on in a store, nor one of a check."""
    checks = opened(wanted(rows, tokenizer)).checks
    finding = Finding("data.some", "ok", "as the former code had it")
    checks.remember("some", [1], lambda: [finding])
    monkeypatch.setattr(stored_checks, "own_code", lambda room="": "other")
    assert checks.remember("some", [1], lambda: []) == []
    monkeypatch.setattr(store, "own_code", lambda room="": "other")
    opened(wanted(rows, tokenizer))
    assert sum(each.is_dir() for each in folder.root().iterdir()) == 2


def test_the_digest_of_the_code_is_of_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    found = set()
    for name, text in (("data/a.py", "1"), ("data/a.py", "2"), ("b.py", "1"), ("c.txt", "1")):
        (tmp_path / name).write_text(text)
        own.own_code.cache_clear()
        found.add((own.own_code(), own.own_code("data")))
    own.own_code.cache_clear()
    assert len(found) == 3 and len({data for _, data in found}) == 2


def test_another_file_of_the_same_bytes_has_the_same_store(small, rows, tokenizer, tmp_path):
    opened(wanted(rows, tokenizer))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(rows.read_bytes())
    found = opened(wanted(copy, tokenizer))
    assert sum(each.is_dir() for each in folder.root().iterdir()) == 1
    assert found.dataset.path == found.dataset.examples[3].origin.file == str(copy)
    assert str(found.encoding.unfit[0].origin) == f"{copy}:41"


def test_an_interrupted_store_goes_on_to_the_same_bytes(small, rows, tokenizer, monkeypatch):
    """Stopped behind each write of a file in turn, whole or half."""
    asked = wanted(rows, tokenizer)
    opened(asked)
    whole = contents(the_store())
    write, count = folder.Chunk.write, 0
    for stop in range(1, 15):
        folder.clear(folder.root())
        calls = []

        def stopping(self, suffix, raw, calls=calls, stop=stop):
            calls.append(suffix)
            if len(calls) == stop:
                self.file(suffix).write_bytes(bytes(raw)[:100] if stop % 2 else bytes(raw))
                raise KeyboardInterrupt
            write(self, suffix, raw)

        monkeypatch.setattr(folder.Chunk, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            opened(asked)
        monkeypatch.setattr(folder.Chunk, "write", write)
        opened(asked)
        assert contents(the_store()) == whole
        count += 1
    assert count == 14


@pytest.mark.parametrize("name", ["000001.trees", "000002.examples", "store.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_store_is_made_again(name, damage, small, rows, tokenizer):
    asked = wanted(rows, tokenizer)
    right = list(opened(asked).encoding.trees)
    file = the_store() / name
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[:-50] if damage == "cut" else raw)
    said: list[str] = []
    if name == "store.json" and damage == "changed":  # a byte of JSON that may still be read
        file.write_bytes(b"{" + bytes(raw))
    assert list(opened(asked, said).encoding.trees) == right
    assert any("are made again" in line for line in said)


def test_a_place_that_cannot_be_written(small, rows, tokenizer, monkeypatch):
    (small / "cache").write_text("a file where the folder should be")
    said: list[str] = []
    found = opened(wanted(rows, tokenizer), said)
    assert len(found.encoding.trees) == ROWS - 2
    assert any("temporary folder" in line and "ACCORD_CACHE" in line for line in said)


def test_no_place_at_all(small, rows, tokenizer, monkeypatch):
    def full(self, suffix, raw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.Chunk, "write", full)
    with pytest.raises(DataError, match=r"No space left on device .*ACCORD_CACHE=FOLDER"):
        opened(wanted(rows, tokenizer))
    assert not any(each.is_dir() for each in folder.root().iterdir())  # nothing keeps it full


def test_content_that_nothing_reads_is_refused_before_the_work(small, tokenizer, monkeypatch):
    file = write_rows(
        small / "more.jsonl",
        [
            {
                **row,
                "passage": f"A long passage about number {n}, which the question is about. " * 4,
            }
            for n, row in enumerate(pair_rows(ROWS))
        ],
    )
    with pytest.raises(DataError) as one:
        read(file)
    monkeypatch.setattr(store, "encoded", None)
    with pytest.raises(DataError) as two:
        opened(wanted(file, tokenizer))
    assert str(one.value) == str(two.value)


def test_two_at_once_encode_once(small, rows, tokenizer, monkeypatch):
    asked, right, count = wanted(rows, tokenizer), store.encoded, []

    def counted(*args, **keywords):
        count.append(1)
        return right(*args, **keywords)

    monkeypatch.setattr(store, "encoded", counted)
    monkeypatch.setattr(folder, "WAIT", 0.01)
    found: list = []
    threads = [
        threading.Thread(target=lambda: found.append(opened(wanted(rows, tokenizer))))
        for _ in range(3)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 3 and len(count) == 1
    assert {trees_digest(each.encoding.trees) for each in found} == {
        trees_digest(opened(asked).encoding.trees)
    }


def test_findings_are_remembered_with_all_that_they_depend_on(small, rows, tokenizer):
    checks = opened(wanted(rows, tokenizer)).checks
    made: list[int] = []

    def make():
        made.append(1)
        return [Finding("data.some", "ok", f"made {len(made)}", {"n": 0.5}, "mend it")]

    first = checks.remember("some", [1], make)
    assert checks.remember("some", [1], make) == first and len(made) == 1
    assert checks.remember("some", [2], make) != first and len(made) == 2
    for file in (the_store() / "checks").iterdir():  # a damaged one is made again
        file.write_text(file.read_text().replace("made", "male"))
    assert checks.remember("some", [1], make)[0].says == "made 3"


KILLED = """
import sys
from accord.data.store import encode as store
store.CHUNK = 32
sys.path.insert(0, {tests!r})
from data.test_store import wanted, opened
from transformers import AutoTokenizer
print("ready", flush=True)
opened(wanted({file!r}, AutoTokenizer.from_pretrained({tokenizer!r})))
"""


def test_killed_at_any_time(small, tokenizer, tmp_path):
    file = write_rows(tmp_path / "many.jsonl", pair_rows(3_000))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    code = KILLED.format(
        tests=str(Path(__file__).parents[1]), file=str(file), tokenizer=str(tmp_path / "tokenizer")
    )
    for seconds in (0.05, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ.copy()
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    found = opened(wanted(file, tokenizer))
    assert list(found.encoding.trees) == list(
        encode(read(file).examples, wanted(file, tokenizer).template, Limits(64)).trees
    )
    assert (
        json.loads((the_store() / "store.json").read_text())["chunks"]
        == len(found.dataset) // 32 + 1
    )
