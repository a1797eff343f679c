"""The first rows of a hub's split: only the shards that they need are fetched, and everything that
reads the name sees exactly these rows.
"""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import pair_rows, write_rows
from hub.test_data import SHARDS, TEST, card, jsonl, parquet, prompts_of, refused
from training.helpers import metrics, run, stopped_after

import accord
from accord.config.build import build
from accord.data import first_rows
from accord.data.containers import locate, require_there
from accord.data.read import read
from accord.data.shards import MissingShards, one_data_set
from accord.data.store import encode, folder
from accord.environment.hub import client, store
from accord.environment.hub.names import parse
from accord.errors import CheckpointError
from accord.types import DataError, Interrupted, UsageError

PROMPTS = [row["prompt"] for row in pair_rows(12)]


@pytest.fixture
def pairs(hub):
    """A set of three shards of four rows, and a test split."""
    listed = card(("default", {"train": "data/train-*", "test": "data/test-*"}))
    return hub.add("org/pairs", {"README.md": listed, **SHARDS, **TEST}, "dataset")


def fetched(hub) -> list[str]:
    """The data files that were asked for, in order."""
    found = [each.path.partition("?")[0].partition("/resolve/")[2] for each in hub.requests]
    paths = [each.partition("/")[2] for each in found if each]
    return [path for path in dict.fromkeys(paths) if path != "README.md"]


def notes_of(name: str) -> str:
    return " | ".join(read(name).ledger.notes)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(("inside", "first"), [(":7", 7), (":100_000", 100_000), (":1", 1)])
def test_names_say_how_many_rows(inside, first):
    name = parse(f"hub:org/pairs@v1#en/train[{inside}]", "dataset")
    assert (name.split, name.first) == ("en/train", first)
    assert str(name) == f"hub:org/pairs@v1#en/train[:{first}]"
    assert str(name.at("c" * 40)) == f"hub:org/pairs@{'c' * 40}#en/train[:{first}]"


@pytest.mark.parametrize(
    "inside",
    ["", ":", ":0", ":-1", "5", "5:", "2:5", ":10%", ":1e6", ":1,000", ":1.5", ": 5", ":_5", ":५"],
)
def test_what_is_no_number_of_rows(inside):
    with pytest.raises(UsageError) as caught:
        parse(f"hub:org/pairs#train[{inside}]", "dataset")
    assert "the first N rows" in str(caught.value)
    assert "hub:org/pairs#train[:100000]" in str(caught.value)


def test_rows_are_counted_in_a_split():
    with pytest.raises(UsageError, match=r"such as hub:org/pairs#train\[:100000\]"):
        parse("hub:org/pairs[:5]", "dataset")
    with pytest.raises(UsageError, match="a model has no rows"):
        parse("hub:org/model[:5]", "model")
    assert parse("hub:a/b#data/train-[0-9]*.parquet", "dataset").first is None


def test_a_file_here_takes_no_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "pairs.jsonl", pair_rows(3))
    for name in ("pairs.jsonl[:2]", "./*.jsonl[:2]"):
        refused(name, "names of a hub alone", "into a file of their own")
        with pytest.raises(DataError, match="names of a hub alone"):
            read(name)
    refused("none.jsonl[:2]", "there is no such file")


def test_two_parts_of_one_split_are_one_file_twice():
    for other in ("hub:org/pairs#train", "hub:org/pairs#train[:9]"):
        with pytest.raises(UsageError, match="the same file twice"):
            build({"data": {"train": ["hub:org/pairs#train[:5]", other]}})
    assert build({"data": {"train": ["hub:a/b#train[:5]", "hub:a/b#test[:5]"]}})


# ---------------------------------------------------------------- which shards


