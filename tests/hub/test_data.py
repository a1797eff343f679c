"""Data sets of a hub: which files a name means, and what is refused in words."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import pair_rows

from accord.data.containers import locate, require_there
from accord.data.read import read
from accord.environment.hub.names import parse
from accord.types import DataError, UsageError

SETS = "datasets/"


def jsonl(n: int, start: int = 0) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in pair_rows(n, start)).encode()


def parquet(n: int, start: int = 0) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(pair_rows(n, start)), out)
    return out.getvalue()


def card(*configs: tuple[str, dict[str, str]]) -> bytes:
    lines = ["---", "configs:"]
    for name, splits in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", "# A set", ""]).encode()


SHARDS = {f"data/train-{i:05d}-of-00003.parquet": parquet(4, 4 * i) for i in range(3)}
TEST = {"data/test-00000-of-00001.parquet": parquet(2, 100)}


@pytest.fixture
def pairs(hub):
    """A set of three shards and a test split, with a card and the rest of a repository."""
    listed = card(("default", {"train": "data/train-*", "test": "data/test-*"}))
    beside = {"README.md": listed, ".gitattributes": b"*.parquet filter=lfs\n"}
    return hub.add("org/pairs", {**beside, **SHARDS, **TEST}, "dataset")


def prompts_of(name: str) -> list[str]:
    return [example.prompt[0].content for example in read(name).examples]


def refused(name: str, *words: str, error=DataError) -> None:
    with pytest.raises(error) as caught:
        require_there(name)
    for word in words:
        assert word in str(caught.value)


def test_a_split_is_read_in_order_and_only_its_files_are_fetched(hub, pairs, capsys):
    assert prompts_of("hub:org/pairs#train") == [row["prompt"] for row in pair_rows(12)]
    fetched = {each.path.rpartition("/")[2].partition("?")[0] for each in hub.asked("/resolve/")}
    assert fetched == {"README.md", *(path.rpartition("/")[2] for path in SHARDS)}
    size = sum(map(len, SHARDS.values()))
    said = capsys.readouterr().err
    assert "fetching 3 files" in said and f"{size / 1000:.1f} kB" in said and hub.address in said


def test_rows_have_the_commit_in_their_name(hub, pairs):
    commit = pairs.branches["main"]
    with locate("hub:org/pairs#test") as source:
        assert source.name == f"hub:org/pairs@{commit}#test"
    assert read("hub:org/pairs#test").path == f"hub:org/pairs@{commit}#test"


def test_the_digest_is_that_of_the_same_file_on_the_disk(hub, pairs, tmp_path):
    file = tmp_path / "test.parquet"
    file.write_bytes(TEST["data/test-00000-of-00001.parquet"])
    assert read("hub:org/pairs#test").digest == read(str(file)).digest


def test_what_the_cache_has_is_not_asked_for_again(hub, pairs):
    name = f"hub:org/pairs@{pairs.branches['main']}#train"
    first = prompts_of(name)
    before = len(hub.requests), len(hub.elsewhere)
    assert prompts_of(name) == first
    assert (len(hub.requests), len(hub.elsewhere)) == before


def test_splits_are_named_where_none_or_a_wrong_one_is_asked_for(hub, pairs):
    commit = pairs.branches["main"]
    both = [f"hub:org/pairs@{commit}#train", "3 files", f"hub:org/pairs@{commit}#test"]
    refused("hub:org/pairs", "2 splits, and rows of several are not joined", *both)
    refused("hub:org/pairs#validation", "no split 'validation'", *both)
    assert not hub.asked("parquet"), "nothing was fetched"


def test_configurations_are_named(hub):
    files = {"en/train.jsonl": jsonl(2), "de/train.jsonl": jsonl(3)}
    listed = card(("en", {"train": "en/train.jsonl"}), ("de", {"train": "de/train.jsonl"}))
    hub.add("org/two", {"README.md": listed, **files}, "dataset")
    refused("hub:org/two#train", "2 configurations have a split 'train'", "#en/train", "#de/train")
    assert len(prompts_of("hub:org/two#de/train")) == 3


def test_names_say_the_splits_where_no_card_does(hub):
    files = {"harmless/train.jsonl": jsonl(2), "helpful/train.jsonl": jsonl(3)}
    hub.add("org/hh", {**files, "helpful/test.jsonl": jsonl(1, 50)}, "dataset")
    assert len(prompts_of("hub:org/hh#helpful/train")) == 3
    assert len(prompts_of("hub:org/hh#test")) == 1
    refused("hub:org/hh#train", "2 configurations")


def test_a_set_of_one_file_needs_no_split(hub):
    hub.add("org/one", {"pairs.jsonl": jsonl(5), "LICENSE": b"MIT"}, "dataset")
    assert len(prompts_of("hub:org/one")) == len(prompts_of("hub:org/one#train")) == 5


def test_one_file_can_be_named_and_a_shard_alone_is_said(hub, pairs):
    name = "hub:org/pairs#data/train-00001-of-00003.parquet"
    with pytest.warns(UserWarning, match="one of 3 shards"):
        assert prompts_of(name) == [row["prompt"] for row in pair_rows(4, 4)]


def test_a_missing_shard_is_refused_before_anything_is_fetched(hub, pairs):
    files = dict(pairs.commits[pairs.branches["main"]])
    del files["data/train-00001-of-00003.parquet"]
    pairs.commit(files)
    refused("hub:org/pairs#train", "1 of 3 shards are missing: number 1")
    assert not hub.asked("parquet")


def test_a_shard_that_is_listed_and_not_there(hub, pairs):
    hub.gone.add("data/train-00001-of-00003.parquet")
    refused("hub:org/pairs#train", "lists data/train-00001-of-00003.parquet", "404", "damaged")


def test_a_loading_script_is_not_run(hub):
    hub.add("org/script", {"script.py": b"raise SystemExit", "README.md": b"# x"}, "dataset")
    refused(
        "hub:org/script#train",
        "a loading script (script.py)",
        "is not run",
        "hub:org/script@refs/convert/parquet#train",
    )


def test_a_repository_without_data(hub):
    hub.add("org/none", {"a.txt": b"x", "b.png": b"y"}, "dataset")
    refused("hub:org/none", "no data file that accord reads", "a.txt")


def test_a_card_that_lists_what_is_not_there(hub):
    listed = card(("default", {"train": "gone/*.parquet"}))
    hub.add("org/card", {"README.md": listed, "x.jsonl": jsonl(2)}, "dataset")
    refused("hub:org/card", "its card lists data files", "#FILE")
    assert len(prompts_of("hub:org/card#x.jsonl")) == 2


def test_a_plain_name_says_both_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused("org/pairs", "say so: hub:org/pairs, or --allow hub")
    with pytest.raises(DataError) as caught:
        require_there("data/pairs.jsonl")
    assert "hub" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "hub:",
        "hub:a/b/c",
        "hub:a b/c",
        "hub:../etc",
        "hub:a/b@",
        "hub:a/b@x y",
        "hub:a/b#",
        "hub:a/b@../x",
        "hub:a--b/c",
        "hub:a/b#../x",
        "hub:-a/b",
        "hub:a/b.",
    ],
)
def test_what_is_no_name(name):
    with pytest.raises(UsageError, match="Expected hub:org/name"):
        parse(name, "dataset")


def test_names_are_read_whole():
    name = parse("hub:org/na-me_2.5@refs/pr/7#en/train", "dataset")
    assert (name.repo, name.revision, name.split) == ("org/na-me_2.5", "refs/pr/7", "en/train")
    assert str(name) == "hub:org/na-me_2.5@refs/pr/7#en/train"
    assert parse("gpt2", "model").folder == "models--gpt2"
    with pytest.raises(UsageError, match="a model has no splits"):
        parse("hub:a/b#train", "model")


def test_permission_makes_hub_names_of_what_is_no_path(tmp_path, monkeypatch):
    from accord.config.build import build

    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "mine").mkdir(parents=True)
    given = {"model": "org/a", "data": "org/pairs@v1#train", "held_out": "data/test.jsonl"}
    config = build(allow="hub", adapter="org/mine", **given)
    assert (config.model.name, config.model.adapter) == ("hub:org/a", "org/mine")
    assert (config.data.train, config.data.held_out) == (
        "hub:org/pairs@v1#train",
        "data/test.jsonl",
    )
    assert build(**given).model.name == "org/a"


def test_a_hub_name_may_stand_behind_train():
    from accord.cli.given import recipe_or_data

    assert recipe_or_data("hub:org/pairs#train", None) == (None, "hub:org/pairs#train")
    with pytest.raises(UsageError, match="both are data"):
        recipe_or_data("hub:org/pairs#train", "pairs.jsonl")
