"""The row that shows exchanged sides: the newest evaluation's furthest the wrong way round."""

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from accord.runs import held_out_rows
from accord.training.red_flags import with_worst_row
from accord.types import Finding

FLAG = Finding("flag.sides-exchanged", "warning", "held-out accuracy is 0.3", {"step": 4})


def write(folder, step, chosen, rejected):
    file = held_out_rows.file_of(folder, step)
    file.parent.mkdir(exist_ok=True)
    table = {
        "at": [f"held.jsonl:{n}" for n in range(1, len(chosen) + 1)],
        "rewards/chosen": pa.array(chosen, pa.float64()),
        "rewards/rejected": pa.array(rejected, pa.float64()),
    }
    parquet.write_table(pa.table(table), file)


def test_of_pairs_it_is_the_least_margin(tmp_path):
    write(tmp_path, 2, [-9.0, 0.0], [9.0, 0.0])
    write(tmp_path, 4, [0.5, -1.0, 0.0], [0.0, 2.0, 1.0])
    found = with_worst_row(FLAG, tmp_path)
    assert found.says.endswith("held.jsonl:2, margin (reward of chosen less rejected) -3.000")
    assert found.evidence["row"]["at"] == "held.jsonl:2" and found.evidence["step"] == 4
    assert found.evidence["row"]["value"] == pytest.approx(-3.0)


def test_of_labels_it_is_the_good_answer_of_least_reward(tmp_path):
    nan = float("nan")
    write(tmp_path, 4, [0.5, nan, -0.25], [nan, -7.0, nan])
    assert "held.jsonl:3, reward of a good answer -0.250" in with_worst_row(FLAG, tmp_path).says


def test_without_an_evaluation_the_flag_stays_as_it_was(tmp_path):
    assert with_worst_row(FLAG, tmp_path) is FLAG