@pytest.mark.parametrize("first", [1, 3, 4, 5, 8, 9, 11, 12])
def test_as_many_shards_as_the_rows_need(hub, pairs, first):
    assert prompts_of(f"hub:org/pairs#train[:{first}]") == PROMPTS[:first]
    assert fetched(hub) == list(SHARDS)[: -(-first // 4)]


def test_files_of_lines_are_counted_by_reading_them(hub):
    parts = {f"train-{i}-of-3.jsonl": jsonl(3, 3 * i - 3) for i in (1, 2, 3)}
    parts["train-1-of-3.jsonl"] += b"\n\nnot json\n"  # a row, though none that can be used
    hub.add("org/lines", parts, "dataset")
    found = read("hub:org/lines#train[:5]")
    assert [each.prompt[0].content for each in found.examples] == PROMPTS[:4]
    assert (found.ledger.rows, found.ledger.used, len(found.ledger.rejected)) == (5, 4, 1)
    assert fetched(hub) == list(parts)[:2]


def test_more_rows_than_there_are(hub, pairs):
    assert prompts_of("hub:org/pairs#train[:13]") == PROMPTS
    assert "all 12 rows are read: there are no 13" in notes_of("hub:org/pairs#train[:13]")
    assert "there are no others" in notes_of("hub:org/pairs#train[:12]")


def test_the_ledger_says_what_was_not_looked_at(hub, pairs):
    first, second, third = SHARDS
    told = notes_of("hub:org/pairs#train[:5]")
    assert f"2 files of the hub: {first} to {second}" in told
    rest = f"further rows of {second}, 1 further file"
    assert f"the first 5 rows of the split are read; not looked at: {rest}" in told
    assert "not looked at: 2 further files" in notes_of("hub:org/pairs#train[:4]")
    assert f"not looked at: further rows of {third}" in notes_of("hub:org/pairs#train[:11]")


def test_what_is_fetched_is_said_once(hub, pairs, capsys):
    prompts_of("hub:org/pairs#train[:9]")
    size = store.size_in_words(sum(map(len, SHARDS.values())))
    said = capsys.readouterr().err
    assert said.count("fetching shards one after the other") == 1
    assert f"the whole split is 3 files, {size}" in " ".join(said.split())
    prompts_of("hub:org/pairs#train[:9]")
    assert not capsys.readouterr().err, "all are here"


def test_how_far_it_is_is_said_every_ten_seconds(hub, pairs, capsys, monkeypatch):
    clock = iter(range(100, 10_000, 6))
    monkeypatch.setattr(first_rows.time, "monotonic", lambda: next(clock))
    prompts_of("hub:org/pairs#train[:12]")
    said = capsys.readouterr().err
    assert "of 12 rows are here; fetching" in said


def test_one_named_shard(hub, pairs):
    second = list(SHARDS)[1]
    with pytest.warns(UserWarning, match="one of 3 shards"):
        assert prompts_of(f"hub:org/pairs#{second}[:2]") == PROMPTS[4:6]
    assert fetched(hub) == [second]


# ---------------------------------------------------------------- exactly these rows


def test_digests_tell_rows_apart(hub, pairs, tmp_path):
    names = ["", "[:3]", "[:4]", "[:5]", "[:6]", "[:12]"]
    digests = [read(f"hub:org/pairs#train{each}").digest for each in names]
    assert len(set(digests)) == len(names)
    assert read("hub:org/pairs#train[:5]").digest == digests[3]
    assert read("hub:org/pairs#train[:99]").digest == digests[5], "the same twelve rows"


def test_digests_are_of_the_shards_that_hold_the_rows(hub, pairs):
    before = read("hub:org/pairs#train[:5]").digest
    files, last = dict(pairs.commits[pairs.branches["main"]]), list(SHARDS)[2]
    pairs.commit(files | {last: parquet(4, 50)})
    client.forget()
    assert read("hub:org/pairs#train[:5]").digest == before
    pairs.commit(files | {list(SHARDS)[1]: parquet(4, 50)})
    client.forget()
    assert read("hub:org/pairs#train[:5]").digest != before


def test_stores_of_other_rows_are_others(hub, tiny_folder, tmp_path, monkeypatch):
    """A run on the first rows has the bytes of a run on a file of exactly these rows."""
    monkeypatch.setattr(encode, "CHUNK", 8)
    parts = {f"train-{i:05d}-of-00003.jsonl": jsonl(10, 10 * i) for i in range(3)}
    hub.add("org/lines", parts, "dataset")
    test = write_rows(tmp_path / "test.jsonl", pair_rows(6, 50))
    found = {}
    for first in (14, 18):
        file = write_rows(tmp_path / f"{first}.jsonl", pair_rows(first))
        for name, data in (("file", file), ("hub", f"hub:org/lines#train[:{first}]")):
            out = tmp_path / f"{name}-{first}"
            found[name, first] = run(tiny_folder, data, out, held_out=test)
    for first in (14, 18):
        assert metrics(found["hub", first]) == metrics(found["file", first])
    assert metrics(found["hub", 14]) != metrics(found["hub", 18])
    assert fetched(hub) == list(parts)[:2]
    assert len([each for each in folder.root().iterdir() if each.is_dir()]) == 4


def test_a_run_pins_its_rows_and_goes_on_without_a_network(
    hub, pairs, tiny_folder, tmp_path, monkeypatch
):
    commit = pairs.branches["main"]
    options = {"held_out": "hub:org/pairs#test[:1]", "steps": 4, "set": {"checkpoint.every": 1}}
    whole = run(tiny_folder, "hub:org/pairs#train[:6]", tmp_path / "whole", **options)
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, "hub:org/pairs#train[:6]", tmp_path / "cut", **options)
    config = yaml.safe_load((tmp_path / "cut/config.yaml").read_text())["data"]
    assert config["train"] == f"hub:org/pairs@{commit}#train[:6]"
    assert config["held_out"] == f"hub:org/pairs@{commit}#test[:1]"
    data = json.loads((tmp_path / "cut/data.json").read_text())
    assert (data["train"]["ledger"]["rows"], data["held_out"]["ledger"]["rows"]) == (6, 1)
    assert any("not looked at" in note for note in data["train"]["ledger"]["notes"])
    pairs.commit({"other.jsonl": jsonl(3)})
    offline(monkeypatch)
    resumed = accord.resume(tmp_path / "cut")
    assert metrics(resumed) == metrics(whole)
    assert fetched(hub) == [*list(SHARDS)[:2], next(iter(TEST))]


def test_held_out_rows_are_cut_off_the_first_rows(hub, pairs, tiny_folder, tmp_path):
    made = run(
        tiny_folder, "hub:org/pairs#train[:8]", tmp_path / "run", set={"data.hold_out": 0.25}
    )
    data = json.loads((Path(made.folder) / "data.json").read_text())
    assert data["hold_out"]["rows"] == 8 and data["hold_out"]["data"].endswith("#train[:8]")
    assert data["train"]["ledger"]["rows"] + data["held_out"]["ledger"]["rows"] == 8
    assert fetched(hub) == list(SHARDS)[:2]


def offline(monkeypatch) -> None:
    """Keep the network off, as a user does."""
    from huggingface_hub import constants

    client.forget()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# ---------------------------------------------------------------- shards that are missing


def test_a_missing_shard_behind_the_rows_is_no_fault(hub, pairs):
    files = dict(pairs.commits[pairs.branches["main"]])
    del files[list(SHARDS)[1]]
    pairs.commit(files)
    refused("hub:org/pairs#train", "1 of 3 shards are missing")
    assert prompts_of("hub:org/pairs#train[:4]") == PROMPTS[:4]
    told = notes_of("hub:org/pairs#train[:4]")
    assert "not looked at: shards behind one that is missing" in told
    gap = "1 of 3 shards are missing: number 1", "The shards in front of it hold 4 rows."
    refused("hub:org/pairs#train[:5]", *gap)
    assert fetched(hub) == list(SHARDS)[:1]


def test_the_first_shard_is_missing(hub, pairs):
    files = dict(pairs.commits[pairs.branches["main"]])
    del files[next(iter(SHARDS))]
    pairs.commit(files)
    refused("hub:org/pairs#train[:1]", "missing: number 0", "hold 0 rows")
    assert not fetched(hub)


def test_what_hf_download_fetched_of_a_set_is_enough(hub, pairs, monkeypatch):
    commit, first = pairs.branches["main"], next(iter(SHARDS))
    prompts_of("hub:org/pairs#train[:4]")
    for record in Path(folder.root().parent / "hub").rglob("*.json"):
        record.unlink()  # as if another tool had fetched it
    offline(monkeypatch)
    assert prompts_of(f"hub:org/pairs@{commit}#train[:3]") == PROMPTS[:3]
    refused(f"hub:org/pairs@{commit}#train[:5]", "2 of 3 shards are missing: number 1, 2")
    refused(f"hub:org/pairs@{commit}#train", "2 of 3 shards are missing")
    with pytest.warns(UserWarning, match="one of 3 shards"):
        assert prompts_of(f"hub:org/pairs@{commit}#{first}") == PROMPTS[:4]


def test_offline_the_next_shard_is_named(hub, pairs, monkeypatch):
    prompts_of("hub:org/pairs#train[:4]")
    offline(monkeypatch)
    assert prompts_of("hub:org/pairs#train[:2]") == PROMPTS[:2]
    command = f"hf download org/pairs {list(SHARDS)[1]} --repo-type dataset --revision"
    refused("hub:org/pairs#train[:5]", "HF_HUB_OFFLINE", command)


@pytest.mark.parametrize(
    ("there", "before"),
    [
        (["a-0-of-3", "a-1-of-3"], ["a-0-of-3", "a-1-of-3"]),
        (["a-0-of-3", "a-2-of-3"], ["a-0-of-3"]),
        (["a-1-of-3", "a-3-of-3"], ["a-1-of-3"]),
        (["a-1-of-3", "a-2-of-3"], []),  # none shows that they begin at 1
        (["a-0-of-2", "b-0-of-2", "b-1-of-2"], ["a-0-of-2"]),
        (["a-0-of-1", "b-0-of-2", "c-0-of-1"], ["a-0-of-1", "b-0-of-2"]),
        (["a-0-of-2", "b"], ["a-0-of-2"]),
        (["a", "b-1-of-2"], ["a"]),
    ],
)
def test_files_in_front_of_a_gap(there, before):
    names = [f"{name}.jsonl" for name in there]
    with pytest.raises(MissingShards) as caught:
        one_data_set(names, str, chosen=True)
    assert caught.value.before == [f"{name}.jsonl" for name in before]


# ---------------------------------------------------------------- the disk, and what is noted


def test_a_disk_without_room_for_the_next_shard(hub, pairs, monkeypatch):
    sizes = list(map(len, SHARDS.values()))
    room = iter([sizes[0] + 100, 100])

    def usage(place):
        return type("Usage", (), {"free": store.MARGIN + next(room)})

    prompts_of("hub:org/pairs#test")  # the card is here
    monkeypatch.setattr(store.shutil, "disk_usage", usage)
    commit = pairs.branches["main"]
    fewer = f"those of the shards that are here: hub:org/pairs@{commit}#train[:4]"
    told = "has room for 0.1 kB", "Or take fewer rows", fewer
    refused("hub:org/pairs#train[:5]", *told, error=CheckpointError)
    assert fetched(hub)[1:] == list(SHARDS)[:1]
    assert prompts_of("hub:org/pairs#train[:4]") == PROMPTS[:4]


def test_a_disk_without_room_for_a_set_says_that_a_part_can_be_read(hub, pairs, monkeypatch):
    prompts_of("hub:org/pairs#test")
    usage = type("Usage", (), {"free": store.MARGIN + 100})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda place: usage)
    commit = pairs.branches["main"]
    first = f"Or take its first rows alone, such as hub:org/pairs@{commit}#train[:100000]"
    refused("hub:org/pairs#train", first, "one file of it behind #", error=CheckpointError)
    refused("hub:org/pairs#train[:3]", "a smaller file", error=CheckpointError)


