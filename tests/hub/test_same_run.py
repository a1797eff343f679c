"""One run from rows in memory, from a token store and from a hub: the same bytes."""

from pathlib import Path

import pytest
from conftest import pair_rows, write_rows
from hub.test_models import jsonl
from training.helpers import metrics, run

from accord.data.store import encode as store
from accord.data.store import folder

CHUNK = 16  # fewer than the training rows, more than the held-out ones
ROWS = 24


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_run_does_not_depend_on_where_its_rows_come_from(
    method, hub, tiny_folder, tmp_path, monkeypatch
):
    file = write_rows(tmp_path / "rows.jsonl", pair_rows(ROWS))
    test = write_rows(tmp_path / "test.jsonl", pair_rows(6, 50))
    hub.add("org/pairs", {"train.jsonl": jsonl(ROWS)}, "dataset")
    options = {"method": method, "held_out": test}
    runs = {"memory": run(tiny_folder, file, tmp_path / "memory", **options)}
    assert not folder.root().exists()
    monkeypatch.setattr(store, "CHUNK", CHUNK)
    for name, data in (("store", file), ("again", file), ("hub", "hub:org/pairs#train")):
        runs[name] = run(tiny_folder, data, tmp_path / name, **options)
    assert len([each for each in folder.root().iterdir() if each.is_dir()]) == 1
    first = runs.pop("memory")
    for name, other in runs.items():
        assert metrics(other) == metrics(first), name
        for each in ("adapter/adapter_model.safetensors", "trained_rows.safetensors"):
            assert (Path(other.folder) / each).read_bytes() == (
                Path(first.folder) / each
            ).read_bytes(), (name, each)
