"""Folders, patterns and shards: one data set in the order of its numbers, or a refusal that names
what to give.
"""

import gzip
import hashlib
import json
import random
import shlex

import pytest
from data.packed import ROWS, jsonl, notes_of, parquet, places_of, rows_of, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accord.data import shards
from accord.data.containers import locate
from accord.data.convert_file import convert_file
from accord.data.read import read
from accord.errors import AccordWarning
from accord.types import DataError

ONE, TWO = ROWS[:3], ROWS[3:]


@pytest.fixture
def folder(tmp_path):
    """{name: bytes} -> a folder that holds them."""

    def make(files, name="set"):
        root = tmp_path / name
        for path, data in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    return make


LAYOUTS = {
    "a hub's": {
        "README.md": b"# set\n",
        ".gitattributes": b"*.parquet filter=lfs\n",
        "data/train-00000-of-00002.parquet": parquet(ONE),
        "data/train-00001-of-00002.parquet": parquet(TWO),
    },
    "a hub's of old, with digests": {
        "data/train-00000-of-00002-0a1b2c3d4e5f6a7b.parquet": parquet(ONE),
        "data/train-00001-of-00002-9a8b2c3d4e5f6a7b.parquet": parquet(TWO),
    },
    "a split's own name": {
        "data/train_prefs-00000-of-00002.parquet": parquet(ONE),
        "data/train_prefs-00001-of-00002.parquet": parquet(TWO),
    },
    "split folders": {
        "train/part-2.jsonl": jsonl(ONE),
        "train/part-10.jsonl.gz": gzip.compress(jsonl(TWO)),
    },
    "numbers without zeros": {"part-9.jsonl": jsonl(ONE), "part-10.jsonl": jsonl(TWO)},
    "numbers in brackets": {"rows (2).json": jsonl(ONE), "rows (11).json": jsonl(TWO)},
    "counted from one": {"p-1-of-2.jsonl": jsonl(ONE), "p-2-of-2.jsonl": jsonl(TWO)},
    "names without a split": {"harmless.jsonl": jsonl(ONE), "helpful.jsonl": jsonl(TWO)},
    "test alone": {"test-1.jsonl": jsonl(ONE), "test-2.jsonl": jsonl(TWO)},
    "Spark's": {
        "_SUCCESS": b"",
        "part-00000-1b2c.c000.jsonl": jsonl(ONE),
        ".part-00000-1b2c.c000.jsonl.crc": b"x",
        "part-00001-1b2c.c000.jsonl": jsonl(TWO),
    },
    "archives": {"a-1.zip": zipped({"x.jsonl": jsonl(ONE)}), "a-2.zip": zipped({"x": jsonl(TWO)})},
    "a download's": {
        ".cache/huggingface/download/data.jsonl.metadata": b"x",
        "data.jsonl": jsonl(),
        "dataset_infos.json": b"{}",
        "load.py": b"import datasets",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_one_data_set_in_order(folder, layout):
    assert rows_of(folder(LAYOUTS[layout])) == ROWS


def test_a_pattern_is_one_data_set_in_order(folder):
    root = folder({f"p-{n}.jsonl": jsonl([row]) for n, row in enumerate(ROWS)} | {"x.txt": b"x"})
    many = folder({f"n{n}.jsonl": jsonl([ROWS[n % 7]]) for n in range(12)}, "many")
    assert rows_of(root / "p-*.jsonl") == rows_of(root / "*") == ROWS
    assert rows_of(root / "p-[2-4].jsonl") == ROWS[2:5]
    assert rows_of(f"{root.parent}/**/p-*.jsonl") == ROWS
    assert rows_of(many / "n*.jsonl") == [ROWS[n % 7] for n in range(12)]
    assert notes_of(root / "*") == [
        "read from 7 files, p-0.jsonl to p-6.jsonl",
        "not read, since the name is no data file's: x.txt",
    ]
    named = folder({"a[1].jsonl": jsonl()}, "odd")
    assert rows_of(named / "a[1].jsonl") == ROWS  # a file's own name is no pattern


def test_a_pattern_may_join_what_names_keep_apart(folder):
    root = folder({"en/train-0.jsonl": jsonl(ONE), "fr/train-0.jsonl": jsonl(TWO)})
    assert rows_of(f"{root}/*/train-*.jsonl") == ROWS
    with pytest.raises(DataError, match="2 folders of data files"):
        rows_of(root)


def test_rows_say_their_own_file_and_line(folder):
    text = b'\n{"prompt": "q", "chosen": "a", "rejected": "b"}\n\n{oops\n'
    root = folder({"a-1.jsonl": text, "a-2.jsonl": b"\n\n" + text, "a-3.csv.gz": b""})
    (root / "a-3.csv.gz").unlink()
    assert places_of(root) == [
        (2, f"{root}/a-1.jsonl:2"),
        (4, f"{root}/a-1.jsonl:4"),
        (8, f"{root}/a-2.jsonl:4"),
        (10, f"{root}/a-2.jsonl:6"),
    ]
    dataset = read(root)
    assert [str(one.origin) for one in dataset.examples] == [
        f"{root}/a-1.jsonl:2",
        f"{root}/a-2.jsonl:4",
    ]
    assert f"({root}/a-1.jsonl:4, {root}/a-2.jsonl:6)" in "\n".join(dataset.ledger.lines())
    assert dataset.ledger.rejected[1].as_dict()["line"] == 6
    json.dumps(dataset.ledger.as_dict())


def test_the_audit_says_a_rows_own_file_and_line(folder, tmp_path):
    from accord.auditing.fix import Options, fix
    from accord.auditing.scan import scan_source

    rows = [{"prompt": f"{n} " * 9, "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(8)]
    again = jsonl(rows[4:]) + b"\n" + jsonl(rows[:1])  # a row of the first file once more
    label = b'{"prompt": "q", "completion": "a", "label": true}\n'
    root = folder({"p-1.jsonl": b"\n" + jsonl(rows[:4]), "p-2.jsonl": again + b"{oops\n" + label})
    with locate(root) as source:
        scan = scan_source(source)
        assert [scan.at(row) for row in (0, 3, 4, 8)] == [
            f"{root}/p-1.jsonl:2",
            f"{root}/p-1.jsonl:5",
            f"{root}/p-2.jsonl:1",
            f"{root}/p-2.jsonl:6",
        ]
        fix(scan, source, tmp_path / "fixed.jsonl", Options())
    gone = [
        json.loads(line) for line in (tmp_path / "fixed.removed.jsonl").read_text().splitlines()
    ]
    assert [(each["file"], each["line"]) for each in gone] == [
        (f"{root}/p-2.jsonl", 7),
        (f"{root}/p-2.jsonl", 6),
        (f"{root}/p-2.jsonl", 8),
    ]
    assert rows_of(tmp_path / "fixed.jsonl") == rows


def test_numbers_name_one_row_alone(folder, tmp_path):
    """The commands that read a file twice find its rows by these numbers."""
    from accord.auditing.split import split

    rows = [{"prompt": f"{n} " * 9, "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(40)]
    root = folder({f"p-{n}.jsonl": b"\n" + jsonl(rows[4 * n : 4 * n + 4]) for n in range(10)})
    account = split(root, tmp_path / "out", share=0.25)
    assert account["train"] + account["held_out"] == 40
    both = rows_of(tmp_path / "out" / "train.jsonl") + rows_of(tmp_path / "out" / "held_out.jsonl")
    assert sorted(both, key=str) == sorted(rows, key=str)
    done = convert_file(root, tmp_path / "c.jsonl", "trl-explicit")
    assert done.written == 40
    with pytest.raises(DataError, match="it holds 2 splits"):
        rows_of(tmp_path / "out")


def test_the_digest_is_of_names_and_bytes_in_order(folder):
    files = {"a-2.jsonl": jsonl(ONE), "a-10.jsonl": jsonl(TWO)}
    root = folder(files)
    total = hashlib.sha256()
    for name, data in files.items():
        total.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\0".encode())
    with locate(root) as source:
        assert source.digest() == total.hexdigest()
    other = folder({"a-10.jsonl": jsonl(ONE), "a-2.jsonl": jsonl(TWO)}, "other")
    with locate(root / "*.jsonl") as source, locate(other) as second:
        assert source.digest() == total.hexdigest() != second.digest()


SEVERAL = {
    "two splits": {
        "data/train-00000-of-00002.parquet": parquet(ONE),
        "data/train-00001-of-00002.parquet": parquet(TWO),
        "data/test-00000-of-00001.parquet": parquet(ONE),
    },
    "two splits in files": {"train.jsonl": jsonl(), "test.jsonl": jsonl()},
    "a split and dev": {"train.csv": b"a", "dev.csv": b"a"},
    "split folders": {"train/a.jsonl": jsonl(), "validation/a.jsonl": jsonl()},
    "what `accord split` writes": {"train.jsonl": jsonl(), "held_out.jsonl": jsonl()},
    "splits of two kinds of training": {
        "data/train_sft-00000-of-00001.parquet": parquet(),
        "data/train_prefs-00000-of-00001.parquet": parquet(),
    },
    "a split and another file": {"train.jsonl": jsonl(), "more.jsonl": jsonl()},
    "configurations": {"en/train-0.jsonl": jsonl(), "fr/train-0.jsonl": jsonl()},
    "configurations with splits": {
        "en/train.jsonl": jsonl(),
        "en/test.jsonl": jsonl(),
        "fr/train.jsonl": jsonl(),
    },
    "kinds of files": {"a-1.jsonl": jsonl(), "a-1.parquet": parquet(), "a-2.jsonl": jsonl()},
    "odd names": {"train [1]/a b.jsonl": jsonl(), "train [1]/a c.jsonl": jsonl(), "d/t.jsonl": b""},
}


@pytest.mark.parametrize("several", SEVERAL)
def test_several_data_sets_are_refused_and_what_to_give_works(folder, several):
    """Every path or pattern that the error names is read, and together they name every file."""
    files = SEVERAL[several]
    root = folder(files)
    with pytest.raises(DataError, match="rows of several are not joined. Name one") as error:
        rows_of(root)
    given = [line.split("    (")[0] for line in str(error.value).splitlines()[1:]]
    assert len(given) >= 2
    found = set()
    for each in given:
        (path,) = shlex.split(each)
        with locate(path) as source:
            found |= set(map(str, source._parts().files))
    assert found == {str(root / name) for name in files}


def test_a_pattern_never_mixes_splits(folder):
    root = folder({"train.jsonl": jsonl(), "test.jsonl": jsonl(), "train-2.jsonl": jsonl()})
    with pytest.raises(DataError, match="2 splits, and rows of several are not joined"):
        rows_of(root / "*.jsonl")
    assert len(rows_of(root / "train*.jsonl")) == 14
    with pytest.raises(DataError, match="no file matches this pattern"):
        rows_of(root / "x*.jsonl")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a-00000-of-00003.jsonl", "a-00002-of-00003.jsonl"], "1 of 3 shards are missing: number"),
        (["data/train-00001-of-00002.jsonl"], "1 of 2 shards are missing: number 0"),
        (["a-0-of-2.jsonl", "a-1-of-2.jsonl", "a-2-of-3.jsonl"], "they are of two versions"),
        (["a-0-of-2-ab.jsonl", "a-0-of-2-cd.jsonl", "a-1-of-2-ab.jsonl"], "shard 0 is there twice"),
        (["a.jsonl", "a.jsonl.gz"], "packed and not packed"),
        (["notes.txt"], "this folder is no dataset"),
        ([], "this folder is no dataset"),
    ],
)
def test_folders_that_are_not_whole(folder, tmp_path, files, says):
    (tmp_path / "set").mkdir()
    root = folder({name: jsonl() for name in files})
    with pytest.raises(DataError, match=says) as error:
        rows_of(root)
    assert str(error.value).startswith(str(root))


@pytest.mark.filterwarnings("ignore::accord.errors.AccordWarning")
def test_one_shard_alone_says_that_it_is_one_of_several(folder):
    root = folder({f"train-0000{n}-of-00003.jsonl": jsonl() for n in range(3)})
    name = "train-00001-of-00003.jsonl"
    note = f"{name} is one of 3 shards; the others are not read; all: 'train-*-of-00003.jsonl'"
    with pytest.warns(AccordWarning, match="train-00001-of-00003.jsonl: train-.* is one of 3"):
        assert notes_of(root / name) == [note]
    assert read(root / name).ledger.notes[note] == 7
    assert notes_of(root / "train-0000[01]*") == [
        "read from 2 files, train-00000-of-00003.jsonl to train-00001-of-00003.jsonl",
        "2 of 3 shards are read; train-00002-of-00003.jsonl is not, for one",
    ]
    (root / "train-00000-of-00003.jsonl").unlink()
    with pytest.raises(DataError, match="shards are missing: number 0"):
        rows_of(root / "train-*")
    alone = folder({name: jsonl()}, "alone") / name
    assert notes_of(alone) == [f"{name} is one of 3 shards; the others are not in its folder"]
    assert notes_of(folder({"a.jsonl": jsonl(), "state-of-art.jsonl": b""}, "no") / "a.jsonl") == []


CARD = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: "prefs/*.jsonl"
%s---
# A set
"""


def test_a_card_says_which_files_are_the_data_set(folder):
    files = {"prefs/a.jsonl": jsonl(ONE), "prefs/b.jsonl": jsonl(TWO), "raw.jsonl": jsonl()}
    root = folder(files | {"README.md": (CARD % "").encode()})
    assert rows_of(root) == ROWS
    assert notes_of(root)[0] == "README.md names these files as default/train"
    two = CARD % "  - split: test\n    path: raw.jsonl\n"
    root = folder(files | {"README.md": two.encode()}, "two")
    with pytest.raises(DataError, match="lists 2 splits or configurations") as error:
        rows_of(root)
    assert f"'{root}/prefs/*.jsonl'    (default/train, 2 file(s))" in str(error.value)
    assert f"{root}/raw.jsonl    (default/test, 1 file(s))" in str(error.value)
    root = folder({"x.jsonl": jsonl(), "README.md": (CARD % "").encode()}, "none")
    with pytest.raises(DataError, match="none of them is there"):
        rows_of(root)


LABELS = """---
dataset_info:
  features:
  - name: label
    dtype:
      class_label:
        names:
          '0': desirable
          '1': undesirable
---
"""


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_card_says_what_the_numbers_of_labels_mean(folder, name):
    rows = [{"prompt": "q", "completion": "a", "label": n} for n in (0, 1)]
    text = b"prompt,completion,label\nq,a,0\nq,a,1\n"
    data = {"a.jsonl": jsonl(rows), "a.csv": text, "a.parquet": parquet(rows)}[name]
    found = rows_of(folder({name: data, "README.md": LABELS.encode()}))
    assert [row["label"] for row in found] == ["desirable", "undesirable"]
    other = folder({name: data.replace(b"1\n", b"7\n").replace(b": 1", b": 7")}, "plain")
    assert next(str(row["label"]) for row in rows_of(other)) == "0"


@pytest.mark.parametrize("head", ["configs: [", "configs: 3", "- 1", "a: &a [x]\nb: *a", "\0", ""])
def test_cards_that_say_nothing(folder, head):
    root = folder({"a.jsonl": jsonl(), "README.md": f"---\n{head}\n---\n".encode()})
    assert rows_of(root) == ROWS


def test_links_to_folders_are_not_followed(folder):
    root = folder({"a.jsonl": jsonl()})
    (root / "again").symlink_to(root)
    (root / "b.jsonl").symlink_to(root / "a.jsonl")  # as a hub's cache has its files
    assert rows_of(root) == ROWS + ROWS


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.integers(0, 3_000), min_size=1, max_size=12, unique=True),
    st.sampled_from(["{}.jsonl", "part-{}.jsonl", "train_{}.jsonl.gz", "data/x{}y.parquet"]),
    st.randoms(use_true_random=False),
)
def test_shards_stand_in_the_order_of_their_numbers(numbers, name, rng: random.Random):
    names = [name.format(number) for number in sorted(numbers)]
    mixed = rng.sample(names, len(names))
    assert shards.one_data_set(mixed, str, chosen=True) == names
    if name != "data/x{}y.parquet":
        assert shards.one_data_set(mixed, str) == names


@pytest.mark.parametrize(
    ("name", "split", "folder"),
    [
        ("data/train-00000-of-00002.parquet", "train", ""),
        ("data/test_prefs-00000-of-00001.parquet", "test_prefs", ""),
        ("train/0001.jsonl.gz", "train", ""),
        ("en/validation.csv", "validation", "en"),
        ("held_out.jsonl", "held_out", ""),
        ("latest.jsonl", "", ""),
        ("constrained-1.jsonl", "", ""),
        ("my-set/my-train-set_2.jsonl", "my-train-set", "my-set"),
    ],
)
def test_names_of_splits(name, split, folder):
    file = shards.describe(name)
    assert (file.split, file.folder) == (split, folder)