def test_shards_are_counted_once(hub, monkeypatch):
    parts = {f"train-{i:05d}-of-00003.jsonl": jsonl(4, 4 * i) for i in range(3)}
    hub.add("org/lines", parts, "dataset")
    counted = []

    def count(file, shown, most):
        counted.append((shown, most))
        return real(file, shown, most)

    real = first_rows.count_rows
    monkeypatch.setattr(first_rows, "count_rows", count)
    one, two, _ = parts
    for first in (6, 6, 5):
        assert prompts_of(f"hub:org/lines#train[:{first}]") == PROMPTS[:first]
    assert counted == [(one, 6), (two, 2)]
    assert prompts_of("hub:org/lines#train[:7]") == PROMPTS[:7]
    assert counted[2:] == [(two, 3)], "no further than it was read"


def test_a_wrong_note_of_rows_is_found_out(hub, pairs):
    require_there("hub:org/pairs#train[:4]")
    (file,) = (folder.root().parent / "hub").rglob("*.rows.json")
    noted = json.loads(file.read_text())
    first = next(iter(SHARDS))
    assert noted["found"] == {first: [4, True]}
    file.write_text(json.dumps(noted | {"found": {first: [9, True]}}))
    with pytest.raises(DataError, match="4 rows came of the 6 that were counted"):
        read("hub:org/pairs#train[:6]")
    for broken in ("", "[]", "{}", json.dumps(noted | {"found": {first: "x"}}), "[" * 10_000):
        file.write_text(broken)
        assert prompts_of("hub:org/pairs#train[:6]") == PROMPTS[:6]


