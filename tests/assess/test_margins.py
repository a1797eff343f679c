"""`accord eval` of a run whose objective reads each row's margin: the column is read again."""

import math
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from conftest import pair_rows, write_rows
from training.helpers import json_lines, run

from accord.assess.answers import Drawing
from accord.assess.evaluation import Request, evaluate

NONE = Drawing(prompts=0)


def with_margins(rows: list[dict]) -> list[dict]:
    """Every third row has none: it counts as 0."""
    return [row | ({"margin": 0.5 + at % 4} if at % 3 else {}) for at, row in enumerate(rows)]


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A run of odpo; in the mixture the other part reads no margin."""
    folder = tmp_path_factory.mktemp("margins")
    train = write_rows(folder / "train.jsonl", with_margins(pair_rows(24)))
    held_out = write_rows(folder / "held.jsonl", with_margins(pair_rows(12, start=100)))
    made = {
        method: run(
            tiny_folder,
            train,
            folder / method,
            held_out=held_out,
            method=method,
            learning_rate=1e-2,
            set={f"objective.{option}": "column"},
        )
        for method, option in (("odpo", "margin"), ("odpo+0.1*sft", "odpo.margin"))
    }
    return made, held_out


def expected(margins: list[float], records) -> list[float]:
    """Compute the loss of each row from the rewards beside it: -log σ(βh - m)."""
    chosen, rejected = (records[f"rewards/{side}"].to_pylist() for side in ("chosen", "rejected"))
    return [
        math.log1p(math.exp(m - (w - l)))
        for m, w, l in zip(margins, chosen, rejected, strict=True)  # noqa: E741 - l as in the paper
    ]


@pytest.mark.parametrize("method", ["odpo", "odpo+0.1*sft"])
def test_margins_are_read_again(trained, method):
    result = trained[0][method]
    found, _ = evaluate(str(result.folder), Request(drawing=NONE))
    measured = found["pairs"]["metrics"]["eval_loss"]
    assert measured == pytest.approx(result.after["eval_loss"], rel=1e-4)
    assert not any("margin" in warning for warning in found["binding"]["warnings"])


def test_a_rows_loss_has_its_own_margin(trained):
    made, held_out = trained
    _, folder = evaluate(str(made["odpo"].folder), Request(drawing=NONE))
    records = parquet.read_table(folder / "examples.parquet")
    rows = json_lines(Path(held_out))
    margins = [rows[row].get("margin", 0.0) for row in records["row"].to_pylist()]
    assert records["loss"].to_pylist() == pytest.approx(expected(margins, records), rel=1e-4)


def test_another_file_without_margins_is_told(trained, tmp_path):
    """Its loss is another one, dpo's: the figures stand, with a warning."""
    other = write_rows(tmp_path / "other.jsonl", pair_rows(12, start=200))
    found, _ = evaluate(str(trained[0]["odpo"].folder), Request(other, drawing=NONE))
    warnings = " ".join(found["binding"]["warnings"])
    assert "no row has a margin, and odpo reads margins" in warnings