def test_other_code_counts_anew(hub, pairs, monkeypatch):
    require_there("hub:org/pairs#train[:4]")
    (file,) = (folder.root().parent / "hub").rglob("*.rows.json")
    noted = json.loads(file.read_text())
    file.write_text(json.dumps(noted | {"code": "other", "found": {next(iter(SHARDS)): [9, True]}}))
    assert prompts_of("hub:org/pairs#train[:6]") == PROMPTS[:6]


def test_a_damaged_shard_is_named(hub):
    shards = {f"train-{i:05d}-of-00002.parquet": parquet(4, 4 * i) for i in range(2)}
    cut = "train-00001-of-00002.parquet"
    hub.add("org/cut", shards | {cut: shards[cut][:200]}, "dataset")
    assert prompts_of("hub:org/cut#train[:4]") == PROMPTS[:4]
    refused("hub:org/cut#train[:5]", cut, "damaged or cut short")


def test_a_parquet_file_has_the_rows_that_it_says(hub):
    """The count of its footer is the number of rows that are read, unusable ones too."""
    out = io.BytesIO()
    rows = [*pair_rows(3), {"prompt": None, "chosen": None, "rejected": None}, *pair_rows(2, 3)]
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=2)
    hub.add("org/nulls", {"train.parquet": out.getvalue()}, "dataset")
    found = read("hub:org/nulls#train[:5]")
    assert (found.ledger.rows, found.ledger.used) == (5, 4)
    assert "not looked at: further rows of train.parquet" in " ".join(found.ledger.notes)


def test_no_row_is_read_behind_the_last(hub, pairs):
    with locate("hub:org/pairs#train[:5]") as source:
        assert len(list(source.rows())) == 5
        assert source.parts.rows == 5 and len(source.parts.files) == 2
